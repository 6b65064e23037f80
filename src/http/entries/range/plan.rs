//! From the parameters of a range to what is to be read.

use std::time::Duration;

use serde::Deserialize;
use utoipa::IntoParams;

use crate::http::error::ApiError;
use crate::http::extract::id;
use crate::http::extract::params::{
    GapParam, OrderParam, TimeParam, Wait, at_most_one, bounded, bounded_wait, exclusive,
};
use crate::model::id::EntryId;
use crate::model::position::{Position, Start};
use crate::model::range::{self, Cursor, Order};
use crate::model::time::Time;

const DEFAULT_LIMIT: u64 = 100;
const MAX_LIMIT: u64 = 1000;
const DEFAULT_BYTES: u64 = 1 << 20;
const MAX_BYTES: u64 = 16 << 20;

/// Which entries to read. At most one lower bound (`after`, `start`, `since`, `last`) and one upper
/// bound (`before`, `end`, `until`), or `cursor` and neither.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct RangeParams {
    /// Entries after this position (`<id>` or `<id>:<n>`); `0` the oldest, `$` after the last, `+` with the last.
    #[param(example = "0")]
    after: Option<String>,
    /// Entries before this id.
    before: Option<String>,
    /// Entries from this id on; `(id` leaves the id itself out, `-` is the oldest.
    start: Option<String>,
    /// Entries up to this id; `(id` leaves the id itself out, `+` is the newest.
    end: Option<String>,
    /// Entries of this time and later: RFC 3339, Unix milliseconds, or how long ago.
    #[param(value_type = Option<String>, example = "1h")]
    pub(in crate::http) since: Option<TimeParam>,
    /// Entries up to this time and of it.
    #[param(value_type = Option<String>, example = "2026-09-20T08:30:00Z")]
    pub(in crate::http) until: Option<TimeParam>,
    /// The last so many entries, at most 1000.
    #[param(minimum = 1, maximum = 1000)]
    last: Option<u64>,
    /// The `next` of the page before.
    cursor: Option<String>,
    /// Which end comes first: `asc` (the default) or `desc`.
    #[param(inline)]
    order: Option<OrderParam>,
    /// The most entries of a page: 100 unless given, at most 1000. As NDJSON all entries come
    /// unless this is given, and it may be larger.
    #[param(minimum = 1, maximum = 1000)]
    pub(in crate::http) limit: Option<u64>,
    /// At most so many bytes of entries: 1 MiB, at most 16 MiB. One entry always comes.
    #[param(minimum = 1, maximum = 16_777_216)]
    pub(in crate::http) max_bytes: Option<u64>,
    /// With `after` or `cursor`: how long to wait for an entry if there is none, at most 60s.
    #[param(value_type = Option<String>, example = "20s")]
    pub(in crate::http) wait: Option<Wait>,
    /// Show each entry as `{"id","payload"}`, with the value of this field.
    pub(in crate::http) payload: Option<String>,
    /// Show the payload (field `data` unless named) as the JSON it is; one that is none stays text and
    /// is marked by `"json":false`.
    #[serde(default)]
    #[param(required = false)]
    pub(in crate::http) json: bool,
    /// Show fields as `pairs` throughout.
    #[serde(default)]
    #[param(required = false)]
    pub(in crate::http) pairs: bool,
    /// `skip`: go on with the oldest entry where a position was overtaken, instead of 410.
    #[param(inline)]
    pub(in crate::http) gap: Option<GapParam>,
    /// As NDJSON: go on with what comes, until the client has enough.
    #[serde(default)]
    #[param(required = false)]
    pub(in crate::http) follow: bool,
    /// With `follow`: `FIELD:VALUE`, only entries with this value. Values of one field are alternatives, fields must all fit.
    #[serde(default)]
    #[param(required = false, example = json!(["type:paid"]))]
    pub(in crate::http) filter: Vec<String>,
}

/// The limit that an answer as NDJSON has without one.
pub(in crate::http) const ALL: u64 = i64::MAX as u64;

/// What is to be read.
pub(in crate::http) enum Plan {
    Upwards(Upwards),
    Downwards {
        low: EntryId,
        high: EntryId,
        limit: usize,
        max_bytes: usize,
    },
    /// The last so many entries up to an end; where they begin is yet to be found.
    Last {
        count: usize,
        upwards: Upwards,
    },
}

/// Entries after a position, oldest first.
#[derive(Clone, Copy)]
pub(in crate::http) struct Upwards {
    pub(in crate::http) after: Position,
    /// `after=$`: the position is yet to be found.
    pub(in crate::http) from_tail: bool,
    /// The position was one a reader stood at, or was found for it: that it was overtaken matters.
    pub(in crate::http) checked: bool,
    /// Gaps are told beside the entries that follow them. Also where the client named no position:
    /// there is none to refuse, and what comes is all that it waits for.
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
    /// Nothing can lie below it.
    Empty,
}

impl Upper {
    fn of(bound: Option<EntryId>) -> Self {
        bound.map_or(Self::Empty, Self::To)
    }

    /// The inclusive bound, `None` for an empty range.
    fn end(self) -> Option<EntryId> {
        match self {
            Self::None => Some(EntryId::MAX),
            Self::To(end) => Some(end),
            Self::Empty => None,
        }
    }
}

impl RangeParams {
    /// The times among them: what they mean depends on a clock.
    pub(in crate::http) fn times(&self) -> impl Iterator<Item = Time> {
        [self.since, self.until]
            .into_iter()
            .flatten()
            .map(|TimeParam(time)| time)
    }
}

impl Plan {
    /// `now` is what the clock of Redis shows, if one of the times needs it. `whole` is for answers
    /// that are not held in memory.
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
            let detail = "`wait` goes with `after` or `cursor` and an open end";
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

/// A cursor carries the order and the bound at the other end.
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
    let (order, lower, upper) = match id("cursor", text, str::parse::<Cursor>)? {
        Cursor::Asc { after, end } => (
            Order::Asc,
            Lower::After(Start::After(after)),
            end.map_or(Upper::None, Upper::To),
        ),
        Cursor::Desc { before, start } => {
            let low = Lower::From(start.or(Some(EntryId::MIN)));
            (Order::Desc, low, Upper::of(before.previous()))
        }
    };
    let asked = params.order.map(|asked| asked == OrderParam::Desc);
    if asked.is_some_and(|desc| desc != (order == Order::Desc)) {
        let error = ApiError::invalid("the cursor goes the other way");
        return Err(error.at("order", "is in the cursor already"));
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
