//! What can go wrong with Redis, by meaning. No HTTP here, and no Redis text beyond this room
//! except inside the `String`s, which are for the log.

use deadpool_redis::PoolError;
use deadpool_redis::redis::{ErrorKind, RedisError, ServerError};

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
    /// Other large reads take all the room there is for them.
    #[error("there was no room for a large read in time")]
    Crowded,
    /// Redis is reading its data from disk.
    #[error("Redis is loading its data")]
    Loading,
    /// A replica, or a server that may not write now.
    #[error("Redis takes no writes: {0}")]
    ReadOnly(String),
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
    /// XADD with the id `0-0`.
    #[error("0-0 is not the id of an entry")]
    IdZero,
    /// An answer nobody planned for.
    #[error("Redis answered unexpectedly: {0}")]
    Unexpected(String),
}

impl StoreError {
    /// Whether the connection the command went over is of no further use.
    #[must_use]
    pub fn breaks_connection(&self) -> bool {
        matches!(self, Self::Broken(_))
    }

    /// Whether Redis as a whole is out of reach for now, as opposed to refusing this one thing.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        matches!(
            self,
            Self::Unreachable(_)
                | Self::Broken(_)
                | Self::Timeout
                | Self::Exhausted(_)
                | Self::Crowded
                | Self::Loading
        )
    }
}

impl From<RedisError> for StoreError {
    fn from(error: RedisError) -> Self {
        if error.is_timeout() {
            return Self::Timeout;
        }
        let text = error.to_string();
        match error.kind() {
            ErrorKind::Io | ErrorKind::Parse => return Self::Broken(text),
            ErrorKind::AuthenticationFailed => return Self::Unreachable(text),
            _ => {}
        }
        match error.into_server_errors().as_deref() {
            Some([(_, first), ..]) => from_server(first, text),
            _ => Self::Unexpected(text),
        }
    }
}

/// By code where Redis has one for the case, by the unchanging part of the text where all is `ERR`.
fn from_server(error: &ServerError, text: String) -> StoreError {
    let detail = error.details().unwrap_or_default();
    match code(error, detail) {
        "WRONGTYPE" => StoreError::NotAStream,
        "NOGROUP" => StoreError::GroupNotFound,
        "BUSYGROUP" => StoreError::GroupExists,
        "OOM" => StoreError::OutOfMemory,
        "LOADING" => StoreError::Loading,
        "READONLY" | "MISCONF" | "NOREPLICAS" => StoreError::ReadOnly(text),
        "NOPERM" => StoreError::Denied(text),
        "NOAUTH" | "WRONGPASS" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" => {
            StoreError::Unreachable(text)
        }
        "CONSUMERPENDING" => StoreError::ConsumerHasPending,
        "NOPOLICY" => StoreError::GroupHasNoPolicy,
        "DEADLETTER" => StoreError::DeadLetterNotAStream,
        "CHANGED" => StoreError::Changed,
        "NOSCRIPT" => StoreError::NoScript,
        "NOCONSUMER" => StoreError::ConsumerNotFound,
        _ if detail.contains("XSETID") && !detail.contains("top item") => {
            StoreError::Contradiction(text)
        }
        _ if detail.contains("equal or smaller")
            || detail.contains("smaller than the target stream top item")
            || detail.contains("exhausted the last possible") =>
        {
            StoreError::IdNotMonotonic
        }
        _ if detail.contains("must be greater than 0-0") => StoreError::IdZero,
        _ if detail.contains("no such key") || detail.contains("requires the key to exist") => {
            StoreError::StreamNotFound
        }
        // Inside of a script it comes without a code of its own.
        _ if detail.contains("user executing the script can't") => StoreError::Denied(text),
        // What we send is well formed, so it is the server that does not know it.
        _ if [
            "Invalid stream ID",
            "syntax error",
            "unknown command",
            "nknown subcommand",
            "wrong number of arguments",
        ]
        .iter()
        .any(|known| detail.contains(known)) =>
        {
            StoreError::NotSupported(text)
        }
        _ => StoreError::Unexpected(text),
    }
}

/// Before Redis 7.0 an error inside a script comes as `ERR`, with its own code in the text.
fn code<'a>(error: &'a ServerError, detail: &str) -> &'a str {
    let nested = ["WRONGTYPE ", "NOGROUP ", "OOM ", "READONLY "];
    let found =
        nested.iter().find(|code| detail.contains("user_script") && detail.contains(**code));
    found.map_or(error.code(), |code| code.trim_end())
}

/// For making connections: whatever fails there, nothing was sent.
pub(super) fn from_pool(error: PoolError, which: &'static str) -> StoreError {
    match error {
        PoolError::Timeout(deadpool_redis::TimeoutType::Wait) => StoreError::Exhausted(which),
        PoolError::Timeout(_) => StoreError::Unreachable("connecting took too long".to_owned()),
        PoolError::Backend(error) => match StoreError::from(error) {
            StoreError::Loading => StoreError::Loading,
            error => StoreError::Unreachable(error.to_string()),
        },
        PoolError::Closed => StoreError::Unreachable("the pool is closed".to_owned()),
        PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_) => {
            StoreError::Unexpected("the pool is set up wrongly".to_owned())
        }
    }
}
