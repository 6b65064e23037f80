//! Limits on the number of fields of an entry and on the length of their names. Values are bounded
//! only by the limit on the body.
//!
//! Redis runs commands on one thread. A command with many arguments keeps this thread busy, and all
//! writers wait.

use crate::http::error::{ApiError, ErrorCode};
use crate::http::state::AppState;
use crate::model::entry::Fields;

/// Checks the limits.
///
/// # Errors
/// 422 `invalid-fields` for the entry at `base`.
pub(in crate::http) fn check(
    state: &AppState,
    fields: &Fields,
    base: &str,
) -> Result<(), ApiError> {
    let settings = &state.settings;
    let (bound, detail) = if fields.len() > settings.max_fields {
        (
            "fields",
            format!("an entry must have at most {} fields", settings.max_fields),
        )
    } else if fields
        .iter()
        .any(|(name, _)| name.len() > settings.max_field_name)
    {
        let most = settings.max_field_name;
        (
            "field_name",
            format!("a field name must have at most {most} bytes"),
        )
    } else {
        return Ok(());
    };
    state.metrics.refuse(bound);
    Err(ApiError::new(ErrorCode::InvalidFields, detail.clone()).at(base, detail))
}
