//! Plan of a range read, from the parameters of a request.

use std::time::Duration;

use serde::Deserialize;
use utoipa::IntoParams;

use crate::http::error::ApiError;
use crate::http::extract::id;
use crate::http::extract::params::{
    DurationParam, GapParam, OrderParam, TimeParam, at_most_one, bounded, bounded_wait, exclusive,
};
use crate::http::openapi::text::{
    BoundText, FilterText, ShortIdText, StartText, TimeText, WaitText,
};
use crate::model::id::EntryId;
use crate::model::position::{Position, Start};
use crate::model::range::{self, Order, RangeCursor};
use crate::model::time::Time;

const DEFAULT_LIMIT: u64 = 100;
const MAX_LIMIT: u64 = 1000;
const DEFAULT_BYTES: u64 = 1 << 20;
const MAX_BYTES: u64 = 16 << 20;

/// Entries to read. A request has at most one lower bound (`after`, `start`, `since`, `last`) and
/// one upper bound (`before`, `end`, `until`), or only `cursor`.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct RangeParams {
    /// Returns entries after this position (`<id>` or `<id>:<n>`). `0` starts at the oldest entry,
    /// `$` after the last entry, `+` at the last entry.
    #[param(example = "0", value_type = Option<StartText>, inline)]
    after: Option<String>,
    /// Returns entries before this id.
    #[param(value_type = Option<ShortIdText>, inline)]
    before: Option<String>,
    /// First id to return. `(id` excludes the id, `-` is the oldest entry.
    #[param(value_type = Option<BoundText>, inline)]
    start: Option<String>,
    /// Last id to return. `(id` excludes the id, `+` is the newest entry.
    #[param(value_type = Option<BoundText>, inline)]
    end: Option<String>,
    /// Returns entries of this time and later: RFC 3339, Unix milliseconds, or a duration ago.
    #[param(value_type = Option<TimeText>, example = "1h", inline)]
    pub(in crate::http) since: Option<TimeParam>,
    /// Returns entries up to and including this time: RFC 3339, Unix milliseconds, or a duration
    /// ago.
    #[param(value_type = Option<TimeText>, example = "2026-09-20T08:30:00Z", inline)]
    pub(in crate::http) until: Option<TimeParam>,
    /// Returns the last entries, up to this number: 1 to 1000.
    #[param(minimum = 1, maximum = 1000)]
    last: Option<u64>,
    /// The `next` of the previous page.
    cursor: Option<String>,
    /// Order of the entries: `asc` (oldest first, the default) or `desc` (newest first).
    #[param(inline)]
    order: Option<OrderParam>,
    /// Maximum number of entries of a page: 1 to 1000, default 100. For NDJSON, the default is no
    /// limit, and the value may exceed 1000.
    #[param(minimum = 1, maximum = 1000)]
    pub(in crate::http) limit: Option<u64>,
    /// Maximum bytes of entries in a page: up to 16 MiB, default 1 MiB. A page has at least one
    /// entry, even if it is larger.
    #[param(minimum = 1, maximum = 16_777_216)]
    pub(in crate::http) max_bytes: Option<u64>,
    /// Time to wait for an entry if there is none, at most 60s. Requires `after` or `cursor`.
    #[param(value_type = Option<WaitText>, example = "20s", inline)]
    pub(in crate::http) wait: Option<DurationParam>,
    /// Returns each entry as `{"id","payload"}`, with the value of this field as the payload.
    pub(in crate::http) payload: Option<String>,
    /// Returns the payload as JSON. The payload is the field `data` unless `payload` names another.
    /// A payload that is not valid JSON stays text and is marked with `"json":false`.
    #[serde(default)]
    #[param(required = false)]
    pub(in crate::http) json: bool,
    /// Returns the fields of every entry as `pairs`.
    #[serde(default)]
    #[param(required = false)]
    pub(in crate::http) pairs: bool,
    /// `skip` continues with the oldest entry if entries after the position were removed. Otherwise
    /// the response is 410.
    #[param(inline)]
    pub(in crate::http) gap: Option<GapParam>,
    /// Continues an NDJSON response with new entries until the client disconnects.
    #[serde(default)]
    #[param(required = false)]
    pub(in crate::http) follow: bool,
    /// `FIELD:VALUE` returns only entries whose field has this value. An entry must match every
    /// field given; several values of one field are alternatives. Requires `follow=true`.
    #[serde(default)]
    #[param(required = false, example = json!(["type:paid"]), value_type = Vec<FilterText>, inline, max_items = 100)]
    pub(in crate::http) filter: Vec<String>,
}

