//! What reads requests, for those who throw bytes at it: `fuzz/` and `tests/it/untrusted.rs`.

use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;

use super::append_body;
use super::append_plan::Shape;
use super::body::{Body, BodyMemory, media_type, refuse_encoded};
use super::conditions::Conditions;
use super::error::ApiError;
pub use super::pairs::{PairsError, parse as pairs};
use super::single::single;
use super::{append_lines, event_stream, follow};
use crate::auth::Principal;
use crate::model::sent::Sent;

/// Reads the body of an append.
///
/// # Errors
/// As the append would be refused.
pub fn append_body(
    payload: Option<&str>,
    headers: HeaderMap,
    bytes: &[u8],
) -> Result<Sent, ApiError> {
    let (bytes, memory) = (Bytes::copy_from_slice(bytes), BodyMemory::default());
    let body = Body { headers, bytes, memory };
    let shape = payload.map_or(Shape::ByType, Shape::Payload);
    append_body::read(shape, &body, usize::MAX)
}

/// Reads every header that means something somewhere.
///
/// # Errors
/// As the request would be refused.
pub fn headers(headers: &HeaderMap) -> Result<(), ApiError> {
    Conditions::new(&Principal::anyone(), headers)?;
    follow::resumed(headers, &follow::ResumeParams::default())?;
    single(headers, &CONTENT_TYPE)?;
    refuse_encoded(headers)?;
    let _ = (media_type(headers), append_lines::is_accepted(headers));
    event_stream::require_acceptable(headers)
}
