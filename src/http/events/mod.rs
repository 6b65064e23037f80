//! `GET /v1/streams/{stream}/events`: follow a stream with server-sent events.
//!
//! An `EventSource` gives up permanently on any status except 200. The endpoint therefore returns
//! an error status only if a retry cannot succeed. It sends other errors as events and ends the
//! stream, so that the client reconnects. Clients that do not ask for an event stream get an error
//! status, as from any other endpoint.

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
use crate::http::openapi::text::{EndText, FilterText, StartText, StreamNameText, TimeText};
use crate::http::paths;
use crate::http::respond::view::{ViewParam, view};
use crate::http::state::AppState;
use crate::live::{PrefixStart, SubscribeRequest, SubscribeStart};
use crate::model::entry::AsEvent;
use crate::model::frame::Framing;
use crate::model::position::Position;
use crate::model::view::EventView;

/// Start position and format of events. A `Last-Event-ID` header overrides the position.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct EventsParams {
    /// Start after this position: `0` for the oldest entry, `$` (the default) for new entries only,
    /// `+` for the last entry and new ones.
    #[param(example = "0", value_type = Option<StartText>, inline)]
    after: Option<String>,
    /// Start with entries from this time on: RFC 3339, Unix milliseconds, or a duration before now.
    #[param(value_type = Option<TimeText>, example = "1h", inline)]
    since: Option<TimeParam>,
    /// Start with this many of the last entries, at most 500.
    #[param(minimum = 1, maximum = 500)]
    last: Option<u64>,
    /// Send entries up to this position or time, then `$end` with the reason `complete`. A client
    /// that resumes with nothing left gets 204. `$` is the last entry at the time of the request.
    #[param(example = "2026-09-20T08:30:00Z", value_type = Option<EndText>, inline)]
    end: Option<String>,
    /// Replaces the header for clients that cannot send it; the last value counts. Hidden in the
    /// OpenAPI document: generated clients send the header, and spelling variants collide in some
    /// languages.
    #[serde(default)]
    #[param(ignore)]
    last_event_id: Vec<String>,
    /// The same in the spelling of some polyfills. Takes precedence over `last_event_id`.
    #[serde(default, rename = "lastEventId")]
    #[param(ignore)]
    last_event_id_camel: Vec<String>,
    /// Show each entry as `{"stream","id","payload"}`, with the value of this field as the payload.
    payload: Option<String>,
    /// `cloudevents`: send each entry as a `CloudEvents` 1.0 event in JSON.
    #[serde(rename = "as")]
    #[param(rename = "as", inline)]
    shown_as: Option<ViewParam>,
    /// The field whose value becomes the event name.
    event: Option<String>,
    /// `FIELD:VALUE`: send only entries with this value. Values of one field are alternatives; all
    /// fields must match.
    #[serde(default)]
    #[param(required = false, example = json!(["type:paid"]), value_type = Vec<FilterText>, inline, max_items = 100)]
    filter: Vec<String>,
    /// Show the payload (field `data` by default) as JSON. A payload that is not valid JSON stays
    /// text and is marked with `"json":false`.
    #[serde(default)]
    #[param(required = false)]
    json: bool,
    /// Always show fields as `pairs`.
    #[serde(default)]
    #[param(required = false)]
    pairs: bool,
}

/// Follow a stream
///
/// Sends server-sent events: first `$open`, then one event per entry with its position as `id`.
/// After a lost connection, a client resumes with `Last-Event-ID`. `$gap` reports how many entries
/// were removed, `$reset` that the stream was created again, `$progress` that the position moved
/// without an event, `$end` that the connection ends and why, and `$error` that reconnecting cannot
/// succeed.
#[utoipa::path(
    get,
    path = paths::EVENTS,
    tag = "events",
    params(
        ("stream" = inline(StreamNameText), Path, description = "The stream, which need not exist yet"),
        ("Last-Event-ID" = Option<String>, Header, description = "The `id` of the last event received"),
        EventsParams,
    ),
    responses(
        (status = 200, description = "Events", body = StreamEvent, content_type = EVENT_STREAM),
        (status = 204, description = "With `end`: the client resumed and no entries are left"),
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
        Some(text) if is_beginning(text) => SubscribeStart::After(Position::OLDEST),
        Some(text) => id("Last-Event-ID", text, str::parse).map(SubscribeStart::After)?,
        None => begin(params.after.as_deref(), params.since, params.last)?,
    };
    let end = match &params.end {
        Some(text) => Some(end(&state, text).await?),
        None => None,
    };
    let event = params.shown_as.map(|ViewParam::CloudEvents| AsEvent::Alone);
    let view = EventView {
        entry: view(params.payload.as_deref(), params.json, params.pairs, event)?,
        event: params.event,
        filter: filter(&params.filter)?,
        framing: Framing::Events,
        namespace: access.principal().namespace.clone(),
    };
    let principal = access.principal().clone();
    let wanted = SubscribeRequest {
        streams: vec![(access.into_stream(), begin)],
        prefixes: Vec::new(),
        matched: PrefixStart::At(begin),
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
