//! `GET /v1/streams/{stream}/entries`: range reads, replay and long poll.

pub(in crate::http) mod lines;
pub(in crate::http) mod plan;

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::LINK;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::entries::append::body::accepts_lines;
use crate::http::entries::range::plan::{Plan, RangeParams, Upwards};
use crate::http::error::problems::RangeProblems;
use crate::http::error::{ApiError, ErrorCode};
use crate::http::extract::Query;
use crate::http::extract::access::{Access, Subscribe};
use crate::http::extract::params::GapParam;
use crate::http::layer::compress::compressed;
use crate::http::layer::request::{RequestInfo, Waited};
use crate::http::openapi::text::StreamNameText;
use crate::http::paths;
use crate::http::respond::gap::{SkippedGap, overtaken, require_stream};
use crate::http::respond::json::Json;
use crate::http::respond::schema::{CloudEvent, EntryOut};
use crate::http::respond::view;
use crate::http::state::AppState;
use crate::live::RangeWait;
use crate::model::cloudevent_out::EventJson;
use crate::model::duration;
use crate::model::entry::{AsEvent, Entry, View};
use crate::model::id::EntryId;
use crate::model::name::StreamName;
use crate::model::position::Position;
use crate::model::range::{Order, RangeCursor};
use crate::redis::{IdRangePage, Lane, RangePage, ReadPermit};

/// A page of entries.
#[derive(Serialize, ToSchema)]
pub struct EntriesPage {
    /// Entries in the requested order.
    entries: Vec<EntryOut>,
    /// The `cursor` of the next page; null if no page can follow.
    next: Option<String>,
    /// Whether the stream has no further entries for now, in the requested order.
    at_tail: bool,
    /// Entries that were removed before the first entry of this page; only with `gap=skip`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    gap: Option<SkippedGap>,
    #[serde(skip)]
    _permit: ReadPermit,
}

/// Read entries
///
/// Returns a page of entries. To read on without lost or repeated entries, pass `next` as `cursor`.
/// With `wait`, the call is a long poll: it responds as soon as there is an entry, or without
/// entries when the wait is over. With `Accept: application/x-ndjson`, the response is the whole
/// range, one entry per line; with `follow=true`, it continues with new entries. An error after the
/// first line is sent as a last line `{"error":…}`. With `Accept:
/// application/cloudevents-batch+json`, a page is a list of events, and the `Link` header has the
/// URL of the next page.
#[utoipa::path(
    get,
    path = paths::ENTRIES,
    tag = "entries",
    params(("stream" = inline(StreamNameText), Path, description = "The stream"), RangeParams),
    responses(
        (status = 200, description = "Entries", content(
            (EntriesPage = "application/json"),
            (EntryOut = "application/x-ndjson"),
            (Vec<CloudEvent> = "application/cloudevents-batch+json"),
        ), headers(("Link" = String, description = "The next page, rel=\"next\""))),
        RangeProblems,
    ),
)]
pub async fn read_entries(
    access: Access<Subscribe>,
    Query(params): Query<RangeParams>,
    State(state): State<AppState>,
    info: RequestInfo,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    if accepts_lines(&headers) {
        let follows = params.follow;
        let answer = lines::read(state.clone(), access, params, info.clone()).await?;
        if follows {
            return Ok(answer);
        }
        return Ok(compressed(&state, &headers, &info, answer).await);
    }
    let stream = access.into_stream();
    if !params.filter.is_empty() {
        let detail =
            "`filter` requires `follow=true` and `Accept: application/x-ndjson`; or use `/events`";
        return Err(ApiError::invalid(detail).at("filter", detail));
    }
    if params.follow {
        let detail =
            "`follow` requires `Accept: application/x-ndjson`; other clients use `/events`";
        return Err(ApiError::invalid(detail).at("follow", detail));
    }
    let as_events = view::wants_events(&headers);
    let event = as_events.then_some(AsEvent::Alone);
    let view = view::view(params.payload.as_deref(), params.json, params.pairs, event)?;
    if as_events && params.gap == Some(GapParam::Skip) {
        let detail = "`gap=skip` cannot be combined with events: an event list cannot report a gap";
        return Err(ApiError::invalid(detail).at("gap", detail));
    }
    let now = state
        .store
        .now_for(params.times())
        .await
        .map_err(ApiError::of_read)?;
    let plan = Plan::new(&params, now, false)?;
    let view = Arc::new(view);
    let page = match plan {
        Plan::Upwards(upwards) => read_upwards(&state, &stream, upwards, view).await,
        Plan::Last { count, upwards } => {
            let found = state.store.before_last(&stream, count, upwards.end).await;
            let (after, _) = found.map_err(ApiError::of_read)?;
            read_upwards(&state, &stream, Upwards { after, ..upwards }, view).await
        }
        Plan::Downwards {
            low,
            high,
            limit,
            max_bytes,
        } => {
            let read = state
                .store
                .read_between(&stream, Order::Desc, (low, high), limit, max_bytes)
                .await;
            let IdRangePage {
                entries,
                facts,
                ended,
                permit,
            } = read.map_err(ApiError::of_read)?;
            require_stream(&facts)?;
            let start = Some(low).filter(|low| *low > EntryId::MIN);
            let last = entries.last().map(|last| last.id);
            // No entry precedes the oldest one.
            let at_oldest =
                last.is_some_and(|last| facts.oldest.is_none_or(|oldest| last <= oldest));
            let at_tail = at_oldest || (ended && facts.oldest.is_none_or(|oldest| low <= oldest));
            let next = last.filter(|_| !ended && !at_oldest);
            let next = next.map(|before| RangeCursor::Desc { before, start }.to_string());
            Ok(EntriesPage {
                entries: entries_out(entries, &view),
                next,
                at_tail,
                gap: None,
                _permit: permit,
            })
        }
    }?;
    let link = page
        .next
        .as_ref()
        .map_or_else(String::new, |next| next_link(&stream, &params, next));
    let waited = params.wait.map(|_| Extension(Waited));
    let answer = if as_events {
        let name = stream.public_name();
        let events: Vec<_> = page
            .entries
            .iter()
            .map(|out| EventJson::new(&name, &out.entry))
            .collect();
        (waited, [(LINK, link)], view::respond(view::EVENTS, &events)).into_response()
    } else {
        (waited, [(LINK, link)], Json(page)).into_response()
    };
    Ok(compressed(&state, &headers, &info, answer).await)
}

