//! `?name64=`: the name of a stream in base64, where a path cannot carry it (`.`, `..`, nothing at all,
//! or what a proxy in between would change). The name in the path then counts for nothing.

use axum::http::Uri;
use axum::http::request::Parts;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, Engine as _, GeneralPurpose, GeneralPurposeConfig};

use crate::http::error::{ApiError, ErrorCode};

const ANY_PADDING: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, ANY_PADDING);

/// A name as `name64` takes it.
#[must_use]
pub fn encode(name: &[u8]) -> String {
    base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(name)
}

/// Takes `name64` out of the query; nothing where it is not given.
///
/// # Errors
/// 400 when it is given twice, or is not base64 of UTF-8.
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
        .map_err(|_| wrong("a stream whose name is not UTF-8 is listed, but cannot be reached"))?;
    let path = parts.uri.path();
    let target = if rest.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{}", rest.join("&"))
    };
    // What is left of a target that was one is one.
    parts.uri = target
        .parse::<Uri>()
        .map_err(|_| wrong("`name64` cannot be read"))?;
    Ok(Some(name))
}

fn wrong(detail: &'static str) -> ApiError {
    ApiError::new(ErrorCode::InvalidName, detail).at("name64", detail)
}
