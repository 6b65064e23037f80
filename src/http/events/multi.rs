//! `GET /v1/events`: follow many streams on one connection.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::auth::{self, CredentialKind, Principal};
use crate::http::error::problems::ManyEventsProblems;
use crate::http::error::{ApiError, ErrorCode};
use crate::http::events::schema::StreamEvent;
use crate::http::events::stream::{self, EVENT_STREAM};
use crate::http::events::subscribe::{
    ResumeParams, begin, begin_at, end, filter, follow, is_beginning, resumed,
};
use crate::http::extract::access::{Caller, Subscribe};
use crate::http::extract::params::{TimeParam, at_most_streams};
use crate::http::extract::stream_param;
use crate::http::extract::{Query, id};
use crate::http::layer::request::RequestInfo;
use crate::http::openapi::text::{
    EndText, FilterText, MatchText, StartText, StreamAtText, TimeText,
};
use crate::http::paths;
use crate::http::respond::view::{ViewParam, view};
use crate::http::state::AppState;
use crate::live::{PrefixStart, SubscribeRequest, SubscribeStart, Visible};
use crate::model::cursor::StreamsCursor;
use crate::model::entry::AsEvent;
use crate::model::frame::Framing;
use crate::model::glob::NamePattern;
use crate::model::name::StreamName;
use crate::model::position::Position;
use crate::model::view::EventView;

/// Streams, start positions and format of events. A `Last-Event-ID` header overrides all positions.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ManyEventsParams {
    /// `NAME` or `NAME@POSITION`, repeated for each stream; at most 256 together with `match`.
    #[serde(default)]
    #[param(required = false, example = json!(["orders@0", "payments"]), value_type = Vec<StreamAtText>, inline, max_items = 256)]
    stream: Vec<String>,
    /// `PREFIX*`: all streams whose names start with the prefix, including streams created later.
    #[serde(default, rename = "match")]
    #[param(rename = "match", required = false, example = json!(["sensor:*"]), value_type = Vec<MatchText>, inline)]
    matching: Vec<String>,
    /// Start position of streams without their own: a position, `0`, `$` (the default) or `+`.
    #[param(value_type = Option<StartText>, inline)]
    after: Option<String>,
    /// For streams without their own position: start with entries from this time on.
    #[param(value_type = Option<TimeText>, example = "1h", inline)]
    since: Option<TimeParam>,
    /// For streams without their own position: start with this many of the last entries of each
    /// stream, at most 500.
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

/// Follow several streams
///
/// Follows several streams like a single one, with one cursor for all of them as the `id` of every
/// event. A client that resumes with the cursor continues in each stream at its position. Streams
/// that the cursor does not contain are read from their oldest entry. Entries of one stream arrive
/// in order.
#[utoipa::path(
    get,
    path = paths::MANY_EVENTS,
    tag = "events",
    params(
        ("Last-Event-ID" = Option<String>, Header, description = "The `id` of the last event received"),
        ManyEventsParams,
    ),
    responses(
        (status = 200, description = "Events", body = StreamEvent, content_type = EVENT_STREAM),
        (status = 204, description = "With `end`: the client resumed and no entries are left"),
        ManyEventsProblems,
    ),
)]
pub async fn follow_many(
    caller: Caller,
    Query(params): Query<ManyEventsParams>,
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
    let from_beginning = resumed.is_some_and(is_beginning);
    let cursor = match resumed {
        Some(_) if from_beginning => Some(StreamsCursor::default()),
        Some(text) => Some(id("Last-Event-ID", text, StreamsCursor::parse)?),
        None => None,
    };
    let end = match &params.end {
        Some(_) if params.matching.iter().any(|text| text.ends_with('*')) => {
            let detail = "`end` cannot be combined with a prefix in `match`, which also includes streams created later";
            return Err(
                ApiError::invalid(detail).at("end", "cannot be combined with a prefix in `match`")
            );
        }
        Some(text) => Some(end(&state, text).await?),
        None => None,
    };
    let default = begin(params.after.as_deref(), params.since, params.last)?;
    let (streams, prefixes) = asked(&caller, &params, default, cursor.as_ref())?;
    let event = params
        .shown_as
        .map(|ViewParam::CloudEvents| AsEvent::WithStream);
    let view = EventView {
        entry: view(params.payload.as_deref(), params.json, params.pairs, event)?,
        event: params.event,
        filter: filter(&params.filter)?,
        framing: Framing::Events,
        namespace: caller.0.namespace.clone(),
    };
    let matched = match cursor {
        Some(_) if from_beginning => PrefixStart::At(SubscribeStart::After(Position::OLDEST)),
        Some(cursor) => PrefixStart::Resumed(cursor),
        None => PrefixStart::At(default),
    };
    let visible = visible(&caller.0).filter(|_| !prefixes.is_empty());
    let wanted = SubscribeRequest {
        streams,
        prefixes,
        matched,
        end,
        many: true,
        visible,
        view,
    };
    follow(
        &state,
        &caller.0,
        (wanted, resumed.is_some()),
        &headers,
        &request,
    )
    .await
}

