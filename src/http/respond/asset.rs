//! Static files: entity tags, gzip, and 304 for clients that have them.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::io::Read as _;
use std::sync::OnceLock;

use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use flate2::read::{GzDecoder, GzEncoder};

use crate::http::error::{ApiError, ErrorCode};
use crate::http::respond::accept;

/// A static file with an entity tag of its content, sent gzipped to clients that accept it.
pub struct Asset {
    content_type: HeaderValue,
    /// The content. `None` if the file is stored only gzipped.
    plain: Option<Bytes>,
    /// Set when the file is made, or at the first request for it.
    gzipped: OnceLock<Bytes>,
    etag: String,
}

impl Asset {
    /// Creates a file of text.
    #[must_use]
    pub fn of_text(content_type: &'static str, text: Bytes) -> Self {
        Self {
            content_type: HeaderValue::from_static(content_type),
            etag: tag(&text),
            plain: Some(text),
            gzipped: OnceLock::new(),
        }
    }

    pub(in crate::http) fn of_gzip(content_type: &str, gzipped: Bytes) -> Option<Self> {
        Some(Self {
            content_type: HeaderValue::from_str(content_type).ok()?,
            plain: None,
            etag: tag(&gzipped),
            gzipped: gzipped.into(),
        })
    }

    fn inflated(&self) -> std::io::Result<Bytes> {
        if let Some(plain) = &self.plain {
            return Ok(plain.clone());
        }
        let mut plain = Vec::new();
        let gzipped = self.gzipped.get().map_or(&[][..], |bytes| bytes);
        GzDecoder::new(gzipped).read_to_end(&mut plain)?;
        Ok(plain.into())
    }

    /// Returns the file, or 304 if the client has it. Inflates the file for a client without gzip.
    pub fn answer(&self, request: &HeaderMap) -> Response {
        let encodings = accept::items(request, &ACCEPT_ENCODING);
        let gzip = encodings.contains(&("gzip".to_owned(), true));
        let etag = format!("\"{}{}\"", self.etag, if gzip { "-gzip" } else { "" });
        // The items are in lower case; so is the tag, a hexadecimal number.
        let known = accept::items(request, &IF_NONE_MATCH)
            .iter()
            .any(|(known, _)| known.trim_start_matches("w/") == etag);
        let mut headers = HeaderMap::new();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
        headers.extend(HeaderValue::from_str(&etag).ok().map(|etag| (ETAG, etag)));
        if known {
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
        headers.insert(CONTENT_TYPE, self.content_type.clone());
        if gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            let compress = || gzipped(self.plain.as_ref().map_or(&[][..], |bytes| bytes)).into();
            let body = self.gzipped.get_or_init(compress);
            return (headers, body.clone()).into_response();
        }
        match self.inflated() {
            Ok(plain) => (headers, plain).into_response(),
            Err(_) => ApiError::new(ErrorCode::Internal, "the file cannot be decompressed")
                .into_response(),
        }
    }
}

/// Returns the file with this name, or 404.
pub fn answer<K: Borrow<str> + Eq + Hash>(
    files: &HashMap<K, Asset>,
    name: &str,
    request: &HeaderMap,
) -> Response {
    match files.get(name) {
        Some(asset) => asset.answer(request),
        None => ApiError::new(ErrorCode::RouteNotFound, "the file does not exist").into_response(),
    }
}

/// Returns an entity tag of bytes, without quotes.
fn tag(bytes: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    format!("{:016x}", hasher.finish())
}

/// Compresses bytes with gzip. Reading from memory cannot fail.
pub(in crate::http) fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let _ = GzEncoder::new(bytes, flate2::Compression::default()).read_to_end(&mut out);
    out
}
