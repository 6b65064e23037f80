//! Bounds of ranges, and cursors that continue a range on the next page.

use std::fmt;
use std::str::FromStr;

use crate::model::id::{EntryId, InvalidId};
use crate::model::position::Position;

/// The order of the entries in a range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Oldest first.
    #[default]
    Asc,
    /// Newest first.
    Desc,
}

/// Parses a lower bound as Redis does: `-`, `ms` (includes its first entry), a full id, or `(`
/// before `ms` or an id for an exclusive bound. Returns `None` if no entry can be in the range.
///
/// # Errors
/// Returns [`InvalidId`] for any other text.
pub fn lower(text: &str) -> Result<Option<EntryId>, InvalidId> {
    match text.strip_prefix('(') {
        Some(after) => Ok(EntryId::parse_with(after, 0)?.next()),
        None if text == "-" => Ok(Some(EntryId::MIN)),
        None if text == "+" || text == " " => Ok(Some(EntryId::MAX)),
        None => EntryId::parse_with(text, 0).map(Some),
    }
}

/// Parses an upper bound as Redis does: `+`, `ms` (includes its last entry), a full id, or `(`
/// before `ms` or an id for an exclusive bound. `(ms` excludes only the greatest id of that
/// millisecond. Returns `None` if no entry can be in the range.
///
/// # Errors
/// Returns [`InvalidId`] for any other text.
pub fn upper(text: &str) -> Result<Option<EntryId>, InvalidId> {
    match text.strip_prefix('(') {
        Some(before) => Ok(EntryId::parse_with(before, u64::MAX)?.previous()),
        None if text == "+" || text == " " => Ok(Some(EntryId::MAX)),
        None if text == "-" => Ok(Some(EntryId::MIN)),
        None => EntryId::parse_with(text, u64::MAX).map(Some),
    }
}

/// The start of the next page of a range, with the bound at the other end. The text is
/// `<position>[~<end>]` in ascending order and `desc~<id>[~<start>]` in descending order.
///
/// ```
/// use streamgate::model::id::EntryId;
/// use streamgate::model::range::RangeCursor;
///
/// let cursor: RangeCursor = "desc~5-0~1-0".parse()?;
/// let (before, start) = (EntryId::new(5, 0), Some(EntryId::new(1, 0)));
/// assert_eq!(cursor, RangeCursor::Desc { before, start });
/// # Ok::<(), streamgate::model::id::InvalidId>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeCursor {
    /// Entries after the position, up to and including `end`.
    Asc {
        /// The position of the last entry on the previous page.
        after: Position,
        /// The upper bound, if there is one.
        end: Option<EntryId>,
    },
    /// Entries before `before`, down to and including `start`.
    Desc {
        /// The id of the last entry on the previous page.
        before: EntryId,
        /// The lower bound, if there is one.
        start: Option<EntryId>,
    },
}

impl FromStr for RangeCursor {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let bound = |text: Option<&str>| text.map(str::parse).transpose();
        if let Some(rest) = text.strip_prefix("desc~") {
            let (before, start) = split(rest);
            return Ok(Self::Desc {
                before: before.parse()?,
                start: bound(start)?,
            });
        }
        let (after, end) = split(text);
        Ok(Self::Asc {
            after: after.parse()?,
            end: bound(end)?,
        })
    }
}

fn split(text: &str) -> (&str, Option<&str>) {
    text.split_once('~')
        .map_or((text, None), |(head, bound)| (head, Some(bound)))
}

impl fmt::Display for RangeCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bound = match self {
            Self::Asc { after, end } => {
                after.fmt(f)?;
                end
            }
            Self::Desc { before, start } => {
                write!(f, "desc~{before}")?;
                start
            }
        };
        match bound {
            Some(bound) => write!(f, "~{bound}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bounds_are_read_as_redis_reads_them() {
        assert_eq!(lower("5"), Ok(Some(EntryId::new(5, 0))));
        assert_eq!(upper("5"), Ok(Some(EntryId::new(5, u64::MAX))));
        assert_eq!(lower("(5-1"), Ok(Some(EntryId::new(5, 2))));
        assert_eq!(upper("(5-1"), Ok(Some(EntryId::new(5, 0))));
        assert_eq!(upper("(0-0"), Ok(None));
        assert_eq!(upper("(5"), Ok(Some(EntryId::new(5, u64::MAX - 1))));
        assert_eq!(lower("(5"), Ok(Some(EntryId::new(5, 1))));
        assert_eq!(lower("-"), Ok(Some(EntryId::MIN)));
        assert_eq!(upper("+"), Ok(Some(EntryId::MAX)));
        assert!(lower("x").is_err());
    }

    proptest! {
        #[test]
        fn every_cursor_survives_being_written_and_read(ms: u64, seq: u64, n: Option<u64>, bound: Option<(u64, u64)>, asc: bool) {
            let (id, bound) = (EntryId::new(ms, seq), bound.map(|(ms, seq)| EntryId::new(ms, seq)));
            let cursor = if asc {
                RangeCursor::Asc { after: Position::new(id, n), end: bound }
            } else {
                RangeCursor::Desc { before: id, start: bound }
            };
            prop_assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
    }
}