/// Limit of an NDJSON response without `limit`.
pub(in crate::http) const ALL: u64 = i64::MAX as u64;

/// Plan of a range read.
pub(in crate::http) enum Plan {
    Upwards(Upwards),
    Downwards {
        low: EntryId,
        high: EntryId,
        limit: usize,
        max_bytes: usize,
    },
    /// The last `count` entries up to an end; their start is not known yet.
    Last {
        count: usize,
        upwards: Upwards,
    },
}

/// Plan to read entries after a position, oldest first.
#[derive(Clone, Copy)]
pub(in crate::http) struct Upwards {
    pub(in crate::http) after: Position,
    /// The position is the tail of the stream, which is not known yet (`after=$`).
    pub(in crate::http) from_tail: bool,
    /// Whether removed entries after the position are a gap. True if a reader was at the position,
    /// or if the position was looked up for the reader.
    pub(in crate::http) checked: bool,
    /// Reports gaps next to the entries that follow them instead of refusing the request. Also true
    /// if the client named no position: then no position can be refused, and the client just waits
    /// for new entries.
    pub(in crate::http) skip_gaps: bool,
    pub(in crate::http) end: EntryId,
    pub(in crate::http) limit: usize,
    pub(in crate::http) max_bytes: usize,
    pub(in crate::http) wait: Option<Duration>,
}

/// A lower bound.
enum Lower {
    None,
    After(Start),
    From(Option<EntryId>),
    Last(usize),
}

/// An upper bound.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Upper {
    None,
    To(EntryId),
    /// No id is below the bound.
    Empty,
}

impl Upper {
    fn of(bound: Option<EntryId>) -> Self {
        bound.map_or(Self::Empty, Self::To)
    }

    /// Returns the inclusive bound, or `None` for an empty range.
    fn end(self) -> Option<EntryId> {
        match self {
            Self::None => Some(EntryId::MAX),
            Self::To(end) => Some(end),
            Self::Empty => None,
        }
    }
}

impl RangeParams {
    /// Returns the time parameters, which must be resolved with the clock of Redis.
    pub(in crate::http) fn times(&self) -> impl Iterator<Item = Time> {
        [self.since, self.until]
            .into_iter()
            .flatten()
            .map(|TimeParam(time)| time)
    }
}

impl Plan {
    /// Creates the plan. `now` is the time of Redis, used if a parameter is relative to it. `whole`
    /// is true for responses that are streamed and not held in memory; they have no default limit.
    pub(in crate::http) fn new(
        params: &RangeParams,
        now: u64,
        whole: bool,
    ) -> Result<Self, ApiError> {
        let (default, most) = if whole {
            (ALL, ALL)
        } else {
            (DEFAULT_LIMIT, MAX_LIMIT)
        };
        let limit = bounded("limit", params.limit, default, most)?;
        let max_bytes = bounded("max_bytes", params.max_bytes, DEFAULT_BYTES, MAX_BYTES)?;
        let mut order = match params.order {
            Some(OrderParam::Desc) => Order::Desc,
            Some(OrderParam::Asc) | None => Order::Asc,
        };
        let (mut lower, mut upper) = (lower(params, now)?, upper(params, now)?);
        if let Some(text) = &params.cursor {
            (order, lower, upper) = from_cursor(params, text)?;
        }
        let end = upper.end();
        let wait = params
            .wait
            .map(|wait| bounded_wait("wait", wait))
            .transpose()?;
        let open = matches!(lower, Lower::After(_)) && order == Order::Asc;
        if wait.is_some() && !(open && end == Some(EntryId::MAX)) {
            let detail = "`wait` requires `after` or `cursor`, ascending order and no upper bound";
            return Err(ApiError::invalid(detail).at("wait", "nothing to wait for"));
        }
        if let Lower::After(Start::LastEntry) = lower {
            lower = Lower::Last(1);
        }
        let upwards = |position: Position, checked: bool, from_tail: bool| {
            let skip_gaps = params.gap == Some(GapParam::Skip);
            let (after, end) = match end {
                Some(end) => (position, end),
                None => (Position::from(EntryId::MAX), EntryId::MIN),
            };
            Upwards {
                after,
                from_tail,
                checked,
                skip_gaps,
                end,
                limit,
                max_bytes,
                wait,
            }
        };
        let from =
            |position, checked, from_tail| Self::Upwards(upwards(position, checked, from_tail));
        Ok(match (order, lower) {
            (Order::Asc, Lower::None) => from(Position::OLDEST, false, false),
            (Order::Asc, Lower::After(Start::After(position))) => from(position, true, false),
            (Order::Asc, Lower::After(_)) => {
                let upwards = upwards(Position::OLDEST, true, true);
                Self::Upwards(Upwards {
                    skip_gaps: true,
                    ..upwards
                })
            }
            (Order::Asc, Lower::From(Some(first))) => from(
                first.previous().map_or(Position::OLDEST, Position::from),
                false,
                false,
            ),
            (Order::Asc, Lower::From(None)) => from(Position::from(EntryId::MAX), false, false),
            (Order::Asc, Lower::Last(count)) => {
                let limit = params.limit.map_or(count, |_| limit);
                Self::Last {
                    count,
                    upwards: Upwards {
                        limit,
                        skip_gaps: true,
                        ..upwards(Position::OLDEST, true, false)
                    },
                }
            }
            (Order::Desc, lower) => {
                let (low, limit) = match lower {
                    Lower::None => (Some(EntryId::MIN), limit),
                    Lower::Last(count) => (
                        Some(EntryId::MIN),
                        params.limit.map_or(count, |_| limit.min(count)),
                    ),
                    Lower::After(Start::After(position)) => (position.id.next(), limit),
                    Lower::From(first) => (first, limit),
                    Lower::After(_) => (None, limit),
                };
                let (low, high) = low.zip(end).unwrap_or((EntryId::MAX, EntryId::MIN));
                Self::Downwards {
                    low,
                    high,
                    limit,
                    max_bytes,
                }
            }
        })
    }
}

