//! Rejections for too many connections, or too many requests of one client. The gateway decides on
//! them before it looks at anything else in a request.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;

use crate::auth::Principal;
use crate::http::error::{ApiError, ErrorCode};
use crate::http::events::stream::{self, EVENT_STREAM};
use crate::http::state::AppState;
use crate::model::frame::write_event;
use crate::rate_limit::RetryAfter;

/// Reason of a rejection. The connection handler sets it on the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectedRequest {
    /// The gateway has reached its limit of connections.
    Overloaded,
    /// The client has reached its limit of connections.
    TooManyConnections,
    /// The client has reached its rate limit.
    TooOften(RetryAfter),
}

#[derive(Serialize)]
struct EndFrame {
    reason: &'static str,
}

/// Returns the response to a rejected request, if it is rejected. For event-stream clients, the
/// rejection is sent in the stream, because a retry can succeed.
pub fn answer(request: &Request) -> Option<Response> {
    let turned_away = *request.extensions().get::<RejectedRequest>()?;
    Some(refuse(turned_away, in_stream(request)))
}

/// Rate limit headers, sent with every response to a caller with a rate limit.
#[derive(Clone, Debug)]
pub struct RateLimitHeaders {
    /// An item of `RateLimit-Policy`.
    pub policy: HeaderValue,
    /// An item of `RateLimit`.
    pub item: HeaderValue,
}

/// Name of the rate limit of a principal in `RateLimit`.
const PRINCIPAL: &str = "principal";

impl RateLimitHeaders {
    /// Adds the headers to a response.
    pub fn write_headers(self, headers: &mut HeaderMap) {
        headers.append("ratelimit-policy", self.policy);
        headers.append("ratelimit", self.item);
    }
}

/// Reports whether a rejection is sent in an event stream. Requests other than GET are not: their
/// clients must not take a stream that starts with 200 for success.
fn in_stream(request: &Request) -> bool {
    request.method() == Method::GET && stream::is_wanted(request.headers(), EVENT_STREAM)
}

/// Counts a request of a principal with a rate limit, and stores the remaining quota in the
/// extensions of the request.
///
/// # Errors
/// The rejection, if the request exceeds the rate limit.
pub fn count(
    state: &AppState,
    principal: &Principal,
    request: &mut Request,
) -> Result<(), Box<Response>> {
    let Some(bucket) = &principal.usage.requests else {
        return Ok(());
    };
    let policy = bucket.quota().policy(PRINCIPAL);
    let standing = |item: String| {
        // The gateway builds quotas from numbers and its own names, which are valid header values.
        let (policy, item) = (HeaderValue::try_from(&policy).ok()?, item.try_into().ok()?);
        Some(RateLimitHeaders { policy, item })
    };
    match bucket.take() {
        Ok(remaining) => {
            let standing = standing(remaining.item(PRINCIPAL));
            standing.map(|standing| request.extensions_mut().insert(standing));
            Ok(())
        }
        Err(after) => {
            state.metrics.refuse("rate_of_principal");
            let mut answer = refuse(RejectedRequest::TooOften(after), in_stream(request));
            if let Some(standing) = standing(after.item(PRINCIPAL)) {
                standing.write_headers(answer.headers_mut());
            }
            Err(Box::new(answer))
        }
    }
}

/// Returns a rejection, for callers that detect the limit themselves.
#[must_use]
pub fn refuse(turned_away: RejectedRequest, in_stream: bool) -> Response {
    let (code, reason, detail) = match turned_away {
        RejectedRequest::Overloaded => (
            ErrorCode::Overloaded,
            "overloaded",
            "the gateway has reached its limit of connections; try again later",
        ),
        RejectedRequest::TooManyConnections => (
            ErrorCode::TooManyConnections,
            "too-many-connections",
            "this client has reached its limit of connections; close some or try again later",
        ),
        RejectedRequest::TooOften(_) => (
            ErrorCode::RateLimited,
            "rate-limited",
            "this client exceeds its rate limit; `RateLimit` has the remaining quota",
        ),
    };
    let after = match turned_away {
        RejectedRequest::TooOften(after) => after,
        _ => RetryAfter(Duration::from_secs(1)),
    };
    if in_stream {
        let mut frame = Vec::new();
        // Random delays spread the retries of many clients.
        let least = u64::try_from(after.0.as_millis())
            .unwrap_or(u64::MAX)
            .clamp(1_000, 86_400_000);
        let retry_ms = fastrand::u64(least..least + 2_000);
        write_event(
            &mut frame,
            Some("$end"),
            Some(retry_ms),
            &EndFrame { reason },
        );
        return stream::respond(Body::from(frame));
    }
    let mut response = ApiError::new(code, detail).into_response();
    response
        .headers_mut()
        .insert(RETRY_AFTER, HeaderValue::from(after.seconds()));
    response
}
