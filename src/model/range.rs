//! Bounds of ranges, and the cursor that carries a range from one page to the next.

use std::fmt;
use std::str::FromStr;

use crate::model::id::{EntryId, InvalidId};
use crate::model::position::Position;

/// Which end of the stream comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Oldest first.
    #[default]
    Asc,
    /// Newest first.
    Desc,
}

/// Reads a lower bound as Redis does: `-`, `ms` (from its first entry on), a full id, or `(` and
/// one of these for what comes after it. `None`: nothing can lie there.
///
/// # Errors
/// [`InvalidId`] for anything else.
pub fn lower(text: &str) -> Result<Option<EntryId>, InvalidId> {
    match text.strip_prefix('(') {
        Some(after) => Ok(EntryId::parse_with(after, 0)?.next()),
        None if text == "-" => Ok(Some(EntryId::MIN)),
        None if text == "+" || text == " " => Ok(Some(EntryId::MAX)),
        None => EntryId::parse_with(text, 0).map(Some),
    }
}

/// Reads an upper bound as Redis does: `+`, `ms` (to its last entry), a full id, or `(` and one of
/// these for what comes before it: `(ms` leaves out the greatest id of that millisecond alone. `None`:
/// nothing can lie there.
///
/// # Errors
/// [`InvalidId`] for anything else.
pub fn upper(text: &str) -> Result<Option<EntryId>, InvalidId> {
    match text.strip_prefix('(') {
        Some(before) => Ok(EntryId::parse_with(before, u64::MAX)?.previous()),
        None if text == "+" || text == " " => Ok(Some(EntryId::MAX)),
        None if text == "-" => Ok(Some(EntryId::MIN)),
        None => EntryId::parse_with(text, u64::MAX).map(Some),
    }
}

/// Where the next page of a range begins, with the bound at its other end. Written as
/// `<position>[~<end>]` upwards and `desc~<id>[~<start>]` downwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cursor {
    /// Entries after the position, up to and with `end`.
    Asc {
        /// The last entry of the page before.
        after: Position,
        /// The upper bound, if there is one.
        end: Option<EntryId>,
    },
    /// Entries before `before`, down to and with `start`.
    Desc {
        /// The last entry of the page before.
        before: EntryId,
        /// The lower bound, if there is one.
        start: Option<EntryId>,
    },
}

impl FromStr for Cursor {
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

impl fmt::Display for Cursor {
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
                Cursor::Asc { after: Position::new(id, n), end: bound }
            } else {
                Cursor::Desc { before: id, start: bound }
            };
            prop_assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
    }
}
