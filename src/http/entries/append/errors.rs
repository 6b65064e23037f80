//! Errors of appends, and JSON pointers to the entries that caused them.

use crate::http::entries::append::answer::{self, BatchResult};
use crate::http::entries::append::run::count_new;
use crate::http::error::{ApiError, ErrorCode};
use crate::redis::{AppendOutcome, AppendRejection, MAX_FIELDS, StoreError};

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

/// Returns a 409 for a batch that was appended only in part, with the appended entries.
pub(in crate::http) fn stopped(sent: usize, placed: &[AppendOutcome]) -> ApiError {
    let count = placed.len();
    let detail = format!(
        "the stream has no ids left: the first {count} of {sent} entries were appended, the others were not"
    );
    let error =
        ApiError::new(ErrorCode::IdNotMonotonic, detail).with("appended", count_new(placed));
    let results = placed.iter().map(BatchResult::from);
    ApiError {
        side_effects_unknown: true,
        ..answer::with_results(error, results)
    }
}

/// Returns a 422 for the entry at `base`, which has too many fields for a script.
pub(in crate::http) fn too_wide(base: &str) -> ApiError {
    let detail = format!(
        "an entry with a condition, a key, a delay or its own id in a batch must have at most {MAX_FIELDS} fields"
    );
    ApiError::new(ErrorCode::InvalidFields, detail.clone()).at(base, detail)
}

/// Converts the refusal of the entry at `base` into an error.
pub(in crate::http) fn refused(refusal: AppendRejection, base: &str) -> ApiError {
    let member = if refusal == AppendRejection::KeyReused {
        "key"
    } else {
        "id"
    };
    refused_at(refusal, &format!("{base}/{member}"))
}

/// Converts a refusal into an error with a pointer.
pub(in crate::http) fn refused_at(refusal: AppendRejection, pointer: &str) -> ApiError {
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
