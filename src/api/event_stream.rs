//! Answers that are event streams: who asks for one, its headers, how it is filled and ended.

use std::convert::Infallible;
use std::time::Instant;

use axum::body::Body;
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

use super::error::{ApiError, ErrorCode};
use super::request::RequestInfo;
use crate::live::{Closing, Subscription};
use crate::model::frame::{Framing, write_event};

/// The media type.
pub const EVENT_STREAM: &str = "text/event-stream";

/// Whether the client asks for this media type by name.
#[must_use]
pub fn is_wanted(headers: &HeaderMap, media_type: &str) -> bool {
    accepted(headers).iter().any(|range| range == media_type)
}

/// The media ranges of `Accept`, without their parameters.
fn accepted(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let ranges = values.flat_map(|value| value.split(','));
    let range =
        |range: &str| range.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    ranges.map(range).filter(|range| !range.is_empty()).collect()
}

/// # Errors
/// 406 when the client accepts no event stream.
pub fn require_acceptable(headers: &HeaderMap) -> Result<(), ApiError> {
    let ranges = accepted(headers);
    let fits = |range: &String| matches!(range.as_str(), EVENT_STREAM | "text/*" | "*/*");
    if ranges.is_empty() || ranges.iter().any(fits) {
        return Ok(());
    }
    Err(ApiError::new(
        ErrorCode::NotAcceptable,
        "this is an event stream: accept text/event-stream",
    ))
}

/// A stream of events that is nothing but its end.
#[must_use]
pub fn closed(closing: Closing) -> Response {
    respond(Body::from(closing.frame(None, Framing::Events)))
}

/// The stream of a subscription.
#[must_use]
pub fn live(subscription: Subscription, request: RequestInfo) -> Response {
    respond(events(subscription, request, error_frame))
}

/// A stream of events that is nothing but `$error`.
#[must_use]
pub fn failed(error: &ApiError, request: &RequestInfo) -> Response {
    respond(Body::from(error_frame(error, request)))
}

/// Writes what ends a subscription before its time.
type Failed = fn(&ApiError, &RequestInfo) -> Bytes;

/// What a subscription hands out, and a line in the log when it is over. `failed` writes what ends
/// it before its time.
pub fn events(subscription: Subscription, request: RequestInfo, failed: Failed) -> Body {
    let session = Session { began: Instant::now(), request };
    let next = async |(mut subscription, session, failed): (Subscription, Session, Failed)| {
        let bytes = match subscription.next().await? {
            Ok(bytes) => bytes,
            Err(error) => failed(&ApiError::of_read(error), &session.request),
        };
        Some((Ok::<_, Infallible>(bytes), (subscription, session, failed)))
    };
    Body::from_stream(futures_util::stream::unfold((subscription, session, failed), next))
}

/// A line in the log when a subscription is over, however it ended.
struct Session {
    began: Instant,
    request: RequestInfo,
}

impl Drop for Session {
    fn drop(&mut self) {
        let seconds = self.began.elapsed().as_secs();
        let (path, id) = (self.request.path(), self.request.id());
        tracing::info!(path, seconds, request_id = id, "subscription over");
    }
}

/// `$error`, with a long delay: someone has to do something first.
fn error_frame(error: &ApiError, request: &RequestInfo) -> Bytes {
    let mut frame = Vec::new();
    let problem = request.problem(error);
    write_event(&mut frame, None, Some("$error"), Some(fastrand::u64(10_000..30_000)), &problem);
    frame.into()
}

/// The headers that keep proxies from holding events back.
fn respond(body: Body) -> Response {
    let headers = [
        (CONTENT_TYPE, EVENT_STREAM),
        (CACHE_CONTROL, "no-cache, no-transform"),
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    let headers: HeaderMap =
        headers.into_iter().map(|(name, value)| (name, HeaderValue::from_static(value))).collect();
    (headers, body).into_response()
}
