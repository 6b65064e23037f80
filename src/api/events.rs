//! `GET /v1/streams/{stream}/events`: following a stream by server-sent events.
//!
//! An `EventSource` gives up for good on any status but 200. So a status is only answered for what
//! a retry cannot mend; everything else is told in the stream, which then ends and is asked for
//! again. Clients that do not ask for an event stream get a status as from any other call.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;
use utoipa::IntoParams;

use super::access::{Access, Subscribe};
use super::error::{ApiError, ErrorCode};
use super::event_stream::{self, EVENT_STREAM};
use super::extract::{Query, id};
use super::params::{TimeParam, at_most_one, bounded};
use super::paths;
use super::problems::EventsProblems;
use super::request::RequestInfo;
use crate::live::{Begin, Closing, JoinError, Subscription};
use crate::metrics::Metrics;
use crate::model::entry::View;
use crate::model::frame::Framing;
use crate::model::name::StreamName;
use crate::model::page::EventView;
use crate::model::position::Start;
use crate::state::AppState;
use crate::store::StoreError;

/// The greatest `last=`: as many as a first page holds.
const MAX_LAST: u64 = 500;

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
    /// In place of the header, for clients that cannot send one.
    last_event_id: Option<String>,
    /// The same, in the spelling of some polyfills.
    #[serde(rename = "lastEventId")]
    #[param(rename = "lastEventId")]
    last_event_id_camel: Option<String>,
    /// Show each entry as `{"stream","id","payload"}`, with the value of this field.
    payload: Option<String>,
    /// The field whose value names the event.
    event: Option<String>,
    /// Show fields as `pairs` throughout.
    #[serde(default)]
    #[param(required = false)]
    pairs: bool,
}

/// Follow a stream
///
/// Server-sent events: first `$open`, then an event per entry with its position as `id`. After a
/// lost connection the client goes on where it was, by `Last-Event-ID`. `$gap` tells how many
/// entries are gone, `$reset` that the stream was made anew, `$end` that the connection ends and
/// why, `$error` that it makes no sense to go on.
#[utoipa::path(
    get,
    path = paths::EVENTS,
    tag = "events",
    params(
        ("stream" = String, Path, description = "The stream; it need not exist yet"),
        ("Last-Event-ID" = Option<String>, Header, description = "The `id` of the last event received"),
        EventsParams,
    ),
    responses(
        (status = 200, description = "Events", body = String, content_type = EVENT_STREAM),
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
    event_stream::require_acceptable(&headers)?;
    let begin = begin(&params, &headers)?;
    let view = EventView {
        entry: View { payload: params.payload, pairs: params.pairs },
        event: params.event,
        framing: Framing::Events,
    };
    match open(&state, access.into_stream(), begin, view).await {
        Ok(subscription) => Ok(event_stream::live(subscription, request)),
        Err(Refused(_, error)) if !event_stream::is_wanted(&headers, EVENT_STREAM) => Err(error),
        Err(Refused(Some(closing), _)) => Ok(event_stream::closed(closing)),
        Err(Refused(None, error)) => Ok(event_stream::failed(&error, &request)),
    }
}

fn begin(params: &EventsParams, headers: &HeaderMap) -> Result<Begin, ApiError> {
    let header = match headers.get("last-event-id") {
        Some(value) => Some(value.to_str().map_err(|_| {
            ApiError::new(ErrorCode::InvalidId, "`Last-Event-ID` is not a position")
        })?),
        None => None,
    };
    let resumed = [header, params.last_event_id.as_deref(), params.last_event_id_camel.as_deref()];
    if let Some(text) = resumed.into_iter().flatten().find(|text| !text.is_empty()) {
        return id("Last-Event-ID", text, str::parse).map(Begin::After);
    }
    at_most_one(&[
        ("after", params.after.is_some()),
        ("since", params.since.is_some()),
        ("last", params.last.is_some()),
    ])?;
    if let Some(after) = &params.after {
        return Ok(match id("after", after, str::parse)? {
            Start::After(position) => Begin::After(position),
            Start::Tail => Begin::Tail,
            Start::LastEntry => Begin::Last(1),
        });
    }
    if let Some(TimeParam(since)) = params.since {
        return Ok(Begin::Since(since));
    }
    match params.last {
        Some(last) => bounded("last", Some(last), 1, MAX_LAST).map(Begin::Last),
        None => Ok(Begin::Tail),
    }
}

/// Why a subscription was not opened: how the stream ends if a retry may mend it, and as a problem.
pub(super) struct Refused(pub(super) Option<Closing>, pub(super) ApiError);

/// Opens a subscription within the bound on them.
pub(super) async fn open(
    state: &AppState,
    stream: StreamName,
    begin: Begin,
    view: EventView,
) -> Result<Subscription, Refused> {
    if state.drain.is_cancelled() {
        let error = ApiError::new(ErrorCode::Draining, "the gateway is stopping");
        return Err(Refused(Some(Closing::Draining), error));
    }
    let Some(counted) =
        Metrics::hold_below(&state.metrics.subscriptions, state.settings.max_subscriptions)
    else {
        state.metrics.refuse("subscriptions");
        let error =
            ApiError::new(ErrorCode::Overloaded, "as many subscriptions are open as may be");
        return Err(Refused(Some(Closing::Overloaded), error));
    };
    let (hub, heartbeat, drain) =
        (state.hub.clone(), state.settings.heartbeat, state.drain.clone());
    Subscription::open(hub, stream, begin, view, heartbeat, drain, counted).await.map_err(|error| {
        let closing = match &error {
            JoinError::TooManyStreams | JoinError::Store(StoreError::Exhausted(_)) => {
                Some(Closing::Overloaded)
            }
            JoinError::Store(error) if error.is_outage() => Some(Closing::RedisUnavailable),
            JoinError::Store(_) => None,
        };
        Refused(closing, ApiError::of_read(error))
    })
}
