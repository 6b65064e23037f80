//! Event stream responses: content negotiation, headers, content and end.

use axum::body::Body;
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

use crate::http::error::{ApiError, ErrorCode};
use crate::http::events::session::{self, EventSource, Session};
use crate::http::layer::request::RequestInfo;
use crate::live::EndReason;
use crate::model::frame::{Framing, write_event};

/// The media type of server-sent events.
pub const EVENT_STREAM: &str = "text/event-stream";

/// Whether the client explicitly accepts this media type.
#[must_use]
pub fn is_wanted(headers: &HeaderMap, media_type: &str) -> bool {
    accepted(headers).iter().any(|range| range == media_type)
}

/// Returns the media ranges of `Accept` without their parameters.
fn accepted(headers: &HeaderMap) -> Vec<String> {
    let values = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let ranges = values.flat_map(|value| value.split(','));
    let range = |range: &str| {
        range
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase()
    };
    ranges
        .map(range)
        .filter(|range| !range.is_empty())
        .collect()
}

/// Checks that the client accepts an event stream.
///
/// # Errors
/// 406 if the client does not accept an event stream.
pub fn require_acceptable(headers: &HeaderMap) -> Result<(), ApiError> {
    let ranges = accepted(headers);
    let fits = |range: &String| matches!(range.as_str(), EVENT_STREAM | "text/*" | "*/*");
    // Some generated clients accept only the media type of errors, whatever the endpoint returns.
    let of_errors = |range: &String| range == "application/problem+json";
    if ranges.iter().all(of_errors) || ranges.iter().any(fits) {
        return Ok(());
    }
    Err(ApiError::new(
        ErrorCode::NotAcceptable,
        "the response is an event stream: accept text/event-stream",
    ))
}

/// Returns an event stream with only the closing event.
#[must_use]
pub fn closed(closing: EndReason) -> Response {
    respond(Body::from(closing.frame(Framing::Events)))
}

/// Returns the event stream of a subscription or a push session.
#[must_use]
pub fn live(source: impl Into<EventSource>, request: &RequestInfo) -> Response {
    session::respond(
        Session::new(source.into(), request, error_frame),
        respond(Body::empty()),
    )
}

/// Returns an event stream with only `$error`.
#[must_use]
pub fn failed(error: &ApiError, request: &RequestInfo) -> Response {
    respond(Body::from(error_frame(error, request.path(), request.id())))
}

/// Builds an `$error` event. The retry delay is long, because a person must fix the cause first.
fn error_frame(error: &ApiError, path: &str, request_id: &str) -> Bytes {
    let mut frame = Vec::new();
    let problem = error.problem(path, request_id);
    let retry_ms = fastrand::u64(10_000..30_000);
    write_event(&mut frame, Some("$error"), Some(retry_ms), &problem);
    frame.into()
}

/// Builds an event stream response with headers that keep proxies from buffering events.
pub(in crate::http) fn respond(body: Body) -> Response {
    let headers = [
        (CONTENT_TYPE, EVENT_STREAM),
        (CACHE_CONTROL, "no-cache, no-transform"),
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    let headers: HeaderMap = headers
        .into_iter()
        .map(|(name, value)| (name, HeaderValue::from_static(value)))
        .collect();
    (headers, body).into_response()
}
