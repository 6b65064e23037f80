//! The base path of the gateway behind a proxy that strips it, such as `/streams` of
//! `https://example.com/streams/v1/…`. Routes do not include the base path. Links in responses do.

use std::str::FromStr;
use std::sync::Arc;

use axum::http::header::{LINK, LOCATION, SET_COOKIE};
use axum::http::{HeaderMap, HeaderName, HeaderValue};

/// Maximum length of a base path in bytes.
const MAX_LENGTH: usize = 256;

/// A base path, empty if there is none. Never ends with a slash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BasePath(Option<Arc<str>>);

/// Error for a text that is not a valid base path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be a path like /streams: letters, digits and -._~% between slashes, at most 256 bytes"
)]
pub struct InvalidBasePath;

impl FromStr for BasePath {
    type Err = InvalidBasePath;

    fn from_str(text: &str) -> Result<Self, InvalidBasePath> {
        let path = text.strip_suffix('/').unwrap_or(text);
        if path.is_empty() {
            return Ok(Self(None));
        }
        let is_segment = |segment: &str| {
            let fits = |b: u8| b.is_ascii_alphanumeric() || b"-._~%".contains(&b);
            !segment.is_empty() && !matches!(segment, "." | "..") && segment.bytes().all(fits)
        };
        let rest = path.strip_prefix('/').ok_or(InvalidBasePath)?;
        let fits = path.len() <= MAX_LENGTH && rest.split('/').all(is_segment);
        if fits {
            Ok(Self(Some(path.into())))
        } else {
            Err(InvalidBasePath)
        }
    }
}

impl BasePath {
    /// Returns the path without a trailing slash, empty if there is none.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }

    /// Prepends the base path to the links and cookie paths in response headers.
    pub fn apply(&self, headers: &mut HeaderMap) {
        let Some(base) = self.0.as_deref() else {
            return;
        };
        replace(headers, &LOCATION, |text| {
            text.starts_with('/').then(|| format!("{base}{text}"))
        });
        replace(headers, &LINK, |text| {
            text.strip_prefix("</")
                .map(|rest| format!("<{base}/{rest}"))
        });
        replace(headers, &SET_COOKIE, |text| {
            text.contains("; Path=/")
                .then(|| text.replacen("; Path=/", &format!("; Path={base}/"), 1))
        });
    }
}

fn replace(headers: &mut HeaderMap, name: &HeaderName, change: impl Fn(&str) -> Option<String>) {
    let changed = headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .and_then(change);
    if let Some(value) = changed.and_then(|text| HeaderValue::try_from(text).ok()) {
        headers.insert(name.clone(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_paths_are_read_and_others_refused() {
        for (text, path) in [
            ("", ""),
            ("/", ""),
            ("/streams", "/streams"),
            ("/a/b-1/", "/a/b-1"),
        ] {
            assert_eq!(text.parse::<BasePath>().unwrap().as_str(), path, "{text}");
        }
        let long = format!("/{}", "a".repeat(300));
        for wrong in [
            "streams",
            "//evil.example",
            "/a//b",
            "/../x",
            "/a b",
            "/a?b",
            "/a\"",
            &long,
        ] {
            assert_eq!(wrong.parse::<BasePath>(), Err(InvalidBasePath), "{wrong}");
        }
    }
}
