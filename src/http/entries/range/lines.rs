//! NDJSON responses of range reads: the whole range with one entry per line, read page by page as
//! the client consumes it. With `follow=true`, the response continues with new entries.

use std::convert::Infallible;

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::StreamExt as _;
use serde::Serialize;

use crate::auth::Principal;
use crate::http::entries::append::body::NDJSON;
use crate::http::entries::append::lines::error_line;
use crate::http::entries::range::plan::{Plan, RangeParams, Upwards};
use crate::http::error::ApiError;
use crate::http::events::session::{self, Session};
use crate::http::events::subscribe;
use crate::http::extract::access::{Access, Subscribe};
use crate::http::extract::params::TimeParam;
use crate::http::layer::request::RequestInfo;
use crate::http::respond::gap::{SkippedGap, overtaken, require_stream};
use crate::http::respond::view::view;
use crate::http::state::AppState;
use crate::live::{PrefixStart, SubscribeEnd, SubscribeRequest, SubscribeStart};
use crate::model::entry::{Entry, View};
use crate::model::entry_json::EntryJson;
use crate::model::frame::{Framing, write_line};
use crate::model::id::EntryId;
use crate::model::name::StreamName;
use crate::model::position::Position;
use crate::model::range::Order;
use crate::model::view::EventView;
use crate::redis::{IdRangePage, Lane};
use crate::shares;

/// Maximum entries of one read.
const PAGE: usize = 1000;
/// Maximum bytes of one read.
const PAGE_BYTES: usize = 256 << 10;

/// Responds with the range as NDJSON, followed by new entries as they are appended.
#[expect(clippy::too_many_arguments, reason = "the parts of one request")]
async fn follow(
    state: &AppState,
    principal: &Principal,
    stream: StreamName,
    params: &RangeParams,
    plan: &Plan,
    view: View,
    now: u64,
    info: &RequestInfo,
) -> Result<Response, ApiError> {
    let filter = subscribe::filter(&params.filter)?;
    let view = EventView {
        entry: view,
        event: None,
        filter,
        framing: Framing::Lines,
        namespace: principal.namespace.clone(),
    };
    let (begin, last) = span(plan, params.since)?;
    let end = match params.until {
        Some(TimeParam(until)) => Some(SubscribeEnd::Time(until.unix_ms(now))),
        None => last.map(SubscribeEnd::At),
    };
    let (streams, matched) = (vec![(stream, begin)], PrefixStart::At(begin));
    let wanted = SubscribeRequest {
        streams,
        prefixes: Vec::new(),
        matched,
        end,
        many: false,
        visible: None,
        view,
    };
    let subscription = state.follow(principal, wanted).await?;
    let session = Session::new(subscription.into(), info, error_line);
    Ok(session::respond(session, respond(Body::empty())))
}

/// Responds to a range read with NDJSON.
///
/// # Errors
/// The errors of a page, until the first line is sent.
pub(in crate::http) async fn read(
    state: AppState,
    access: Access<Subscribe>,
    params: RangeParams,
    info: RequestInfo,
) -> Result<Response, ApiError> {
    if params.wait.is_some() {
        let detail =
            "`wait` cannot be combined with NDJSON; use `follow=true` to wait for new entries";
        return Err(ApiError::invalid(detail).at("wait", detail));
    }
    let principal = access.principal().clone();
    let stream = access.into_stream();
    let now = state
        .store
        .now_for(params.times())
        .await
        .map_err(ApiError::of_read)?;
    let plan = Plan::new(&params, now, true)?;
    let view = view(params.payload.as_deref(), params.json, params.pairs, None)?;
    if !params.follow && !params.filter.is_empty() {
        let detail = "`filter` requires `follow=true`";
        return Err(ApiError::invalid(detail).at("filter", detail));
    }
    if params.follow {
        return follow(&state, &principal, stream, &params, &plan, view, now, &info).await;
    }
    let rest = match plan {
        Plan::Upwards(upwards) if upwards.from_tail => {
            let facts = state.store.facts(&Lane::Shared, &stream).await;
            let facts = facts.map_err(ApiError::of_read)?;
            require_stream(&facts)?;
            UnreadRange::Up(Upwards {
                after: facts.tail(),
                ..upwards
            })
        }
        Plan::Upwards(upwards) => UnreadRange::Up(upwards),
        Plan::Last { count, upwards } => {
            let found = state.store.before_last(&stream, count, upwards.end).await;
            let (after, _) = found.map_err(ApiError::of_read)?;
            UnreadRange::Up(Upwards {
                after,
                limit: upwards.limit.min(count),
                ..upwards
            })
        }
        Plan::Downwards {
            low, high, limit, ..
        } => UnreadRange::Down {
            low,
            high,
            left: limit,
        },
    };
    let mut lines = RangeLines {
        state,
        stream,
        view,
        rest,
        begun: false,
    };
    let first = lines.page().await?.unwrap_or_default();
    let pages = futures_util::stream::unfold(
        Some((Some(first), lines, info)),
        async |state: Option<(Option<Bytes>, RangeLines, RequestInfo)>| {
            let (first, mut lines, info) = state?;
            if let Some(first) = first {
                return Some((Ok::<_, Infallible>(first), Some((None, lines, info))));
            }
            let page = match info.still_good() {
                Ok(()) => lines.page().await,
                Err(error) => Err(error),
            };
            match page {
                Ok(page) => page.map(|page| (Ok(page), Some((None, lines, info)))),
                Err(error) => Some((Ok(error_line(&error, info.path(), info.id())), None)),
            }
        },
    );
    // A compressing body polls once more after the end.
    let pages = shares::inherit_stream(Box::pin(pages.fuse()));
    Ok(respond(Body::from_stream(pages)))
}

