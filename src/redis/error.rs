//! Redis failures, by meaning. This module knows nothing of HTTP. The texts of Redis appear only in
//! the `String`s of the errors, which are for the log. `replies.rs` maps replies to meanings.

use deadpool::managed::{PoolError, TimeoutType};

use crate::redis::cluster::redirect::Redirect;
use crate::shares::ShareExceeded;

/// A failed call to Redis.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// No connection could be opened; nothing was sent.
    #[error("cannot reach Redis: {0}")]
    Unreachable(String),
    /// The connection broke during the command, which may or may not have run.
    #[error("the connection to Redis broke: {0}")]
    Broken(String),
    /// No reply within the timeout; the command may still run.
    #[error("Redis did not answer in time")]
    Timeout,
    /// All connections of a pool are in use.
    #[error("all {0} Redis connections are in use")]
    Exhausted(&'static str),
    /// All connections for durable writes wait for replicas that are missing or lag behind.
    #[error("durable writes wait for {wanted} replicas, but only {there} keep up")]
    FewReplicas {
        /// Number of replicas requested.
        wanted: u32,
        /// Number of replicas that keep up.
        there: u32,
    },
    /// Other large reads use the whole read budget.
    #[error("timed out waiting for the budget for a large read")]
    Crowded,
    /// The caller uses its share of the connections or of the read budget.
    #[error("{0}")]
    ShareExceeded(ShareExceeded),
    /// Redis is reading its data from disk.
    #[error("Redis is loading its data")]
    Loading,
    /// Redis is blocked by a long-running script of another client.
    #[error("Redis is busy with a script of another client")]
    Busy,
    /// The script was killed before it had written anything.
    #[error("the script was killed: {0}")]
    Killed(String),
    /// The server is a replica.
    #[error("Redis is a read-only replica: {0}")]
    ReadOnly(String),
    /// The server is a master that rejects writes for now: it cannot save, or has too few replicas.
    #[error("Redis rejects writes: {0}")]
    NotWriting(String),
    /// The server serves no keys for now: a replica without its master, or a cluster that is down.
    #[error("Redis serves no keys: {0}")]
    NotServing(String),
    /// The server is a cluster node that does not serve the key now; nothing ran.
    #[error("this Redis node does not serve the key: {0}")]
    Elsewhere(Redirect),
    /// The connection is not authenticated, or its password is no longer valid.
    #[error("Redis rejects the gateway's login: {0}")]
    LoggedOut(String),
    /// `maxmemory` is reached.
    #[error("Redis is out of memory")]
    OutOfMemory,
    /// The ACL of the gateway's Redis user forbids the command.
    #[error("Redis denies the command to the gateway's user: {0}")]
    Denied(String),
    /// The key holds another type.
    #[error("the key does not hold a stream")]
    NotAStream,
    /// The stream does not exist.
    #[error("no such stream")]
    StreamNotFound,
    /// The consumer group, or its stream, does not exist.
    #[error("no such consumer group")]
    GroupNotFound,
    /// Counters that are impossible for this stream.
    #[error("the counters contradict the stream: {0}")]
    Contradiction(String),
    /// The consumer still has pending entries.
    #[error("the consumer has pending entries")]
    ConsumerHasPending,
    /// The call needs a group with a policy, but the group is plain.
    #[error("the consumer group has no policy")]
    GroupHasNoPolicy,
    /// The call is not possible in a group with an order by key.
    #[error("the consumer group has an order by key")]
    GroupIsOrdered,
    /// The call needs a group with an order by key.
    #[error("the consumer group has no order by key")]
    GroupIsUnordered,
    /// The dead-letter key of the group holds another type.
    #[error("the dead-letter key does not hold a stream")]
    DeadLetterNotAStream,
    /// The object was changed concurrently.
    #[error("another caller changed it at the same time")]
    Changed,
    /// The policy was set on an earlier group of the same name, so nothing was done.
    #[error("another client deleted and recreated the group")]
    OtherLife,
    /// The policy names another dead-letter stream than the one that the script got as a key.
    #[error("the group has another dead-letter stream: {0}")]
    OtherDeadLetter(String),
    /// The script is not in the server's cache, so nothing ran.
    #[error("the server does not have the script")]
    NoScript,
    /// The consumer does not exist.
    #[error("no such consumer")]
    ConsumerNotFound,
    /// The server is too old for the command.
    #[error("the server does not support the command: {0}")]
    NotSupported(String),
    /// XGROUP CREATE of a group that exists.
    #[error("the consumer group already exists")]
    GroupExists,
    /// XADD with an id that is not greater than the last id.
    #[error("the id is not greater than the last id")]
    IdNotMonotonic,
    /// The stream has used the greatest possible id.
    #[error("the stream has no ids left")]
    IdsExhausted,
    /// XADD with the id `0-0`.
    #[error("0-0 is not a valid entry id")]
    IdZero,
    /// A reply that the gateway does not understand.
    #[error("unexpected reply from Redis: {0}")]
    Unexpected(String),
    /// A transient failure after other commands of the same call had run.
    #[error("{0}; other commands of the call had already run")]
    AfterOthers(Box<Self>),
}

