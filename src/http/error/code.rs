//! What can go wrong, as a closed list: each code with its status, its title, and whether it is worth
//! trying again.

use axum::http::StatusCode;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $status:literal $code:literal $title:literal $retryable:literal;)*) => {
        /// What went wrong, as a word that programs can compare.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum ErrorCode { $($(#[$doc])* $name,)* }

        impl ErrorCode {
            /// Every code there is.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            const fn row(self) -> (u16, &'static str, &'static str, bool) {
                match self { $(Self::$name => ($status, $code, $title, $retryable),)* }
            }
        }
    };
}

codes! {
    /// The request makes no sense as it is.
    InvalidRequest = 400 "invalid-request" "The request is invalid" false;
    /// Something that should be an entry id or a position is none.
    InvalidId = 400 "invalid-id" "This is not an entry id" false;
    /// A stream, group or consumer cannot have this name.
    InvalidName = 400 "invalid-name" "This cannot be a name" false;
    /// A query parameter that is not known here.
    UnknownParameter = 400 "unknown-parameter" "There is no such parameter" false;
    /// Nobody knows who is asking.
    Unauthenticated = 401 "unauthenticated" "Say who you are" false;
    /// The caller may not do this.
    Forbidden = 403 "forbidden" "This is not allowed" false;
    /// A web page of an origin that is not listed.
    OriginNotAllowed = 403 "origin-not-allowed" "This origin is not allowed" false;
    /// No such route.
    RouteNotFound = 404 "route-not-found" "There is nothing here" false;
    /// No such stream.
    StreamNotFound = 404 "stream-not-found" "There is no such stream" false;
    /// No such group.
    GroupNotFound = 404 "group-not-found" "There is no such consumer group" false;
    /// No such consumer.
    ConsumerNotFound = 404 "consumer-not-found" "There is no such consumer" false;
    /// No such entry.
    EntryNotFound = 404 "entry-not-found" "There is no such entry" false;
    /// The route is there, the method is not.
    MethodNotAllowed = 405 "method-not-allowed" "The method is not allowed here" false;
    /// Nothing of what the client accepts can be produced.
    NotAcceptable = 406 "not-acceptable" "The answer cannot have this type" false;
    /// The id is not above the last one.
    IdNotMonotonic = 409 "id-not-monotonic" "The id is not above the last one" false;
    /// The key holds something else.
    NotAStream = 409 "not-a-stream" "The key holds something that is no stream" false;
    /// A consumer that has entries pending.
    ConsumerHasPending = 409 "consumer-has-pending" "The consumer has entries pending" false;
    /// A plain group, where a policy is needed.
    GroupHasNoPolicy = 409 "group-has-no-policy" "The group has no policy" false;
    /// Entries after the position are gone.
    EntriesTrimmed = 410 "entries-trimmed" "Entries after this position are gone" false;
    /// A condition of the request does not hold.
    PreconditionFailed = 412 "precondition-failed" "The condition does not hold" false;
    /// More than is taken.
    TooLarge = 413 "too-large" "The body is too large" false;
    /// This type of body is not taken here.
    UnsupportedMediaType = 415 "unsupported-media-type" "This type of body is not taken here" false;
    /// The target of the request is longer than the server takes.
    UriTooLong = 414 "uri-too-long" "URI too long" false;
    /// The head of the request is larger than the server takes.
    HeadTooLarge = 431 "head-too-large" "Request header fields too large" false;
    /// The body is no entry.
    InvalidFields = 422 "invalid-fields" "These cannot be the fields of an entry" false;
    /// What cannot be appended later.
    InvalidDelay = 422 "invalid-delay" "This cannot be appended later" false;
    /// The policy breaks a rule.
    InvalidPolicy = 422 "invalid-policy" "This cannot be the policy of a group" false;
    /// The retention breaks a rule.
    InvalidRetention = 422 "invalid-retention" "This cannot be the retention of a stream" false;
    /// More streams than one call may name.
    TooManyStreams = 422 "too-many-streams" "These are too many streams for one call" false;
    /// The key was used for something else.
    IdempotencyKeyReused = 422 "idempotency-key-reused" "This key was used for something else" false;
    /// More requests than may come in a time.
    RateLimited = 429 "rate-limited" "These are too many requests" true;
    /// More connections than one client may have.
    TooManyConnections = 429 "too-many-connections" "These are too many connections" true;
    /// A fault of ours.
    Internal = 500 "internal" "Something went wrong here" false;
    /// The Redis server is too old.
    NotSupportedByServer = 501 "not-supported-by-server" "The Redis server cannot do this" false;
    /// Redis is away.
    RedisUnavailable = 503 "redis-unavailable" "Redis cannot be reached" true;
    /// Redis is reading its data.
    RedisLoading = 503 "redis-loading" "Redis is loading its data" true;
    /// Redis takes no writes.
    RedisReadOnly = 503 "redis-read-only" "Redis takes no writes" true;
    /// Redis is full.
    RedisOutOfMemory = 503 "redis-out-of-memory" "Redis is out of memory" true;
    /// It cannot be told who is asking.
    AuthUnavailable = 503 "auth-unavailable" "It cannot be told who is asking" true;
    /// A bound of the gateway is met.
    Overloaded = 503 "overloaded" "The gateway has more to do than it may" true;
    /// The gateway stops.
    Draining = 503 "draining" "The gateway is stopping" true;
    /// Redis did not answer in time.
    RedisTimeout = 504 "redis-timeout" "Redis did not answer in time" true;
    /// Replicas or the disk did not have it in time.
    DurabilityNotReached = 504 "durability-not-reached" "The entry is there, but not yet as safe as was asked" true;
}

impl ErrorCode {
    /// The word itself.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.row().1
    }

    /// The status that goes with it.
    #[must_use]
    pub fn status(self) -> StatusCode {
        StatusCode::from_u16(self.row().0).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// What it says in general.
    #[must_use]
    pub const fn title(self) -> &'static str {
        self.row().2
    }

    /// Whether the same request may succeed later.
    #[must_use]
    pub const fn retryable(self) -> bool {
        self.row().3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_kebab_case_and_unlike_each_other() {
        let mut words: Vec<_> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        assert!(
            words
                .iter()
                .all(|word| word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'))
        );
        words.sort_unstable();
        assert!(words.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
