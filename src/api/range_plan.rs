//! From the parameters of a range to what is to be read.

use std::time::Duration;

use serde::Deserialize;
use utoipa::IntoParams;

use super::error::ApiError;
use super::extract::id;
use super::params::{GapParam, OrderParam, Wait, bounded, bounded_wait};
use crate::model::id::EntryId;
use crate::model::position::{Position, Start};
use crate::model::range::{self, Cursor, Order};

const DEFAULT_LIMIT: u64 = 100;
const MAX_LIMIT: u64 = 1000;
const DEFAULT_BYTES: u64 = 1 << 20;
const MAX_BYTES: u64 = 16 << 20;

/// Which entries to read. At most one lower bound (`after`, `start`, `last`) and one upper bound
/// (`before`, `end`), or `cursor` and neither.
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
    /// The last so many entries, at most 1000.
    #[param(minimum = 1, maximum = 1000)]
    last: Option<u64>,
    /// The `next` of the page before.
    cursor: Option<String>,
    /// Which end comes first: `asc` (the default) or `desc`.
    #[param(inline)]
    order: Option<OrderParam>,
    /// At most so many entries: 100, at most 1000. As NDJSON: all of them, unless given.
    #[param(minimum = 1)]
    pub(super) limit: Option<u64>,
    /// At most so many bytes of entries: 1 MiB, at most 16 MiB. One entry always comes.
    #[param(minimum = 1, maximum = 16_777_216)]
    pub(super) max_bytes: Option<u64>,
    /// With `after` or `cursor`: how long to wait for an entry if there is none, at most 60s.
    #[param(value_type = Option<String>, example = "20s")]
    pub(super) wait: Option<Wait>,
    /// Show each entry as `{"id","payload"}`, with the value of this field.
    pub(super) payload: Option<String>,
    /// Show fields as `pairs` throughout.
    #[serde(default)]
    #[param(required = false)]
    pub(super) pairs: bool,
    /// `skip`: go on with the oldest entry where a position was overtaken, instead of 410.
    #[param(inline)]
    pub(super) gap: Option<GapParam>,
    /// As NDJSON: go on with what comes, until the client has enough.
    #[serde(default)]
    #[param(required = false)]
    pub(super) follow: bool,
}

/// The limit that an answer as NDJSON has without one.
pub(super) const ALL: u64 = i64::MAX as u64;

/// What is to be read.
pub(super) enum Plan {
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
pub(super) struct Upwards {
    pub(super) after: Position,
    /// `after=$`: the position is yet to be found.
    pub(super) from_tail: bool,
    /// The position was one a reader stood at: that it was overtaken matters.
    pub(super) checked: bool,
    pub(super) skip_gaps: bool,
    pub(super) end: EntryId,
    pub(super) limit: usize,
    pub(super) max_bytes: usize,
    pub(super) wait: Option<Duration>,
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

fn exclusive(first: &str, second: &str) -> ApiError {
    ApiError::invalid(format!("`{first}` and `{second}` exclude each other"))
        .at(second, format!("given with `{first}`"))
}

impl Plan {
    /// `whole` is for answers that are not held in memory.
    pub(super) fn new(params: &RangeParams, whole: bool) -> Result<Self, ApiError> {
        let (default, most) = if whole { (ALL, ALL) } else { (DEFAULT_LIMIT, MAX_LIMIT) };
        let limit = bounded("limit", params.limit, default, most)?;
        let max_bytes = bounded("max_bytes", params.max_bytes, DEFAULT_BYTES, MAX_BYTES)?;
        let mut order = match params.order {
            Some(OrderParam::Desc) => Order::Desc,
            Some(OrderParam::Asc) | None => Order::Asc,
        };
        let (mut lower, mut upper) = (lower(params)?, upper(params)?);
        if let Some(text) = &params.cursor {
            (order, lower, upper) = from_cursor(params, text)?;
        }
        let end = upper.end();
        let wait = params.wait.map(|wait| bounded_wait("wait", wait)).transpose()?;
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
            Upwards { after, from_tail, checked, skip_gaps, end, limit, max_bytes, wait }
        };
        let from =
            |position, checked, from_tail| Self::Upwards(upwards(position, checked, from_tail));
        Ok(match (order, lower) {
            (Order::Asc, Lower::None) => from(Position::OLDEST, false, false),
            (Order::Asc, Lower::After(Start::After(position))) => from(position, true, false),
            (Order::Asc, Lower::After(_)) => from(Position::OLDEST, false, true),
            (Order::Asc, Lower::From(Some(first))) => {
                from(first.previous().map_or(Position::OLDEST, Position::from), false, false)
            }
            (Order::Asc, Lower::From(None)) => from(Position::from(EntryId::MAX), false, false),
            (Order::Asc, Lower::Last(count)) => {
                let limit = params.limit.map_or(count, |_| limit);
                Self::Last {
                    count,
                    upwards: Upwards { limit, ..upwards(Position::OLDEST, false, false) },
                }
            }
            (Order::Desc, lower) => {
                let (low, limit) = match lower {
                    Lower::None => (Some(EntryId::MIN), limit),
                    Lower::Last(count) => {
                        (Some(EntryId::MIN), params.limit.map_or(count, |_| limit.min(count)))
                    }
                    Lower::After(Start::After(position)) => (position.id.next(), limit),
                    Lower::From(first) => (first, limit),
                    Lower::After(_) => (None, limit),
                };
                let (low, high) = low.zip(end).unwrap_or((EntryId::MAX, EntryId::MIN));
                Self::Downwards { low, high, limit, max_bytes }
            }
        })
    }
}

/// A cursor carries the order and the bound at the other end.
fn from_cursor(params: &RangeParams, text: &str) -> Result<(Order, Lower, Upper), ApiError> {
    let others = [
        ("after", params.after.is_some()),
        ("start", params.start.is_some()),
        ("last", params.last.is_some()),
        ("before", params.before.is_some()),
        ("end", params.end.is_some()),
    ];
    if let Some((other, _)) = others.iter().find(|(_, given)| *given) {
        return Err(exclusive("cursor", other));
    }
    let (order, lower, upper) = match id("cursor", text, str::parse::<Cursor>)? {
        Cursor::Asc { after, end } => {
            (Order::Asc, Lower::After(Start::After(after)), end.map_or(Upper::None, Upper::To))
        }
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

fn lower(params: &RangeParams) -> Result<Lower, ApiError> {
    match (&params.after, &params.start, params.last) {
        (Some(_), Some(_), _) => Err(exclusive("after", "start")),
        (Some(_), _, Some(_)) => Err(exclusive("after", "last")),
        (_, Some(_), Some(_)) => Err(exclusive("start", "last")),
        (Some(after), ..) => id("after", after, str::parse).map(Lower::After),
        (_, Some(start), _) => id("start", start, range::lower).map(Lower::From),
        (.., Some(last)) => bounded("last", Some(last), 1, MAX_LIMIT).map(Lower::Last),
        (None, None, None) => Ok(Lower::None),
    }
}

fn upper(params: &RangeParams) -> Result<Upper, ApiError> {
    match (&params.before, &params.end) {
        (Some(_), Some(_)) => Err(exclusive("before", "end")),
        (Some(before), None) => {
            let before = id("before", before, |text| EntryId::parse_with(text, 0))?;
            Ok(Upper::of(before.previous()))
        }
        (None, Some(end)) => id("end", end, range::upper).map(Upper::of),
        (None, None) => Ok(Upper::None),
    }
}
