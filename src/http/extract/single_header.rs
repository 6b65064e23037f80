//! Headers that may be given once. Of two that differ nobody knows which one was meant, and to take
//! the first in silence is to guess.

use axum::http::header::IF_NONE_MATCH;
use axum::http::{HeaderMap, HeaderName, HeaderValue};

use crate::http::error::ApiError;

/// The value of a header that may be given once.
///
/// # Errors
/// 400 when there is another.
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

/// The text of a header that may be given once.
///
/// # Errors
/// 400 when there is another, or it is no text.
pub fn single_text<'h>(
    headers: &'h HeaderMap,
    name: &HeaderName,
) -> Result<Option<&'h str>, ApiError> {
    let Some(value) = single(headers, name)? else {
        return Ok(None);
    };
    value.to_str().map(Some).map_err(|_| {
        let name = shown(name);
        ApiError::invalid(format!("`{name}` has other characters than visible ASCII"))
            .at(name, "not visible ASCII")
    })
}

/// Whether `If-None-Match: *` is given, the one value that a write takes.
///
/// # Errors
/// 400 for any other value.
pub fn only_new(headers: &HeaderMap) -> Result<bool, ApiError> {
    match single_text(headers, &IF_NONE_MATCH)? {
        None => Ok(false),
        Some("*") => Ok(true),
        Some(_) => {
            Err(ApiError::invalid("`If-None-Match` is `*` here").at("If-None-Match", "is not `*`"))
        }
    }
}

/// The name as it is usually written.
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