/// Returns the start of a subscription that continues a range, and the id at which it ends.
fn span(
    plan: &Plan,
    since: Option<TimeParam>,
) -> Result<(SubscribeStart, Option<EntryId>), ApiError> {
    let whole = usize::try_from(crate::http::entries::range::plan::ALL).unwrap_or(usize::MAX);
    let last = |upwards: &Upwards| Some(upwards.end).filter(|end| *end < EntryId::MAX);
    match plan {
        Plan::Upwards(upwards) if upwards.limit == whole && upwards.after.id < EntryId::MAX => {
            let begin = match since {
                Some(TimeParam(since)) => SubscribeStart::Since(since),
                None if upwards.from_tail => SubscribeStart::Tail,
                None => SubscribeStart::After(upwards.after),
            };
            Ok((begin, last(upwards)))
        }
        Plan::Last { count, upwards } => Ok((SubscribeStart::Last(*count), last(upwards))),
        _ => {
            let detail = "`follow=true` cannot be combined with `limit` or descending order";
            Err(ApiError::invalid(detail).at("follow", detail))
        }
    }
}

fn respond(body: Body) -> Response {
    let headers = [
        (CONTENT_TYPE, NDJSON),
        (CACHE_CONTROL, "no-store, no-transform"),
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    let headers: HeaderMap = headers
        .into_iter()
        .map(|(name, value)| (name, HeaderValue::from_static(value)))
        .collect();
    (headers, body).into_response()
}

/// The unread rest of a range.
enum UnreadRange {
    Up(Upwards),
    Down {
        low: EntryId,
        high: EntryId,
        left: usize,
    },
    Nothing,
}

/// State of a range response.
struct RangeLines {
    state: AppState,
    stream: StreamName,
    view: View,
    rest: UnreadRange,
    /// Whether a page was read. The stream existed then, and later positions come from this
    /// gateway.
    begun: bool,
}

/// A line that reports a gap: `{"gap":…,"position":"…"}`.
#[derive(Serialize)]
struct GapLine {
    gap: SkippedGap,
    position: String,
}

impl RangeLines {
    /// Returns the next lines, or `None` at the end.
    async fn page(&mut self) -> Result<Option<Bytes>, ApiError> {
        let bytes = match std::mem::replace(&mut self.rest, UnreadRange::Nothing) {
            UnreadRange::Nothing => return Ok(None),
            UnreadRange::Up(upwards) => self.up(upwards).await?,
            UnreadRange::Down { low, high, left } => self.down(low, high, left).await?,
        };
        self.begun = true;
        Ok(Some(bytes))
    }

    async fn up(&mut self, upwards: Upwards) -> Result<Bytes, ApiError> {
        let (after, limit) = (upwards.after, upwards.limit.min(PAGE));
        let (store, lane) = (&self.state.store, Lane::Shared);
        let read = store.read_after(&lane, &self.stream, after, upwards.end, limit, PAGE_BYTES);
        let read = read.await.map_err(ApiError::of_read)?;
        if !self.begun {
            require_stream(&read.facts)?;
        }
        let mut text = Vec::new();
        let mut from = after;
        if let Some(gap) = SkippedGap::of(after, read.standing).filter(|_| upwards.checked) {
            if !upwards.skip_gaps {
                return Err(overtaken(&read.facts, &gap));
            }
            let reset = gap.is_reset();
            from = if reset {
                Position::START
            } else {
                read.facts.after_gap()
            };
            write_line(
                &mut text,
                &GapLine {
                    gap,
                    position: from.to_string(),
                },
            );
            if reset {
                self.rest = UnreadRange::Up(Upwards {
                    after: from,
                    ..upwards
                });
                return Ok(text.into());
            }
        }
        self.write(&mut text, &read.entries, &read.numbers);
        let left = upwards.limit - read.entries.len();
        if !read.ended && left > 0 {
            let (after, checked) = (read.end(from), true);
            self.rest = UnreadRange::Up(Upwards {
                after,
                checked,
                limit: left,
                ..upwards
            });
        }
        Ok(text.into())
    }

    async fn down(&mut self, low: EntryId, high: EntryId, left: usize) -> Result<Bytes, ApiError> {
        let (store, limit) = (&self.state.store, left.min(PAGE));
        let read = store.read_between(&self.stream, Order::Desc, (low, high), limit, PAGE_BYTES);
        let IdRangePage {
            entries,
            facts,
            ended: done,
            permit: _permit,
        } = read.await.map_err(ApiError::of_read)?;
        if !self.begun {
            require_stream(&facts)?;
        }
        let left = left - entries.len();
        let next = entries.last().and_then(|last| last.id.previous());
        if let Some(high) = next.filter(|_| !done && left > 0) {
            self.rest = UnreadRange::Down { low, high, left };
        }
        let mut text = Vec::new();
        self.write(&mut text, &entries, &[]);
        Ok(text.into())
    }

    fn write(&self, text: &mut Vec<u8>, entries: &[Entry], numbers: &[Option<u64>]) {
        let numbers = numbers.iter().copied().chain(std::iter::repeat(None));
        for (entry, n) in entries.iter().zip(numbers) {
            let position = Some(Position::new(entry.id, n));
            write_line(
                text,
                &EntryJson {
                    stream: None,
                    position,
                    entry,
                    view: &self.view,
                },
            );
        }
    }
}
