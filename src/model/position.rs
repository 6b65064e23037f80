//! Positions: where a reader stands in a stream, and how many entries the stream had been given
//! up to there.

use std::fmt;
use std::str::FromStr;

use crate::model::id::{EntryId, InvalidId, number};

/// `<id>` or `<id>:<n>`. `n` is how many entries the stream had ever been given up to and with
/// `id` (`entries-added` at that entry); it is left out wherever that is not certain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Position {
    /// The last entry that lies behind the reader.
    pub id: EntryId,
    /// Entries ever given up to and with `id`, when that is certain.
    pub n: Option<u64>,
}

impl Position {
    /// Before the first entry the stream was ever given.
    pub const START: Self = Self {
        id: EntryId::MIN,
        n: Some(0),
    };
    /// Before the oldest entry that is retained, whatever was removed below it.
    pub const OLDEST: Self = Self {
        id: EntryId::MIN,
        n: None,
    };

    /// The position at `id` with a count that may be unknown.
    #[must_use]
    pub const fn new(id: EntryId, n: Option<u64>) -> Self {
        Self { id, n }
    }

    /// Whether this asks for the oldest retained entry, so that nothing can have overtaken it.
    #[must_use]
    pub fn is_oldest(self) -> bool {
        self == Self::OLDEST
    }
}

impl From<EntryId> for Position {
    fn from(id: EntryId) -> Self {
        Self { id, n: None }
    }
}

impl FromStr for Position {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        match text.split_once(':') {
            Some((id, n)) => Ok(Self {
                id: id.parse()?,
                n: Some(number(n)?),
            }),
            None => Ok(Self {
                id: EntryId::parse_with(text, 0)?,
                n: None,
            }),
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.fmt(f)?;
        match self.n {
            Some(n) => write!(f, ":{n}"),
            None => Ok(()),
        }
    }
}

/// Where a reader wants to begin: the values `after`, `Last-Event-ID` and a group's `start` take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// After this position (`0` and `-` are [`Position::OLDEST`]).
    After(Position),
    /// `$`: after the last entry there is now.
    Tail,
    /// `+`: with the last entry there is now.
    LastEntry,
}

impl FromStr for Start {
    type Err = InvalidId;

    /// A space is read as `+`, which is what an unescaped `+` in a query becomes.
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Ok(match text {
            "$" => Self::Tail,
            "+" | " " => Self::LastEntry,
            "-" => Self::After(Position::OLDEST),
            _ => Self::After(text.parse()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_count_needs_a_full_id() {
        assert!("5:1".parse::<Position>().is_err());
        assert!("5-0:".parse::<Position>().is_err());
        assert!("5-0:-1".parse::<Position>().is_err());
        assert_eq!("5".parse(), Ok(Position::from(EntryId::new(5, 0))));
    }

    #[test]
    fn the_beginning_that_was_counted_is_not_the_oldest_that_is_left() {
        assert!("0".parse::<Position>().unwrap().is_oldest());
        assert!("0-0".parse::<Position>().unwrap().is_oldest());
        assert!(!"0-0:0".parse::<Position>().unwrap().is_oldest());
    }

    proptest! {
        #[test]
        fn every_position_survives_being_written_and_read(ms: u64, seq: u64, n: Option<u64>) {
            let position = Position::new(EntryId::new(ms, seq), n);
            prop_assert_eq!(position.to_string().parse(), Ok(position));
        }
    }
}
