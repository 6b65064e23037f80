//! How many fields an entry may have, and how long their names. Values are bounded by the body.
//!
//! All that write wait for the thread of Redis, which is busy with a command for as long as it has
//! words.

use crate::http::error::{ApiError, ErrorCode};
use crate::http::state::AppState;
use crate::model::entry::Fields;

/// # Errors
/// 422 `invalid-fields` for the entry that stands at `base`.
pub(in crate::http) fn check(
    state: &AppState,
    fields: &Fields,
    base: &str,
) -> Result<(), ApiError> {
    let settings = &state.settings;
    let (bound, detail) = if fields.len() > settings.max_fields {
        (
            "fields",
            format!("an entry has at most {} fields", settings.max_fields),
        )
    } else if fields
        .iter()
        .any(|(name, _)| name.len() > settings.max_field_name)
    {
        let most = settings.max_field_name;
        (
            "field_name",
            format!("the name of a field has at most {most} bytes"),
        )
    } else {
        return Ok(());
    };
    state.metrics.refuse(bound);
    Err(ApiError::new(ErrorCode::InvalidFields, detail.clone()).at(base, detail))
}