impl StoreError {
    /// Returns whether the connection of the command is unusable.
    #[must_use]
    pub const fn breaks_connection(&self) -> bool {
        matches!(self, Self::Broken(_) | Self::LoggedOut(_))
    }

    /// Returns whether Redis as a whole is unavailable for now, as opposed to rejecting this one
    /// command.
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

    /// Returns whether Redis rejects writes to all streams for now.
    #[must_use]
    pub const fn is_outage_for_writes(&self) -> bool {
        self.is_outage()
            || matches!(
                self,
                Self::ReadOnly(_) | Self::NotWriting(_) | Self::OutOfMemory
            )
    }

    /// Returns whether the failure is transient: the same call may succeed later without any change
    /// by the caller. A long-lived reader waits until a transient failure is over; any other
    /// failure ends the reader.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        self.is_outage_for_writes()
            || matches!(
                self,
                Self::FewReplicas { .. }
                    | Self::ShareExceeded(_)
                    | Self::Killed(_)
                    | Self::Elsewhere(_)
                    | Self::Denied(_)
                    | Self::AfterOthers(_)
            )
    }

    /// Returns the cause alone, for a message that already says that Redis is unreachable.
    #[must_use]
    pub fn cause(&self) -> String {
        match self {
            Self::Unreachable(cause) => cause.clone(),
            other => other.to_string(),
        }
    }

    /// Converts the failure for a call on a group: a missing stream means a missing group.
    #[must_use]
    pub fn of_group(self) -> Self {
        match self {
            Self::StreamNotFound => Self::GroupNotFound,
            other => other,
        }
    }

    /// Returns whether the command certainly changed nothing.
    #[must_use]
    pub fn ran_nothing(&self) -> bool {
        match self {
            Self::Broken(_) | Self::Timeout | Self::Unexpected(_) | Self::AfterOthers(_) => false,
            // A script may have written before the command that was denied.
            Self::Denied(text) => !is_from_script(text),
            _ => true,
        }
    }
}

/// Converts an error of opening a connection, before which nothing was sent.
pub(super) fn from_pool(error: PoolError<StoreError>, which: &'static str) -> StoreError {
    match error {
        PoolError::Timeout(TimeoutType::Wait) => StoreError::Exhausted(which),
        PoolError::Timeout(_) => StoreError::Unreachable("connecting timed out".to_owned()),
        PoolError::Backend(error) => error,
        PoolError::Closed => StoreError::Unreachable("the pool is closed".to_owned()),
        PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_) => {
            StoreError::Unexpected("the connection pool is misconfigured".to_owned())
        }
    }
}

/// Returns whether an error occurred inside a script.
fn is_from_script(text: &str) -> bool {
    ["user_script", "executing the script", "in script"]
        .iter()
        .any(|part| text.contains(part))
}
