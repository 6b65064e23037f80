//! Requests that are answered with nothing but that there are too many: of connections, or of
//! requests of one client. Known before anything else of a request is looked at.

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
use crate::model::frame::{begin_event, end_event};
use crate::rate_limit::RetryAfter;

/// Why; set on requests by what serves connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnedAway {
    /// As many connections are open as may be.
    Overloaded,
    /// As many connections of this client are open as may be.
    TooManyConnections,
    /// This client asks too often.
    TooOften(RetryAfter),
}

#[derive(Serialize)]
struct End {
    reason: &'static str,
}

/// The answer to a request that is turned away: in the stream for those who ask for events, since a
/// retry can mend it.
pub fn answer(request: &Request) -> Option<Response> {
    let turned_away = *request.extensions().get::<TurnedAway>()?;
    Some(refuse(turned_away, in_stream(request)))
}

/// What somebody whose requests are counted is told of their quota, with every answer.
#[derive(Clone, Debug)]
pub struct Standing {
    /// An item of `RateLimit-Policy`.
    pub policy: HeaderValue,
    /// An item of `RateLimit`.
    pub item: HeaderValue,
}

/// The name of the bound in `RateLimit`.
const PRINCIPAL: &str = "principal";

impl Standing {
    /// Tells it.
    pub fn tell(self, headers: &mut HeaderMap) {
        headers.append("ratelimit-policy", self.policy);
        headers.append("ratelimit", self.item);
    }
}

/// Whether whoever is turned away is told so in the stream: who sends something is not to take a
/// stream that begins with 200 for success.
fn in_stream(request: &Request) -> bool {
    request.method() == Method::GET && stream::is_wanted(request.headers(), EVENT_STREAM)
}

/// Counts a request of a principal that may ask only so often, and notes what is left to it in the
/// extensions of the request.
///
/// # Errors
/// The answer, when it is one too many.
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
        // Quotas are numbers and names of ours, which are always fit for a header.
        let (policy, item) = (HeaderValue::try_from(&policy).ok()?, item.try_into().ok()?);
        Some(Standing { policy, item })
    };
    match bucket.take() {
        Ok(remaining) => {
            let standing = standing(remaining.item(PRINCIPAL));
            standing.map(|standing| request.extensions_mut().insert(standing));
            Ok(())
        }
        Err(after) => {
            state.metrics.refuse("rate_of_principal");
            let mut answer = refuse(TurnedAway::TooOften(after), in_stream(request));
            if let Some(standing) = standing(after.item(PRINCIPAL)) {
                standing.tell(answer.headers_mut());
            }
            Err(Box::new(answer))
        }
    }
}

/// The same, for whoever knows by themselves that a client asks too often.
#[must_use]
pub fn refuse(turned_away: TurnedAway, in_stream: bool) -> Response {
    let (code, reason, detail) = match turned_away {
        TurnedAway::Overloaded => (
            ErrorCode::Overloaded,
            "overloaded",
            "as many connections are open as may be",
        ),
        TurnedAway::TooManyConnections => (
            ErrorCode::TooManyConnections,
            "too-many-connections",
            "this client has as many connections as one may have",
        ),
        TurnedAway::TooOften(_) => (
            ErrorCode::RateLimited,
            "rate-limited",
            "this client asks more often than it may; `RateLimit` tells what is left to it",
        ),
    };
    let after = match turned_away {
        TurnedAway::TooOften(after) => after,
        _ => RetryAfter(Duration::from_secs(1)),
    };
    if in_stream {
        let mut frame = Vec::new();
        // Spread, so that not all come at once.
        let least = u64::try_from(after.0.as_millis())
            .unwrap_or(u64::MAX)
            .clamp(1_000, 86_400_000);
        let retry_ms = fastrand::u64(least..least + 2_000);
        begin_event(&mut frame, Some("$end"), Some(retry_ms), &End { reason });
        end_event(&mut frame, None);
        return stream::respond(Body::from(frame));
    }
    let mut response = ApiError::new(code, detail).into_response();
    response
        .headers_mut()
        .insert(RETRY_AFTER, HeaderValue::from(after.seconds()));
    response
}
