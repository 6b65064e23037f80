//! `GET /v1/entries`: reads entries of several streams in one response, like `XREAD`.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::http::error::ApiError;
use crate::http::error::problems::ManyProblems;
use crate::http::extract::access::{Caller, Subscribe};
use crate::http::extract::params::{DurationParam, at_most_streams, bounded, bounded_wait};
use crate::http::extract::stream_param;
use crate::http::extract::{Query, id};
use crate::http::layer::compress::compressed;
use crate::http::layer::request::{RequestInfo, Waited};
use crate::http::openapi::text::{StartText, StreamAtText, WaitText};
use crate::http::paths;
use crate::http::respond::gap::SkippedGap;
use crate::http::respond::json::Json;
use crate::http::respond::schema::EntryOut;
use crate::http::respond::view::view;
use crate::http::state::AppState;
use crate::live::RangeWait;
use crate::model::entry::View;
use crate::model::id::EntryId;
use crate::model::name::StreamName;
use crate::model::position::{Position, Start};
use crate::redis::{Lane, RangePage};

/// Maximum bytes of entries in one response, over all streams.
const MAX_BYTES: usize = 4 << 20;

/// Streams to read and their starting positions.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ManyParams {
    /// A stream as `NAME@POSITION`. Repeat the parameter for each stream, at most 256 times; the
    /// same stream may appear twice. A stream without a position starts at `after`.
    #[serde(default)]
    #[param(required = true, example = json!(["orders@0", "payments@$"]), value_type = Vec<StreamAtText>, inline, min_items = 1, max_items = 256)]
    stream: Vec<String>,
    /// Start for streams without a position: a position, `0`, `$` (the default) or `+`.
    #[param(value_type = Option<StartText>, inline)]
    after: Option<String>,
    /// Maximum number of entries of each stream: 1 to 1000, default 100.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u64>,
    /// Time to wait for an entry if none of the streams has one, at most 60s.
    #[param(value_type = Option<WaitText>, example = "20s", inline)]
    wait: Option<DurationParam>,
    /// Returns each entry as `{"id","payload"}`, with the value of this field as the payload.
    payload: Option<String>,
    /// Returns the payload as JSON. The payload is the field `data` unless `payload` names another.
    /// A payload that is not valid JSON stays text and is marked with `"json":false`.
    #[serde(default)]
    #[param(required = false)]
    json: bool,
    /// Returns the fields of every entry as `pairs`.
    #[serde(default)]
    #[param(required = false)]
    pairs: bool,
}

/// Entries of several streams.
#[derive(Serialize, ToSchema)]
pub struct ManyEntries {
    /// One item per requested stream, in the order of the request, including streams without new
    /// entries.
    streams: Vec<OfStream>,
}

/// Entries of one stream.
#[derive(Serialize, ToSchema)]
pub struct OfStream {
    /// Name of the stream.
    stream: String,
    /// Entries, oldest first.
    entries: Vec<EntryOut>,
    /// Position to read from next.
    next: String,
    /// Entries that were removed before the first entry of this response.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    gap: Option<SkippedGap>,
}

/// Read several streams
///
/// With `wait`, responds as soon as one of the streams has an entry. A stream that does not exist
/// counts as empty. A gap is reported next to the entries that follow it.
#[utoipa::path(
    get,
    path = paths::MANY,
    tag = "entries",
    params(ManyParams),
    responses((status = 200, description = "Entries", body = ManyEntries), ManyProblems),
)]
pub async fn read_many(
    caller: Caller,
    Query(params): Query<ManyParams>,
    State(state): State<AppState>,
    info: RequestInfo,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let limit = bounded("limit", params.limit, 100, 1000)?;
    let wait = bounded_wait("wait", params.wait.unwrap_or_default())?;
    let asked = asked(&caller, &params)?;
    let starts = asked
        .iter()
        .map(|(stream, start)| resolve(&state, stream, *start));
    let starts = try_join_all(starts).await?;
    let from: Vec<_> = asked
        .into_iter()
        .map(|(stream, _)| stream)
        .zip(starts)
        .collect();
    let waiting = state.waiting_slot(wait)?;
    let max_bytes = (MAX_BYTES / from.len()).max(1);
    let read = RangeWait {
        from: &from,
        limit,
        max_bytes,
    };
    let stretches = state
        .hub
        .read_or_wait(&read, wait)
        .await
        .map_err(ApiError::of_read)?;
    let view = Arc::new(view(
        params.payload.as_deref(),
        params.json,
        params.pairs,
        None,
    )?);
    let streams = from.iter().zip(stretches);
    let streams = streams
        .map(|((stream, after), read)| stream_page(stream, *after, read, &view))
        .collect();
    let answer = (
        waiting.map(|_| Extension(Waited)),
        Json(ManyEntries { streams }),
    );
    Ok(compressed(&state, &headers, &info, answer.into_response()).await)
}

fn asked(caller: &Caller, params: &ManyParams) -> Result<Vec<(StreamName, Start)>, ApiError> {
    if params.stream.is_empty() {
        return Err(ApiError::invalid("`stream` is required").at("stream", "is missing"));
    }
    at_most_streams(params.stream.len())?;
    let after = match &params.after {
        Some(after) => id("after", after, str::parse)?,
        None => Start::Tail,
    };
    let one = |text: &String| {
        let (name, start) = stream_param::stream(text)?;
        Ok((
            caller.access::<Subscribe>(&name)?.into_stream(),
            start.unwrap_or(after),
        ))
    };
    params.stream.iter().map(one).collect()
}

async fn resolve(
    state: &AppState,
    stream: &StreamName,
    start: Start,
) -> Result<Position, ApiError> {
    let found = match start {
        Start::After(position) => return Ok(position),
        Start::Tail => state
            .store
            .facts(&Lane::Shared, stream)
            .await
            .map(|facts| facts.tail()),
        Start::LastEntry => state
            .store
            .before_last(stream, 1, EntryId::MAX)
            .await
            .map(|(before, _)| before),
    };
    found.map_err(ApiError::of_read)
}

fn stream_page(
    stream: &StreamName,
    after: Position,
    read: RangePage,
    view: &Arc<View>,
) -> OfStream {
    let gap = SkippedGap::of(after, read.standing);
    let next = match &gap {
        Some(gap) if gap.is_reset() => Position::START,
        Some(_) => read.end(read.facts.after_gap()),
        None => read.end(after),
    };
    let entry = |entry| EntryOut {
        entry,
        view: view.clone(),
    };
    OfStream {
        stream: stream.public_name().into_owned(),
        entries: read.entries.into_iter().map(entry).collect(),
        next: next.to_string(),
        gap,
    }
}
