//! Event stream responses: content negotiation, headers, content and end.

use axum::body::Body;
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

use crate::http::error::{ApiError, ErrorCode};
use crate::http::events::session::{self, EventSource, Session};
use crate::http::layer::request::RequestInfo;
use crate::http::respond::accept;
use crate::live::EndReason;
use crate::model::frame::{Framing, write_event};

/// The media type of server-sent events.
pub const EVENT_STREAM: &str = "text/event-stream";

/// Whether the client explicitly accepts this media type.
#[must_use]
pub fn is_wanted(headers: &HeaderMap, media_type: &str) -> bool {
    accept::items(headers, &ACCEPT).contains(&(media_type.to_owned(), true))
}

/// Checks that the client accepts an event stream.
///
/// # Errors
/// 406 if the client does not accept an event stream.
pub fn require_acceptable(headers: &HeaderMap) -> Result<(), ApiError> {
    let ranges = accept::items(headers, &ACCEPT);
    // The most specific range decides.
    let decided = [EVENT_STREAM, "text/*", "*/*"]
        .iter()
        .find_map(|name| ranges.iter().find(|(range, _)| range == name));
    // Some generated clients accept only the media type of errors, whatever the endpoint returns.
    let of_errors = |(range, _): &(String, bool)| range == "application/problem+json";
    let accepts = match decided {
        Some((_, accepted)) => *accepted,
        None => ranges.iter().all(of_errors),
    };
    if accepts {
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