/// Parses `cursor`, which holds the order and the bound at the other end.
fn from_cursor(params: &RangeParams, text: &str) -> Result<(Order, Lower, Upper), ApiError> {
    let others = [
        ("after", params.after.is_some()),
        ("start", params.start.is_some()),
        ("since", params.since.is_some()),
        ("last", params.last.is_some()),
        ("before", params.before.is_some()),
        ("end", params.end.is_some()),
        ("until", params.until.is_some()),
    ];
    if let Some((other, _)) = others.iter().find(|(_, given)| *given) {
        return Err(exclusive("cursor", other));
    }
    let (order, lower, upper) = match id("cursor", text, str::parse::<RangeCursor>)? {
        RangeCursor::Asc { after, end } => (
            Order::Asc,
            Lower::After(Start::After(after)),
            end.map_or(Upper::None, Upper::To),
        ),
        RangeCursor::Desc { before, start } => {
            let low = Lower::From(start.or(Some(EntryId::MIN)));
            (Order::Desc, low, Upper::of(before.previous()))
        }
    };
    let asked = params.order.map(|asked| asked == OrderParam::Desc);
    if asked.is_some_and(|desc| desc != (order == Order::Desc)) {
        let error = ApiError::invalid("`order` contradicts the order of `cursor`; leave it out");
        return Err(error.at("order", "contradicts `cursor`"));
    }
    Ok((order, lower, upper))
}

fn lower(params: &RangeParams, now: u64) -> Result<Lower, ApiError> {
    at_most_one(&[
        ("after", params.after.is_some()),
        ("start", params.start.is_some()),
        ("since", params.since.is_some()),
        ("last", params.last.is_some()),
    ])?;
    if let Some(after) = &params.after {
        return id("after", after, str::parse).map(Lower::After);
    }
    if let Some(start) = &params.start {
        return id("start", start, range::lower).map(Lower::From);
    }
    if let Some(TimeParam(since)) = params.since {
        return Ok(Lower::From(Some(since.first_id(now))));
    }
    match params.last {
        Some(last) => bounded("last", Some(last), 1, MAX_LIMIT).map(Lower::Last),
        None => Ok(Lower::None),
    }
}

fn upper(params: &RangeParams, now: u64) -> Result<Upper, ApiError> {
    at_most_one(&[
        ("before", params.before.is_some()),
        ("end", params.end.is_some()),
        ("until", params.until.is_some()),
    ])?;
    if let Some(before) = &params.before {
        let before = id("before", before, |text| EntryId::parse_with(text, 0))?;
        return Ok(Upper::of(before.previous()));
    }
    if let Some(end) = &params.end {
        return id("end", end, range::upper).map(Upper::of);
    }
    Ok(params.until.map_or(Upper::None, |TimeParam(until)| {
        Upper::To(until.last_id(now))
    }))
}
