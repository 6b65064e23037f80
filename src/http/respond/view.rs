//! Views of entries: `payload=`, `json=`, `pairs=`, and `CloudEvents`.

use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::http::error::{ApiError, ErrorCode};
use crate::http::events::stream;
use crate::http::extract::params::at_most_one;
use crate::model::entry::{AsEvent, View};

/// Media type of one event.
pub(in crate::http) const EVENT: &str = "application/cloudevents+json";
/// Media type of a list of events.
pub(in crate::http) const EVENTS: &str = "application/cloudevents-batch+json";

/// Default payload field, as in an append.
const PAYLOAD: &str = "data";

/// Format of entries (`as=`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = AsParam)]
pub enum ViewParam {
    /// `CloudEvents` 1.0 events in JSON.
    CloudEvents,
}

/// Returns the view of entries that the parameters request.
///
/// # Errors
/// 400 for mutually exclusive parameters.
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
        let detail =
            format!("`{name}` cannot be combined with events, which have their own format");
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

/// Reports whether the client accepts a list of events.
pub(in crate::http) fn wants_events(headers: &HeaderMap) -> bool {
    stream::is_wanted(headers, EVENTS)
}

/// Reports whether the client accepts one event.
pub(in crate::http) fn wants_event(headers: &HeaderMap) -> bool {
    stream::is_wanted(headers, EVENT)
}

/// Responds with one event or a list of events.
pub(in crate::http) fn respond(media_type: &'static str, events: &impl Serialize) -> Response {
    match serde_json::to_vec(events) {
        Ok(mut text) => {
            text.push(b'\n');
            ([(CONTENT_TYPE, HeaderValue::from_static(media_type))], text).into_response()
        }
        Err(_) => {
            ApiError::new(ErrorCode::Internal, "the response cannot be serialized").into_response()
        }
    }
}
