//! Errors of appends, and JSON pointers to the entries that caused them.

use crate::http::entries::append::answer::{self, BatchResult};
use crate::http::error::{ApiError, ErrorCode};
use crate::model::id::EntryId;
use crate::redis::{AppendOutcome, AppendRejection, MAX_FIELDS, Reached, StoreError};
use crate::service::publish::{EntryError, PublishError, count_new};

/// The position of an entry in the body, as a JSON pointer by its index.
pub(in crate::http) type Base = fn(usize) -> String;

/// Returns the pointer to an entry that is the whole body.
pub(in crate::http) fn alone(_: usize) -> String {
    String::new()
}

/// Returns the pointer to an entry of a batch.
pub(in crate::http) fn in_batch(index: usize) -> String {
    format!("/entries/{index}")
}

/// Returns the pointer to an entry of a list.
pub(in crate::http) fn in_list(index: usize) -> String {
    format!("/{index}")
}

/// Converts an error of the service.
pub(in crate::http) fn publish_error(error: PublishError, base: Base) -> ApiError {
    match error {
        PublishError::NotStarted(error) => ApiError::of_read(error),
        PublishError::Store(error) => error.into(),
        PublishError::Rejected(AppendRejection::KeyReused) => {
            refused_at(AppendRejection::KeyReused, "Idempotency-Key")
        }
        PublishError::Rejected(rejection) => refused(rejection, ""),
        PublishError::Entry { index, error } => entry_error(error, &base(index)),
        PublishError::Incomplete { total, appended } => incomplete(total, &appended),
        PublishError::ScheduleFull { appends, bytes } => {
            let detail = format!(
                "a stream may have at most {appends} scheduled appends of {bytes} bytes in total: retry later"
            );
            ApiError::new(ErrorCode::Overloaded, detail)
        }
        PublishError::NotDurable {
            last,
            reached,
            keyed,
        } => not_durable(last, reached, keyed),
        PublishError::DurabilityUnknown { last, error } => {
            ApiError::from(error).with("id", last.to_string())
        }
    }
}

/// Converts the error of the entry at `base`.
pub(in crate::http) fn entry_error(error: EntryError, base: &str) -> ApiError {
    let invalid =
        |detail: String| ApiError::new(ErrorCode::InvalidFields, detail.clone()).at(base, detail);
    match error {
        EntryError::TooManyFields { max } => {
            invalid(format!("an entry must have at most {max} fields"))
        }
        EntryError::FieldNameTooLong { max } => {
            invalid(format!("a field name must have at most {max} bytes"))
        }
        EntryError::TooWideForScript => invalid(format!(
            "an entry with a condition, a key, a delay or its own id in a batch must have at most {MAX_FIELDS} fields"
        )),
        EntryError::LastMillisecond => {
            let detail =
                "an id of the last possible millisecond requires the right to manage the stream";
            ApiError::new(ErrorCode::Forbidden, detail).at(format!("{base}/id"), detail)
        }
        EntryError::Rejected(rejection) => refused(rejection, base),
    }
}

/// Returns a 409 for a batch that was appended only in part, with the appended entries.
fn incomplete(total: usize, appended: &[AppendOutcome]) -> ApiError {
    let count = appended.len();
    let detail = format!(
        "the stream has no ids left: the first {count} of {total} entries were appended, the others were not"
    );
    let error =
        ApiError::new(ErrorCode::IdNotMonotonic, detail).with("appended", count_new(appended));
    let results = appended.iter().map(BatchResult::from);
    ApiError {
        side_effects_unknown: true,
        ..answer::with_results(error, results)
    }
}

/// Returns a 504 for entries that are appended, with the durability that they reached.
fn not_durable(last: EntryId, reached: Reached, keyed: bool) -> ApiError {
    let detail = match keyed {
        true => {
            "the entries were appended but did not reach the requested durability in time; repeat \
             the request with the same keys to wait again"
        }
        false => {
            "the entries were appended but did not reach the requested durability in time; \
             repeating the request without keys would append them again"
        }
    };
    let mut error = ApiError::new(ErrorCode::DurabilityNotReached, detail)
        .with("id", last.to_string())
        .with("replicas", reached.replicas);
    if let Some(fsync) = reached.fsync {
        error = error.with("fsync", fsync);
    }
    ApiError {
        side_effects_unknown: true,
        ..error
    }
}

/// Converts the refusal of the entry at `base` into an error.
fn refused(refusal: AppendRejection, base: &str) -> ApiError {
    let member = if refusal == AppendRejection::KeyReused {
        "key"
    } else {
        "id"
    };
    refused_at(refusal, &format!("{base}/{member}"))
}

/// Converts a refusal into an error with a pointer.
fn refused_at(refusal: AppendRejection, pointer: &str) -> ApiError {
    let (code, detail) = match refusal {
        AppendRejection::Stale(last) => {
            let detail = format!("the condition does not hold: the last generated id is {last}");
            return ApiError::new(ErrorCode::PreconditionFailed, detail)
                .with("last_id", last.to_string());
        }
        AppendRejection::Exhausted => return StoreError::IdsExhausted.into(),
        AppendRejection::NoStream => {
            let detail = "the stream does not exist; omit `create=false` to create it";
            return ApiError::new(ErrorCode::StreamNotFound, detail);
        }
        AppendRejection::KeyReused => (
            ErrorCode::IdempotencyKeyReused,
            "this idempotency key was already used for different content",
        ),
        AppendRejection::NotMonotonic => (
            ErrorCode::IdNotMonotonic,
            "an id must be greater than the one before it",
        ),
        AppendRejection::AfterChosen => (
            ErrorCode::InvalidFields,
            "an explicit id cannot follow an id that Redis chooses",
        ),
    };
    ApiError::new(code, detail).at(pointer, detail)
}

/// Returns a 422 for an append that cannot be delayed.
pub(in crate::http) fn undelayed(pointer: &str, detail: impl Into<String>) -> ApiError {
    let detail = detail.into();
    ApiError::new(ErrorCode::InvalidDelay, detail.clone()).at(pointer, detail)
}
