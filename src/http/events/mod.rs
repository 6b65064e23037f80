//! `GET /v1/streams/{stream}/events`: following a stream by server-sent events.
//!
//! An `EventSource` gives up for good on any status but 200. So a status is only answered for what
//! a retry cannot mend; everything else is told in the stream, which then ends and is asked for
//! again. Clients that do not ask for an event stream get a status as from any other call.

pub(in crate::http) mod multi;
pub(in crate::http) mod schema;
pub(in crate::http) mod session;
pub(in crate::http) mod stream;
pub(in crate::http) mod subscribe;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::http::error::ApiError;
use crate::http::error::problems::EventsProblems;
use crate::http::events::schema::StreamEvent;
use crate::http::events::stream::EVENT_STREAM;
use crate::http::events::subscribe::{
    ResumeParams, begin, end, filter, follow, is_beginning, resumed,
};
use crate::http::extract::access::{Access, Subscribe};
use crate::http::extract::params::TimeParam;
use crate::http::extract::{Query, id};
use crate::http::layer::request::RequestInfo;
use crate::http::paths;
use crate::http::respond::view::{AsParam, view};
use crate::http::state::AppState;
use crate::live::{Begin, Matched, Wanted};
use crate::model::entry::AsEvent;
use crate::model::frame::Framing;
use crate::model::position::Position;
use crate::model::view::EventView;

/// Where to begin and how to show events. A `Last-Event-ID` header comes before all of these.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct EventsParams {
    /// After this position; `0` the oldest, `$` (the default) what comes from now on, `+` the last entry and on.
    #[param(example = "0")]
    after: Option<String>,
    /// Begin with the entries of this time and later: RFC 3339, Unix milliseconds, or how long ago.
    #[param(value_type = Option<String>, example = "1h")]
    since: Option<TimeParam>,
    /// Begin with the last so many entries, at most 500.
    #[param(minimum = 1, maximum = 500)]
    last: Option<u64>,
    /// Hand out entries up to this position or time, and then `$end` with the reason `complete`.
    /// Whoever resumes with nothing left gets 204. `$` is the last entry there is when it is opened.
    #[param(example = "2026-09-20T08:30:00Z")]
    end: Option<String>,
    /// Replaces the header for clients that cannot send one; the last value given counts. Not in the
    /// document: generated clients send the header, and spellings of a name collide in some languages.
    #[serde(default)]
    #[param(ignore)]
    last_event_id: Vec<String>,
    /// The same, in the spelling of some polyfills; before `last_event_id`.
    #[serde(default, rename = "lastEventId")]
    #[param(ignore)]
    last_event_id_camel: Vec<String>,
    /// Show each entry as `{"stream","id","payload"}`, with the value of this field.
    payload: Option<String>,
    /// `cloudevents`: each entry as an event after `CloudEvents` 1.0, in JSON.
    #[serde(rename = "as")]
    #[param(rename = "as", inline)]
    shown_as: Option<AsParam>,
    /// The field whose value names the event.
    event: Option<String>,
    /// `FIELD:VALUE`: only entries with this value. Values of one field are alternatives, fields must all fit.
    #[serde(default)]
    #[param(required = false, example = json!(["type:paid"]))]
    filter: Vec<String>,
    /// Show the payload (field `data` unless named) as the JSON it is; one that is none stays text and
    /// is marked by `"json":false`.
    #[serde(default)]
    #[param(required = false)]
    json: bool,
    /// Show fields as `pairs` throughout.
    #[serde(default)]
    #[param(required = false)]
    pairs: bool,
}

/// Follow a stream
///
/// Server-sent events: first `$open`, then one event per entry with its position as `id`. After a
/// lost connection a client resumes with `Last-Event-ID`. `$gap` reports how many entries are gone,
/// `$reset` that the stream was created again, `$progress` that the position moved without an
/// event, `$end` that the connection ends and why, `$error` that reconnecting cannot succeed.
#[utoipa::path(
    get,
    path = paths::EVENTS,
    tag = "events",
    params(
        ("stream" = String, Path, description = "The stream; it need not exist yet"), ("name64" = Option<String>, Query, description = "The name of the stream in base64, where a path cannot carry it; the name in the path then counts for nothing"),
        ("Last-Event-ID" = Option<String>, Header, description = "The `id` of the last event received"),
        EventsParams,
    ),
    responses(
        (status = 200, description = "Events", body = StreamEvent, content_type = EVENT_STREAM),
        (status = 204, description = "With `end`, to whoever resumes: nothing is left"),
        EventsProblems,
    ),
)]
pub async fn follow_events(
    access: Access<Subscribe>,
    Query(params): Query<EventsParams>,
    State(state): State<AppState>,
    request: RequestInfo,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    stream::require_acceptable(&headers)?;
    let ids = ResumeParams {
        by_polyfill: &params.last_event_id_camel,
        by_page: &params.last_event_id,
    };
    let resumed = resumed(&headers, &ids)?;
    let begin = match resumed {
        Some(text) if is_beginning(text) => Begin::After(Position::OLDEST),
        Some(text) => id("Last-Event-ID", text, str::parse).map(Begin::After)?,
        None => begin(params.after.as_deref(), params.since, params.last)?,
    };
    let end = match &params.end {
        Some(text) => Some(end(&state, text).await?),
        None => None,
    };
    let event = params.shown_as.map(|AsParam::CloudEvents| AsEvent::Alone);
    let view = EventView {
        entry: view(params.payload.as_deref(), params.json, params.pairs, event)?,
        event: params.event,
        filter: filter(&params.filter)?,
        framing: Framing::Events,
        namespace: access.principal().namespace.clone(),
    };
    let principal = access.principal().clone();
    let wanted = Wanted {
        streams: vec![(access.into_stream(), begin)],
        prefixes: Vec::new(),
        matched: Matched::At(begin),
        end,
        many: false,
        visible: None,
        view,
    };
    follow(
        &state,
        &principal,
        (wanted, resumed.is_some()),
        &headers,
        &request,
    )
    .await
}
