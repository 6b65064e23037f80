//! Error codes as a closed list. Each code has a status, a title and a flag for retryable errors.

use axum::http::StatusCode;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $status:literal $code:literal $title:literal $retryable:literal;)*) => {
        /// A stable error code for programs.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum ErrorCode { $($(#[$doc])* $name,)* }

        impl ErrorCode {
            /// All codes.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            const fn row(self) -> (u16, &'static str, &'static str, bool) {
                match self { $(Self::$name => ($status, $code, $title, $retryable),)* }
            }
        }
    };
}

codes! {
    /// A malformed or contradictory request.
    InvalidRequest = 400 "invalid-request" "Invalid request" false;
    /// A text that is not an entry id or a position.
    InvalidId = 400 "invalid-id" "Invalid entry id" false;
    /// An invalid name of a stream, group or consumer.
    InvalidName = 400 "invalid-name" "Invalid name" false;
    /// A query parameter that the route does not have.
    UnknownParameter = 400 "unknown-parameter" "Unknown parameter" false;
    /// Missing or invalid credentials.
    Unauthenticated = 401 "unauthenticated" "Authentication required" false;
    /// A caller without the required right.
    Forbidden = 403 "forbidden" "Permission denied" false;
    /// A browser request from an origin that is not listed.
    OriginNotAllowed = 403 "origin-not-allowed" "Origin not allowed" false;
    /// A path without a route.
    RouteNotFound = 404 "route-not-found" "Not found" false;
    /// A stream that does not exist.
    StreamNotFound = 404 "stream-not-found" "Stream not found" false;
    /// A group that does not exist.
    GroupNotFound = 404 "group-not-found" "Consumer group not found" false;
    /// A consumer that does not exist.
    ConsumerNotFound = 404 "consumer-not-found" "Consumer not found" false;
    /// An entry that does not exist.
    EntryNotFound = 404 "entry-not-found" "Entry not found" false;
    /// A key of an ordered group without unfinished entries.
    KeyNotFound = 404 "key-not-found" "Key not found" false;
    /// A method that the route does not have.
    MethodNotAllowed = 405 "method-not-allowed" "Method not allowed" false;
    /// An `Accept` header that matches no available media type.
    NotAcceptable = 406 "not-acceptable" "Not acceptable" false;
    /// An id that is not greater than the last one.
    IdNotMonotonic = 409 "id-not-monotonic" "Entry id not greater than the last one" false;
    /// A key that holds another type.
    NotAStream = 409 "not-a-stream" "Key is not a stream" false;
    /// A consumer with pending entries.
    ConsumerHasPending = 409 "consumer-has-pending" "Consumer has pending entries" false;
    /// A group without a policy where a policy is required.
    GroupHasNoPolicy = 409 "group-has-no-policy" "Group has no policy" false;
    /// A call that a group with an order by key does not have.
    GroupIsOrdered = 409 "group-is-ordered" "Group has an order by key" false;
    /// A group without an order by key where one is required.
    GroupIsUnordered = 409 "group-is-unordered" "Group has no order by key" false;
    /// A lease that ended before a step that needs it.
    LeaseLost = 409 "lease-lost" "Lease lost" false;
    /// A position after which entries were trimmed.
    EntriesTrimmed = 410 "entries-trimmed" "Entries trimmed" false;
    /// A condition of the request that does not hold.
    PreconditionFailed = 412 "precondition-failed" "Precondition failed" false;
    /// Content over a size limit.
    TooLarge = 413 "too-large" "Content too large" false;
    /// A media type that the route does not support.
    UnsupportedMediaType = 415 "unsupported-media-type" "Unsupported media type" false;
    /// A request target over the length limit.
    UriTooLong = 414 "uri-too-long" "URI too long" false;
    /// A request head over the size limit.
    HeadTooLarge = 431 "head-too-large" "Request header fields too large" false;
    /// A body that is not a valid entry.
    InvalidFields = 422 "invalid-fields" "Invalid entry fields" false;
    /// An append that cannot be delayed.
    InvalidDelay = 422 "invalid-delay" "Invalid delay" false;
    /// A stream that cannot be written in the same step.
    OtherSlot = 422 "other-slot" "Stream in another slot" false;
    /// A group policy that violates a rule.
    InvalidPolicy = 422 "invalid-policy" "Invalid group policy" false;
    /// A stream retention that violates a rule.
    InvalidRetention = 422 "invalid-retention" "Invalid stream retention" false;
    /// More streams than one request may name.
    TooManyStreams = 422 "too-many-streams" "Too many streams" false;
    /// An idempotency key that was already used for other content.
    IdempotencyKeyReused = 422 "idempotency-key-reused" "Idempotency key reused" false;
    /// A request over a rate limit.
    RateLimited = 429 "rate-limited" "Too many requests" true;
    /// A connection over the limit of a client.
    TooManyConnections = 429 "too-many-connections" "Too many connections" true;
    /// A caller that uses its share of a limit.
    ShareExceeded = 429 "share-exceeded" "Share of a limit used up" true;
    /// A fault of the gateway.
    Internal = 500 "internal" "Internal error" false;
    /// A feature that the Redis server does not have.
    NotSupportedByServer = 501 "not-supported-by-server" "Not supported by the Redis server" false;
    /// No connection to Redis.
    RedisUnavailable = 503 "redis-unavailable" "Redis unavailable" true;
    /// A Redis server that is loading its data.
    RedisLoading = 503 "redis-loading" "Redis loading" true;
    /// A Redis server that accepts no writes.
    RedisReadOnly = 503 "redis-read-only" "Redis read-only" true;
    /// A Redis server at its memory limit.
    RedisOutOfMemory = 503 "redis-out-of-memory" "Redis out of memory" true;
    /// Credentials that the gateway cannot verify now.
    AuthUnavailable = 503 "auth-unavailable" "Authentication unavailable" true;
    /// A limit of the gateway that is reached.
    Overloaded = 503 "overloaded" "Gateway overloaded" true;
    /// A gateway that is shutting down.
    Draining = 503 "draining" "Gateway shutting down" true;
    /// No reply from Redis within the timeout.
    RedisTimeout = 504 "redis-timeout" "Redis timeout" true;
    /// Requested durability that was not reached within the timeout.
    DurabilityNotReached = 504 "durability-not-reached" "Durability not reached" true;
}

impl ErrorCode {
    /// Returns the code as sent to clients.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.row().1
    }

    /// Returns the HTTP status of the code.
    #[must_use]
    pub fn status(self) -> StatusCode {
        StatusCode::from_u16(self.row().0).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Returns the title of the code.
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
