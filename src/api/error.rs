//! Every error a client can see: a closed list of codes, answered as RFC 9457 problems.
//!
//! No text of Redis, of a panic or of the file system leaves through here: details are written for
//! the caller, the cause goes to the log.

use std::borrow::Cow;
use std::sync::Arc;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::model::name::StreamName;
use crate::store::StoreError;

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

/// One place in the body that is wrong.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct FieldError {
    /// RFC 6901 pointer into the body, or the name of a parameter.
    pub pointer: String,
    /// What is wrong there.
    pub detail: String,
}

/// An error on its way to the client.
#[derive(Clone, Debug)]
pub struct ApiError {
    /// What went wrong.
    pub code: ErrorCode,
    /// In this very case, for the caller.
    pub detail: Cow<'static, str>,
    /// Places in the body.
    pub errors: Vec<FieldError>,
    /// The command may have run although it failed.
    pub side_effects_unknown: bool,
    /// Members that belong to one code alone.
    pub extra: serde_json::Map<String, serde_json::Value>,
    /// For the log alone.
    pub cause: Option<Arc<StoreError>>,
}

impl ApiError {
    /// An error with its detail.
    #[must_use]
    pub fn new(code: ErrorCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            detail: detail.into(),
            errors: Vec::new(),
            side_effects_unknown: false,
            extra: serde_json::Map::new(),
            cause: None,
        }
    }

    /// 400 for a request that makes no sense.
    #[must_use]
    pub fn invalid(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::InvalidRequest, detail)
    }

    /// Points at a place in the body, or names a parameter.
    #[must_use]
    pub fn at(mut self, pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        self.errors.push(FieldError { pointer: pointer.into(), detail: detail.into() });
        self
    }

    /// Adds a member to the problem.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<serde_json::Value>) -> Self {
        self.extra.insert(name.to_owned(), value.into());
        self
    }

    /// For a call on several streams: says of which this is true.
    #[must_use]
    pub fn in_stream(mut self, stream: &StreamName) -> Self {
        self.detail = format!("`{stream}`: {}", self.detail).into();
        self.with("stream", stream.as_str())
    }

    /// For a call on several streams that went on with the others.
    #[must_use]
    pub fn after_others(mut self) -> Self {
        self.detail = format!("{}; other streams may have been changed", self.detail).into();
        Self { side_effects_unknown: true, ..self }
    }

    /// For a call that changes nothing: whatever failed, nothing happened.
    #[must_use]
    pub fn of_read(error: impl Into<Self>) -> Self {
        Self { side_effects_unknown: false, ..error.into() }
    }

    /// The problem as it is sent.
    #[must_use]
    pub fn problem(&self, instance: &str, request_id: &str) -> Problem {
        Problem {
            r#type: format!("urn:streamgate:problem:{}", self.code.as_str()),
            title: self.code.title(),
            status: self.code.status().as_u16(),
            detail: self.detail.to_string(),
            instance: instance.to_owned(),
            code: self.code.as_str(),
            retryable: self.code.retryable(),
            side_effects: if self.side_effects_unknown {
                SideEffects::Unknown
            } else {
                SideEffects::None
            },
            request_id: request_id.to_owned(),
            errors: self.errors.clone(),
            extra: self.extra.clone(),
        }
    }
}

/// Whether a failed request may have changed something.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SideEffects {
    /// Nothing was changed.
    None,
    /// It may have been: look before repeating what must not happen twice.
    Unknown,
}

/// An error, after RFC 9457.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Problem {
    /// `urn:streamgate:problem:` and the code.
    #[schema(example = "urn:streamgate:problem:stream-not-found")]
    pub r#type: String,
    /// What it says in general.
    #[schema(value_type = String)]
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// What it means in this case.
    pub detail: String,
    /// The path that was asked for.
    pub instance: String,
    /// What went wrong, as a word to compare.
    #[schema(value_type = String, example = "stream-not-found")]
    pub code: &'static str,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// Whether something may have been changed all the same.
    pub side_effects: SideEffects,
    /// Found again in the gateway's log.
    pub request_id: String,
    /// Places in the body or parameters that are wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub errors: Vec<FieldError>,
    /// Members of one code alone, like `oldest` and `lost`.
    #[serde(flatten)]
    #[schema(ignore)]
    pub extra: serde_json::Map<String, serde_json::Value>,
}

