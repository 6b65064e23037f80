//! Problems for failures of Redis: the code and the detail of each.

use std::sync::Arc;

use crate::http::error::{ApiError, ErrorCode};
use crate::redis::StoreError;
use crate::shares::ShareExceeded;

/// Converts a failure of a call that writes. Reads use [`ApiError::of_read`].
impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let failure = match &error {
            StoreError::AfterOthers(error) => error,
            error => error,
        };
        if let StoreError::ShareExceeded(exceeded) = failure {
            return (*exceeded).into();
        }
        let (code, detail) = passing(failure).unwrap_or_else(|| lasting(failure));
        Self {
            side_effects_unknown: !error.ran_nothing(),
            cause: Some(Arc::new(error)),
            ..Self::new(code, detail)
        }
    }
}

/// Converts a refusal of a caller that uses its share of a limit. Nothing was sent to Redis.
impl From<ShareExceeded> for ApiError {
    fn from(exceeded: ShareExceeded) -> Self {
        let detail = format!("{exceeded}; end some of them, or try again later");
        Self::new(ErrorCode::ShareExceeded, detail)
    }
}

/// Returns code and detail of a temporary failure, which is worth a retry.
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
            "all connections to Redis of this kind are in use; try again, or configure the gateway \
             with more connections",
        ),
        StoreError::FewReplicas { .. } => (
            ErrorCode::Overloaded,
            "all connections for durable appends are waiting for replicas that are missing or lag \
             behind; require fewer replicas, or try again later",
        ),
        StoreError::Crowded => (
            ErrorCode::Overloaded,
            "other large reads use all the memory for such reads; request less, or try again later",
        ),
        StoreError::Loading => (
            ErrorCode::RedisLoading,
            "Redis is loading its data from disk",
        ),
        StoreError::Busy => (
            ErrorCode::RedisUnavailable,
            "Redis is busy with a script of another client and accepts no commands; try again",
        ),
        StoreError::Killed(_) => (
            ErrorCode::RedisUnavailable,
            "an administrator stopped the call in Redis before it changed anything; try again",
        ),
        StoreError::ReadOnly(_) => (
            ErrorCode::RedisReadOnly,
            "the Redis server is currently a replica, as during a failover; try again",
        ),
        StoreError::NotWriting(_) => (
            ErrorCode::RedisReadOnly,
            "Redis currently accepts no writes: it cannot save, or it has too few replicas",
        ),
        StoreError::NotServing(_) => (
            ErrorCode::RedisUnavailable,
            "Redis currently serves no data: its master or its cluster is down",
        ),
        StoreError::Elsewhere(_) => (
            ErrorCode::RedisUnavailable,
            "the slot of this stream is being moved between nodes of the Redis cluster; try again",
        ),
        StoreError::LoggedOut(_) => (
            ErrorCode::RedisUnavailable,
            "Redis rejected the credentials of the gateway; its operator finds the cause in the \
             gateway's log",
        ),
        StoreError::OutOfMemory => (
            ErrorCode::RedisOutOfMemory,
            "Redis has reached its memory limit",
        ),
        StoreError::Denied(_) => (
            ErrorCode::RedisUnavailable,
            "the gateway's Redis user lacks a permission; its operator finds the cause in the \
             gateway's log",
        ),
        _ => return None,
    })
}

/// Returns code and detail of a permanent failure.
fn lasting(error: &StoreError) -> (ErrorCode, &'static str) {
    match error {
        StoreError::NotAStream => (
            ErrorCode::NotAStream,
            "this key holds a value that is not a stream",
        ),
        StoreError::StreamNotFound => {
            (ErrorCode::StreamNotFound, "there is no stream of this name")
        }
        StoreError::GroupNotFound => (
            ErrorCode::GroupNotFound,
            "the stream has no group with this name",
        ),
        StoreError::IdNotMonotonic => (
            ErrorCode::IdNotMonotonic,
            "the id must be greater than the last id of the stream",
        ),
        StoreError::IdsExhausted => (
            ErrorCode::IdNotMonotonic,
            "the stream has reached the greatest possible id, so no entry can follow; append to \
             another stream, or delete and recreate this one",
        ),
        StoreError::IdZero => (ErrorCode::InvalidId, "0-0 cannot be the id of an entry"),
        StoreError::Contradiction(_) => (
            ErrorCode::InvalidRequest,
            "these counters contradict the current contents of the stream",
        ),
        StoreError::ConsumerNotFound => (
            ErrorCode::ConsumerNotFound,
            "the group has no consumer with this name",
        ),
        StoreError::ConsumerHasPending => (
            ErrorCode::ConsumerHasPending,
            "the consumer has pending entries: `?pending=transfer:OTHER` gives them to another \
             consumer, `?pending=drop` drops them",
        ),
        StoreError::GroupHasNoPolicy => (
            ErrorCode::GroupHasNoPolicy,
            "this call requires a group with a policy; set one with PATCH, such as {\"policy\":{}}",
        ),
        StoreError::GroupIsOrdered => (
            ErrorCode::GroupIsOrdered,
            "a group with `order_by` has no `claim`, `autoclaim` and `no_ack`, which break the order; \
             entries of a dead worker are handed out again when their leases end",
        ),
        StoreError::GroupIsUnordered => (
            ErrorCode::GroupIsUnordered,
            "this call requires a group with an order; set one with PATCH, such as \
             {\"policy\":{\"order_by\":\"customer\"}}",
        ),
        StoreError::DeadLetterNotAStream => (
            ErrorCode::NotAStream,
            "the key for the dead letters of the group holds a value that is not a stream",
        ),
        StoreError::NotSupported(_) => (
            ErrorCode::NotSupportedByServer,
            "this call requires a newer version of the Redis server",
        ),
        StoreError::Changed => (
            ErrorCode::Overloaded,
            "other calls are changing the policy at the same time; try again",
        ),
        StoreError::OtherLife | StoreError::OtherDeadLetter(_) => (
            ErrorCode::Overloaded,
            "other calls are deleting and creating the group at the same time; try again",
        ),
        _ => (
            ErrorCode::Internal,
            "Redis sent an unexpected reply; the gateway's log has details under this request id",
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
            StoreError::Elsewhere(crate::redis::Redirect::TryAgain),
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
