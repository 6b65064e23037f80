//! Failures of Redis, by meaning. No HTTP here, and no Redis text leaves this module except inside the
//! `String`s, which are for the log. The replies of servers and their meanings are in `replies.rs`.

use deadpool::managed::{PoolError, TimeoutType};
use deadpool_redis::redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::redis::replies;

/// A failed call to Redis.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// No connection could be made: nothing was sent.
    #[error("Redis cannot be reached: {0}")]
    Unreachable(String),
    /// The connection broke under the command, which may or may not have run.
    #[error("the connection to Redis broke: {0}")]
    Broken(String),
    /// No answer within the time-out; the command may still run.
    #[error("Redis did not answer in time")]
    Timeout,
    /// Every connection that may be opened is in use.
    #[error("all {0} Redis connections are in use")]
    Exhausted(&'static str),
    /// All connections for durable writes wait for replicas that are not there.
    #[error("durable writes wait for {wanted} replicas, and {there} keep up")]
    FewReplicas {
        /// Replicas that were asked for.
        wanted: u32,
        /// Replicas that keep up.
        there: u32,
    },
    /// Other large reads take all the room there is for them.
    #[error("there was no room for a large read in time")]
    Crowded,
    /// Redis is reading its data from disk.
    #[error("Redis is loading its data")]
    Loading,
    /// Redis runs a script of another client that takes long, and nothing else.
    #[error("Redis is busy with a script of another client")]
    Busy,
    /// Somebody killed the script, which had written nothing.
    #[error("the script was killed: {0}")]
    Killed(String),
    /// The server is a replica.
    #[error("Redis is a read-only replica: {0}")]
    ReadOnly(String),
    /// A master that takes no writes now: it cannot save, or has too few replicas.
    #[error("Redis takes no writes: {0}")]
    NotWriting(String),
    /// The server serves no key now: a replica without its master, or a cluster that is down.
    #[error("Redis serves no keys: {0}")]
    NotServing(String),
    /// A node of a cluster that does not serve these keys, or not all of them.
    #[error("this Redis node does not serve the keys: {0}")]
    Elsewhere(String),
    /// The connection is not authenticated, or its password is no longer right.
    #[error("Redis does not accept the login of the gateway: {0}")]
    LoggedOut(String),
    /// `maxmemory` is reached.
    #[error("Redis is out of memory")]
    OutOfMemory,
    /// The ACL of the gateway's Redis user forbids the command.
    #[error("Redis denies this to the gateway: {0}")]
    Denied(String),
    /// The key holds something else.
    #[error("the key holds no stream")]
    NotAStream,
    /// There is no such key.
    #[error("no such stream")]
    StreamNotFound,
    /// There is no such consumer group (or no such stream).
    #[error("no such consumer group")]
    GroupNotFound,
    /// Numbers that cannot be true of this stream.
    #[error("the numbers contradict the stream: {0}")]
    Contradiction(String),
    /// A consumer that still has entries pending.
    #[error("the consumer has entries pending")]
    ConsumerHasPending,
    /// A plain group, of which only a group with a policy knows what to do.
    #[error("the consumer group has no policy")]
    GroupHasNoPolicy,
    /// What should take the dead letters of a group is no stream.
    #[error("the dead-letter key holds no stream")]
    DeadLetterNotAStream,
    /// What was to be changed had been changed meanwhile.
    #[error("it was changed by someone else")]
    Changed,
    /// The policy of the group was given to another one of its name, so nothing was done.
    #[error("the group was made anew by another client")]
    OtherLife,
    /// The server does not have the script, so nothing ran.
    #[error("the server does not have the script")]
    NoScript,
    /// There is no such consumer.
    #[error("no such consumer")]
    ConsumerNotFound,
    /// This server is too old for what was asked of it.
    #[error("the server does not know this: {0}")]
    NotSupported(String),
    /// XGROUP CREATE of a group that is there.
    #[error("the consumer group exists")]
    GroupExists,
    /// XADD with an id not above the last one.
    #[error("the id is not above the last one")]
    IdNotMonotonic,
    /// The stream has had the greatest id there is.
    #[error("the stream has no id left")]
    IdsExhausted,
    /// XADD with the id `0-0`.
    #[error("0-0 is not the id of an entry")]
    IdZero,
    /// An answer nobody planned for.
    #[error("Redis answered unexpectedly: {0}")]
    Unexpected(String),
    /// A passing failure after other commands of the same call had run.
    #[error("{0}; other commands of the call had run")]
    AfterOthers(Box<Self>),
}

