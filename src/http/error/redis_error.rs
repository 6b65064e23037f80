//! Failures of Redis as problems: the code and the detail of each.

use std::sync::Arc;

use crate::http::error::{ApiError, ErrorCode};
use crate::redis::StoreError;

/// As for a call that changes something; readers go through [`ApiError::of_read`].
impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let failure = match &error {
            StoreError::AfterOthers(error) => error,
            error => error,
        };
        let (code, detail) = passing(failure).unwrap_or_else(|| lasting(failure));
        Self {
            side_effects_unknown: !error.ran_nothing(),
            cause: Some(Arc::new(error)),
            ..Self::new(code, detail)
        }
    }
}

/// Failures that are worth a retry.
fn passing(error: &StoreError) -> Option<(ErrorCode, &'static str)> {
    Some(match error {
        StoreError::Unreachable(_) => (
            ErrorCode::RedisUnavailable,
            "Redis cannot be reached; nothing was sent to it",
        ),
        StoreError::Broken(_) => (ErrorCode::RedisUnavailable, "the connection to Redis broke"),
        StoreError::Timeout => (ErrorCode::RedisTimeout, "Redis did not answer in time"),
        StoreError::Exhausted(_) => (
            ErrorCode::Overloaded,
            "all connections to Redis of this kind are in use: try again, or have the gateway run \
             with more of them",
        ),
        StoreError::FewReplicas { .. } => (
            ErrorCode::Overloaded,
            "all connections for durable appends wait for replicas that are not there or do not keep \
             up: ask for fewer replicas, or try again when there are more",
        ),
        StoreError::Crowded => (
            ErrorCode::Overloaded,
            "other large reads take all the room there is for them: ask for less, or later",
        ),
        StoreError::Loading => (
            ErrorCode::RedisLoading,
            "Redis is reading its data from disk",
        ),
        StoreError::Busy => (
            ErrorCode::RedisUnavailable,
            "Redis is busy with a script of another client and takes no commands: try again later",
        ),
        StoreError::Killed(_) => (
            ErrorCode::RedisUnavailable,
            "somebody stopped the call in Redis before it changed anything: try again",
        ),
        StoreError::ReadOnly(_) => (
            ErrorCode::RedisReadOnly,
            "the Redis server is a replica at the moment, as during a failover: try again",
        ),
        StoreError::NotWriting(_) => (
            ErrorCode::RedisReadOnly,
            "Redis takes no writes at the moment: it cannot save, or has too few replicas",
        ),
        StoreError::NotServing(_) => (
            ErrorCode::RedisUnavailable,
            "Redis serves no data at the moment: its master or its cluster is down",
        ),
        StoreError::Elsewhere(_) => (
            ErrorCode::RedisUnavailable,
            "the Redis node of the gateway does not serve this stream, or not all of the streams \
             together",
        ),
        StoreError::LoggedOut(_) => (
            ErrorCode::RedisUnavailable,
            "Redis does not accept the login of the gateway: whoever runs it finds the cause in \
             the log",
        ),
        StoreError::OutOfMemory => (
            ErrorCode::RedisOutOfMemory,
            "Redis has reached its memory limit",
        ),
        StoreError::Denied(_) => (
            ErrorCode::RedisUnavailable,
            "the gateway's own Redis user lacks a right for this: whoever runs the gateway finds \
             the cause in the log",
        ),
        _ => return None,
    })
}

/// Failures that stay until somebody changes something.
fn lasting(error: &StoreError) -> (ErrorCode, &'static str) {
    match error {
        StoreError::NotAStream => (
            ErrorCode::NotAStream,
            "this key holds something that is no stream",
        ),
        StoreError::StreamNotFound => {
            (ErrorCode::StreamNotFound, "there is no stream of this name")
        }
        StoreError::GroupNotFound => (
            ErrorCode::GroupNotFound,
            "the stream has no group of this name",
        ),
        StoreError::IdNotMonotonic => (
            ErrorCode::IdNotMonotonic,
            "an id must lie above the last one of the stream",
        ),
        StoreError::IdsExhausted => (
            ErrorCode::IdNotMonotonic,
            "the stream has had the greatest id there is, so nothing can follow: append to another \
             stream, or delete this one and start anew",
        ),
        StoreError::IdZero => (ErrorCode::InvalidId, "0-0 cannot be the id of an entry"),
        StoreError::Contradiction(_) => (
            ErrorCode::InvalidRequest,
            "these counters cannot be true of the stream as it is",
        ),
        StoreError::ConsumerNotFound => (
            ErrorCode::ConsumerNotFound,
            "the group has no consumer of this name",
        ),
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
        StoreError::Changed => (
            ErrorCode::Overloaded,
            "others are changing this policy at the same time",
        ),
        StoreError::OtherLife => (
            ErrorCode::Overloaded,
            "others delete and make this group at the same time",
        ),
        _ => (
            ErrorCode::Internal,
            "Redis answered something unexpected; the log has more under this request id",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_worth_a_retry_and_what_lasts_is_not() {
        let text = String::new;
        for error in [
            StoreError::Unreachable(text()),
            StoreError::Broken(text()),
            StoreError::Timeout,
            StoreError::Exhausted(""),
            StoreError::FewReplicas {
                wanted: 1,
                there: 0,
            },
            StoreError::Crowded,
            StoreError::Loading,
            StoreError::Busy,
            StoreError::Killed(text()),
            StoreError::ReadOnly(text()),
            StoreError::NotWriting(text()),
            StoreError::NotServing(text()),
            StoreError::Elsewhere(text()),
            StoreError::LoggedOut(text()),
            StoreError::OutOfMemory,
            StoreError::Denied(text()),
            StoreError::AfterOthers(Box::new(StoreError::Busy)),
            StoreError::NotAStream,
            StoreError::GroupNotFound,
            StoreError::NotSupported(text()),
            StoreError::Unexpected(text()),
        ] {
            let (passing, ran_nothing) = (error.is_passing(), error.ran_nothing());
            let answer = ApiError::from(error.clone());
            assert_eq!(answer.code.retryable(), passing, "{error:?}");
            assert_eq!(answer.side_effects_unknown, !ran_nothing, "{error:?}");
            assert_eq!(passing, answer.code.status().as_u16() >= 503, "{error:?}");
        }
    }
}
