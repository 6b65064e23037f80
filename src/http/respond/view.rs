//! How entries are shown: `payload=`, `json=`, `pairs=`, and as `CloudEvents`.

use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::http::error::{ApiError, ErrorCode};
use crate::http::events::stream;
use crate::http::extract::params::at_most_one;
use crate::model::entry::{AsEvent, View};

/// One event.
pub(in crate::http) const EVENT: &str = "application/cloudevents+json";
/// A list of events.
pub(in crate::http) const EVENTS: &str = "application/cloudevents-batch+json";

/// The field of a payload whose field is not named, as in an append.
const PAYLOAD: &str = "data";

/// `as=`: another form of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AsParam {
    /// Events after `CloudEvents` 1.0, in JSON.
    CloudEvents,
}

/// The view of entries that some parameters ask for.
///
/// # Errors
/// 400 for two of them that exclude each other.
pub(in crate::http) fn view(
    payload: Option<&str>,
    json: bool,
    pairs: bool,
    event: Option<AsEvent>,
) -> Result<View, ApiError> {
    let given = [
        ("payload", payload.is_some()),
        ("json", json),
        ("pairs", pairs),
    ];
    if event.is_some()
        && let Some((name, _)) = given.iter().find(|(_, given)| *given)
    {
        let detail = format!("`{name}` does not go with events: an event has its own form");
        return Err(ApiError::invalid(detail.clone()).at(*name, detail));
    }
    at_most_one(&[given[1], given[2]])?;
    let payload = payload.or(json.then_some(PAYLOAD)).map(ToOwned::to_owned);
    Ok(View {
        payload,
        json,
        pairs,
        event,
    })
}

/// Whether a client asks for a list of events.
pub(in crate::http) fn wants_events(headers: &HeaderMap) -> bool {
    stream::is_wanted(headers, EVENTS)
}

/// Whether a client asks for one event.
pub(in crate::http) fn wants_event(headers: &HeaderMap) -> bool {
    stream::is_wanted(headers, EVENT)
}

/// An answer of one event, or of a list of them.
pub(in crate::http) fn respond(media_type: &'static str, events: &impl Serialize) -> Response {
    match serde_json::to_vec(events) {
        Ok(mut text) => {
            text.push(b'\n');
            ([(CONTENT_TYPE, HeaderValue::from_static(media_type))], text).into_response()
        }
        Err(_) => {
            ApiError::new(ErrorCode::Internal, "the answer cannot be written").into_response()
        }
    }
}