fn entries_out(entries: Vec<Entry>, view: &Arc<View>) -> Vec<EntryOut> {
    entries
        .into_iter()
        .map(|entry| EntryOut {
            entry,
            view: view.clone(),
        })
        .collect()
}

async fn read_upwards(
    state: &AppState,
    stream: &StreamName,
    upwards: Upwards,
    view: Arc<View>,
) -> Result<EntriesPage, ApiError> {
    let mut after = upwards.after;
    if upwards.from_tail {
        let facts = state
            .store
            .facts(&Lane::Shared, stream)
            .await
            .map_err(ApiError::of_read)?;
        after = facts.tail();
    }
    let mut read = read(state, stream, &upwards, after).await?;
    if upwards.wait.is_none() {
        require_stream(&read.facts)?;
    }
    let gap = SkippedGap::of(after, read.standing).filter(|_| upwards.checked);
    if let Some(gap) = &gap {
        if !upwards.skip_gaps {
            return Err(overtaken(&read.facts, gap));
        }
        after = if gap.is_reset() {
            Position::START
        } else {
            read.facts.after_gap()
        };
        if gap.is_reset() {
            read = self::read(
                state,
                stream,
                &Upwards {
                    wait: None,
                    ..upwards
                },
                after,
            )
            .await?;
        }
    }
    let end = Some(upwards.end).filter(|end| *end < EntryId::MAX);
    let more = end.is_none() || !read.ended;
    let next = more.then(|| {
        RangeCursor::Asc {
            after: read.end(after),
            end,
        }
        .to_string()
    });
    let RangePage {
        entries,
        at_tail,
        permit,
        ..
    } = read;
    Ok(EntriesPage {
        entries: entries_out(entries, &view),
        next,
        at_tail,
        gap,
        _permit: permit,
    })
}

async fn read(
    state: &AppState,
    stream: &StreamName,
    upwards: &Upwards,
    after: Position,
) -> Result<RangePage, ApiError> {
    let (limit, max_bytes) = (upwards.limit, upwards.max_bytes);
    let Some(wait) = upwards.wait else {
        let read = state
            .store
            .read_after(&Lane::Shared, stream, after, upwards.end, limit, max_bytes)
            .await;
        return read.map_err(ApiError::of_read);
    };
    let _waiting = state.waiting_slot(wait)?;
    let read = RangeWait {
        from: &[(stream.clone(), after)],
        limit,
        max_bytes,
    };
    let mut read = state
        .hub
        .read_or_wait(&read, wait)
        .await
        .map_err(ApiError::of_read)?;
    read.pop()
        .ok_or_else(|| ApiError::new(ErrorCode::Internal, "the read returned no result"))
}

/// Returns a `Link` to the next page: the same request with `cursor` instead of bounds.
fn next_link(stream: &StreamName, params: &RangeParams, next: &str) -> String {
    let rest = [
        ("cursor", Some(paths::encode(next))),
        ("limit", params.limit.map(|limit| limit.to_string())),
        ("max_bytes", params.max_bytes.map(|bytes| bytes.to_string())),
        ("payload", params.payload.as_deref().map(paths::encode)),
        ("json", params.json.then(|| "true".to_owned())),
        ("pairs", params.pairs.then(|| "true".to_owned())),
        (
            "gap",
            (params.gap == Some(GapParam::Skip)).then(|| "skip".to_owned()),
        ),
        ("wait", params.wait.map(|wait| duration::format(wait.0))),
    ];
    let pairs: Vec<String> = rest
        .into_iter()
        .filter_map(|(name, value)| Some(format!("{name}={}", value?)))
        .collect();
    let stream = paths::encode(&stream.public_name());
    format!(
        "</v1/streams/{stream}/entries?{}>; rel=\"next\"",
        pairs.join("&")
    )
}