/// The body is written by the outermost layer, which knows the path and the request id.
impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut headers = HeaderMap::new();
        if self.code.retryable() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if let Some(tag) = self.extra.get("last_id").and_then(serde_json::Value::as_str)
            && let Ok(tag) = HeaderValue::from_str(&format!("\"{tag}\""))
        {
            headers.insert(header::ETAG, tag);
        }
        let mut response = (self.code.status(), headers).into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// As for a call that changes something; readers go through [`ApiError::of_read`].
impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let (code, detail) = match &error {
            StoreError::Unreachable(_) => {
                (ErrorCode::RedisUnavailable, "Redis cannot be reached; nothing was sent to it")
            }
            StoreError::Broken(_) => (ErrorCode::RedisUnavailable, "the connection to Redis broke"),
            StoreError::Timeout => (ErrorCode::RedisTimeout, "Redis did not answer in time"),
            StoreError::Exhausted(_) => {
                (ErrorCode::Overloaded, "all connections to Redis are in use")
            }
            StoreError::Loading => (ErrorCode::RedisLoading, "Redis is reading its data from disk"),
            StoreError::ReadOnly(_) => {
                (ErrorCode::RedisReadOnly, "the Redis server takes no writes at the moment")
            }
            StoreError::OutOfMemory => {
                (ErrorCode::RedisOutOfMemory, "Redis has reached its memory limit")
            }
            StoreError::Denied(_) => {
                (ErrorCode::Forbidden, "Redis denies this to the gateway's user")
            }
            StoreError::NotAStream => {
                (ErrorCode::NotAStream, "this key holds something that is no stream")
            }
            StoreError::StreamNotFound => {
                (ErrorCode::StreamNotFound, "there is no stream of this name")
            }
            StoreError::GroupNotFound => {
                (ErrorCode::GroupNotFound, "the stream has no group of this name")
            }
            StoreError::IdNotMonotonic => {
                (ErrorCode::IdNotMonotonic, "an id must lie above the last one of the stream")
            }
            StoreError::IdZero => (ErrorCode::InvalidId, "0-0 cannot be the id of an entry"),
            StoreError::Contradiction(_) => {
                (ErrorCode::InvalidRequest, "these counters cannot be true of the stream as it is")
            }
            StoreError::ConsumerNotFound => {
                (ErrorCode::ConsumerNotFound, "the group has no consumer of this name")
            }
            StoreError::ConsumerHasPending => (
                ErrorCode::ConsumerHasPending,
                "say what becomes of its entries: ?pending=transfer:OTHER gives them to another \
                 consumer, ?pending=drop forgets them",
            ),
            StoreError::GroupHasNoPolicy => (
                ErrorCode::GroupHasNoPolicy,
                "this needs a group with a policy: give it one by PATCH, like {\"policy\":{}}",
            ),
            StoreError::DeadLetterNotAStream => (
                ErrorCode::NotAStream,
                "the key for the dead letters of the group holds something that is no stream",
            ),
            StoreError::NotSupported(_) => (
                ErrorCode::NotSupportedByServer,
                "this needs a newer Redis server than the gateway has",
            ),
            StoreError::Changed => {
                (ErrorCode::Overloaded, "others are changing this policy at the same time")
            }
            StoreError::GroupExists | StoreError::NoScript | StoreError::Unexpected(_) => (
                ErrorCode::Internal,
                "Redis answered something unexpected; the log has more under this request id",
            ),
        };
        Self {
            side_effects_unknown: matches!(
                error,
                StoreError::Broken(_) | StoreError::Timeout | StoreError::Unexpected(_)
            ),
            cause: Some(Arc::new(error)),
            ..Self::new(code, detail)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_kebab_case_and_unlike_each_other() {
        let mut words: Vec<_> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        assert!(words.iter().all(|word| word.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')));
        words.sort_unstable();
        assert!(words.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
