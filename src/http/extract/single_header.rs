//! Headers that may occur once. If two values differ, the gateway cannot know which one is meant,
//! so it refuses the request instead of using the first.

use axum::http::header::IF_NONE_MATCH;
use axum::http::{HeaderMap, HeaderName, HeaderValue};

use crate::http::error::ApiError;

/// Returns the value of a header that may occur once.
///
/// # Errors
/// 400 if the header occurs more than once.
pub fn single<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'h HeaderValue>, ApiError> {
    let mut values = headers.get_all(name).iter();
    let value = values.next();
    if values.next().is_none() {
        return Ok(value);
    }
    let name = shown(name);
    let detail = format!("`{name}` is given more than once");
    Err(ApiError::invalid(detail).at(name, "is given more than once"))
}

/// Returns the text of a header that may occur once.
///
/// # Errors
/// 400 if the header occurs more than once or is not visible ASCII.
pub fn single_text<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'h str>, ApiError> {
    let Some(value) = single(headers, name)? else {
        return Ok(None);
    };
    value.to_str().map(Some).map_err(|_| {
        let name = shown(name);
        ApiError::invalid(format!("`{name}` must consist of visible ASCII characters"))
            .at(name, "must be visible ASCII")
    })
}

/// Reports whether `If-None-Match: *` is given. Writes support no other value.
///
/// # Errors
/// 400 for any other value.
pub fn only_new(headers: &HeaderMap) -> Result<bool, ApiError> {
    match single_text(headers, &IF_NONE_MATCH)? {
        None => Ok(false),
        Some("*") => Ok(true),
        Some(_) => {
            Err(ApiError::invalid("`If-None-Match` must be `*`").at("If-None-Match", "must be `*`"))
        }
    }
}

/// Returns the name with its usual capitals, such as `If-None-Match`.
fn shown(name: &HeaderName) -> String {
    let mut begins = true;
    let letter = |char: char| {
        let upper = std::mem::replace(&mut begins, char == '-');
        if upper {
            char.to_ascii_uppercase()
        } else {
            char
        }
    };
    name.as_str().chars().map(letter).collect()
}