impl StoreError {
    /// Whether the connection the command went over is of no further use.
    #[must_use]
    pub const fn breaks_connection(&self) -> bool {
        matches!(self, Self::Broken(_) | Self::LoggedOut(_))
    }

    /// Whether Redis as a whole is out of reach for now, as opposed to refusing this one thing.
    #[must_use]
    pub const fn is_outage(&self) -> bool {
        matches!(
            self,
            Self::Unreachable(_)
                | Self::Broken(_)
                | Self::Timeout
                | Self::Exhausted(_)
                | Self::Crowded
                | Self::Loading
                | Self::Busy
                | Self::NotServing(_)
                | Self::LoggedOut(_)
        )
    }

    /// Whether Redis takes no writes for now, of any stream.
    #[must_use]
    pub const fn is_outage_for_writes(&self) -> bool {
        self.is_outage()
            || matches!(
                self,
                Self::ReadOnly(_) | Self::NotWriting(_) | Self::OutOfMemory
            )
    }

    /// Whether the same call may succeed later without anything being changed by the caller. A
    /// long-lived reader waits until a passing failure is over; any other failure ends the reader.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        self.is_outage_for_writes()
            || matches!(
                self,
                Self::FewReplicas { .. }
                    | Self::Killed(_)
                    | Self::Elsewhere(_)
                    | Self::Denied(_)
                    | Self::AfterOthers(_)
            )
    }

    /// The cause alone, for a line that says already that Redis cannot be reached.
    #[must_use]
    pub fn cause(&self) -> String {
        match self {
            Self::Unreachable(cause) => cause.clone(),
            other => other.to_string(),
        }
    }

    /// The same failure of a call on a group: a group of a stream that is not there is not there.
    #[must_use]
    pub fn of_group(self) -> Self {
        match self {
            Self::StreamNotFound => Self::GroupNotFound,
            other => other,
        }
    }

    /// Whether it is certain that the command changed nothing.
    #[must_use]
    pub fn ran_nothing(&self) -> bool {
        match self {
            Self::Broken(_) | Self::Timeout | Self::Unexpected(_) | Self::AfterOthers(_) => false,
            // A script may have written before the command that it may not run.
            Self::Denied(text) => !replies::is_from_script(text),
            _ => true,
        }
    }
}

impl From<RedisError> for StoreError {
    fn from(error: RedisError) -> Self {
        if error.is_timeout() {
            return Self::Timeout;
        }
        let text = error.to_string();
        let aborted = error.kind() == ErrorKind::Server(ServerErrorKind::ExecAbort);
        match error.kind() {
            ErrorKind::Io | ErrorKind::Parse => return Self::Broken(text),
            ErrorKind::AuthenticationFailed => return Self::Unreachable(text),
            _ => {}
        }
        let replies = error.into_server_errors();
        let Some((index, first)) = replies.as_deref().and_then(<[_]>::first) else {
            return Self::Unexpected(text);
        };
        let error = replies::meaning(first, text);
        // What came before in the pipeline was not refused.
        match *index > 0 && !aborted && error.is_passing() {
            true => Self::AfterOthers(Box::new(error)),
            false => error,
        }
    }
}

/// For making connections: whatever fails there, nothing was sent.
pub(super) fn from_pool(error: PoolError<StoreError>, which: &'static str) -> StoreError {
    match error {
        PoolError::Timeout(TimeoutType::Wait) => StoreError::Exhausted(which),
        PoolError::Timeout(_) => StoreError::Unreachable("connecting took too long".to_owned()),
        PoolError::Backend(error) => error,
        PoolError::Closed => StoreError::Unreachable("the pool is closed".to_owned()),
        PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_) => {
            StoreError::Unexpected("the pool is set up wrongly".to_owned())
        }
    }
}
