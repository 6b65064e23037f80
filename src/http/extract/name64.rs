//! `?name64=`: the base64-encoded name of a stream, for names that a path cannot carry: `.`, `..`,
//! the empty name, or names that a proxy would change. `name64` overrides the name in the path.

use axum::http::Uri;
use axum::http::request::Parts;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, Engine as _, GeneralPurpose, GeneralPurposeConfig};

use crate::http::error::{ApiError, ErrorCode};

const ANY_PADDING: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, ANY_PADDING);

/// Encodes a name for `name64`.
#[must_use]
pub fn encode(name: &[u8]) -> String {
    base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(name)
}

/// Removes `name64` from the query and returns its decoded value, or `None` if it is absent.
///
/// # Errors
/// 400 if `name64` is given twice or is not base64 of UTF-8.
pub fn take_name64(parts: &mut Parts) -> Result<Option<String>, ApiError> {
    let query = parts.uri.query().unwrap_or_default();
    if !query.contains("name64=") {
        return Ok(None);
    }
    let (given, rest): (Vec<&str>, Vec<&str>) = query
        .split('&')
        .partition(|pair| pair.starts_with("name64="));
    let [given] = given.as_slice() else {
        return match given.is_empty() {
            true => Ok(None),
            false => Err(wrong("`name64` is given more than once")),
        };
    };
    let text = given
        .trim_start_matches("name64=")
        .replace("%3D", "=")
        .replace("%3d", "=");
    let text = text
        .replace("%2B", "-")
        .replace("%2b", "-")
        .replace("%2F", "_")
        .replace("%2f", "_");
    let text = text.replace(['+', ' '], "-").replace('/', "_");
    let bytes = URL_SAFE
        .decode(text)
        .map_err(|_| wrong("`name64` is not base64"))?;
    let name = String::from_utf8(bytes)
        .map_err(|_| wrong("`name64` must be base64 of UTF-8; other names cannot be accessed"))?;
    let path = parts.uri.path();
    let target = if rest.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{}", rest.join("&"))
    };
    // Removing a pair from the query of a valid URI leaves a valid URI.
    parts.uri = target
        .parse::<Uri>()
        .map_err(|_| wrong("`name64` cannot be parsed"))?;
    Ok(Some(name))
}

fn wrong(detail: &'static str) -> ApiError {
    ApiError::new(ErrorCode::InvalidName, detail).at("name64", detail)
}
