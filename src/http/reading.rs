//! Parsers of requests, exposed for `fuzz/` and `tests/it/untrusted.rs`.

use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use futures_util::FutureExt as _;
use http_body_util::BodyExt as _;

use crate::auth::Principal;
use crate::http::entries::append::body::{self, BodyFormat};
use crate::http::entries::append::conditions::Conditions;
use crate::http::error::ApiError;
use crate::http::events::{stream, subscribe};
use crate::http::extract::body::{Body, BodyReservation, media_type};
use crate::http::extract::inflate;
pub use crate::http::extract::pairs::{PairsError, parse as pairs};
use crate::http::extract::single_header::single;
use crate::model::sent::Sent;

/// Parses the body of an append.
///
/// # Errors
/// The errors of an append with this body.
pub fn append_body(
    payload: Option<&str>,
    headers: HeaderMap,
    bytes: &[u8],
) -> Result<Sent, ApiError> {
    let (bytes, memory) = (Bytes::copy_from_slice(bytes), BodyReservation::default());
    let body = Body {
        headers,
        bytes,
        memory,
    };
    let format = BodyFormat::new(payload, false, &body.headers);
    body::read(&format, &body, usize::MAX)
}

/// Inflates a body that may grow to `most` times its size. Returns its length, or `None` if
/// inflating is refused.
///
/// # Errors
/// Unsupported content codings.
pub fn inflated(headers: &HeaderMap, bytes: &[u8], most: usize) -> Result<Option<usize>, ApiError> {
    let mut body = inflate::inflated(most, headers, Bytes::copy_from_slice(bytes).into())?;
    let mut length = 0;
    // The whole body is in memory, so the future never waits.
    while let Some(Some(frame)) = body.frame().now_or_never() {
        match frame {
            Ok(frame) => length += frame.data_ref().map_or(0, Bytes::len),
            Err(_) => return Ok(None),
        }
    }
    Ok(Some(length))
}

/// Parses all headers that any handler reads.
///
/// # Errors
/// The errors of a request with these headers.
pub fn headers(headers: &HeaderMap) -> Result<(), ApiError> {
    Conditions::new(&Principal::anyone(), headers)?;
    subscribe::resumed(headers, &subscribe::ResumeParams::default())?;
    single(headers, &CONTENT_TYPE)?;
    inflate::coding(headers)?;
    let _ = (media_type(headers), body::accepts_lines(headers));
    stream::require_acceptable(headers)
}