/// Returns a filter for the streams that the principal may follow, or `None` if it may follow all.
fn visible(principal: &Arc<Principal>) -> Option<Visible> {
    if principal.kind == CredentialKind::Anyone {
        return None;
    }
    let principal = principal.clone();
    Some(Arc::new(move |stream| {
        let own = principal.namespace.adopt(stream);
        own.is_some_and(|stream| principal.may(auth::Right::Subscribe, &stream.public_name()))
    }))
}

/// Returns the key prefixes of the streams under `prefix` that the principal may follow.
fn beginnings(principal: &Principal, prefix: &str) -> Result<Vec<String>, ApiError> {
    let narrowed = principal.narrow(auth::Right::Subscribe, prefix);
    if narrowed.is_empty() {
        let detail = format!(
            "the credential does not grant the `subscribe` right on any stream `{prefix}*`"
        );
        let error = ApiError::new(ErrorCode::Forbidden, detail).with("right", "subscribe");
        return Err(error.with("stream", format!("{prefix}*")));
    }
    Ok(narrowed
        .iter()
        .flat_map(|one| principal.namespace.beginnings(one))
        .collect())
}

type RequestedStreams = (Vec<(StreamName, SubscribeStart)>, Vec<String>);

fn asked(
    caller: &Caller,
    params: &ManyEventsParams,
    default: SubscribeStart,
    cursor: Option<&StreamsCursor>,
) -> Result<RequestedStreams, ApiError> {
    if params.stream.is_empty() && params.matching.is_empty() {
        let detail = "at least one `stream` or `match` is required";
        return Err(ApiError::invalid(detail).at("stream", "is required"));
    }
    at_most_streams(params.stream.len() + params.matching.len())?;
    let mut streams: Vec<(StreamName, SubscribeStart)> = Vec::new();
    let mut prefixes = Vec::new();
    let mut follow = |name: &str, begin| {
        let stream = caller.access::<Subscribe>(name)?.into_stream();
        if streams.iter().any(|(known, _)| *known == stream) {
            return Err(ApiError::invalid(format!("`{name}` is given twice"))
                .at("stream", "must name each stream only once"));
        }
        // A stream that the cursor does not contain is read from its oldest entry.
        let known = cursor.map(|cursor| cursor.of(&stream).unwrap_or(Position::OLDEST));
        streams.push((stream, known.map_or(begin, SubscribeStart::After)));
        Ok(())
    };
    for text in &params.stream {
        let (name, start) = stream_param::stream(text)?;
        follow(&name, start.map_or(default, begin_at))?;
    }
    for text in &params.matching {
        match stream_param::pattern(text)? {
            NamePattern::Prefix(prefix) => prefixes.extend(beginnings(&caller.0, &prefix)?),
            NamePattern::One(name) => follow(&name, default)?,
        }
    }
    Ok((streams, prefixes))
}
