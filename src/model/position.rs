//! Positions of readers in a stream, with the number of entries that were added up to them.

use std::fmt;
use std::str::FromStr;

use crate::model::id::{EntryId, InvalidId, number};

/// A position in a stream: `<id>` or `<id>:<n>`. `n` is the number of entries ever added up to and
/// including `id` (`entries-added` at that entry). It is left out if it is not certain.
///
/// ```
/// use streamgate::model::id::EntryId;
/// use streamgate::model::position::Position;
///
/// let position: Position = "1795232709004-0:42".parse()?;
/// assert_eq!(position.id, EntryId::new(1_795_232_709_004, 0));
/// assert_eq!(position.n, Some(42));
/// # Ok::<(), streamgate::model::id::InvalidId>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Position {
    /// The id of the last entry before the reader.
    pub id: EntryId,
    /// The number of entries ever added up to and including `id`, if it is certain.
    pub n: Option<u64>,
}

impl Position {
    /// The position before the first entry that was ever added.
    pub const START: Self = Self {
        id: EntryId::MIN,
        n: Some(0),
    };
    /// The position before the oldest retained entry, whatever was removed below it.
    pub const OLDEST: Self = Self {
        id: EntryId::MIN,
        n: None,
    };

    /// Creates the position at `id`, with its count if known.
    #[must_use]
    pub const fn new(id: EntryId, n: Option<u64>) -> Self {
        Self { id, n }
    }

    /// Returns whether this is [`Position::OLDEST`], which removals cannot overtake.
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

/// The starting point of a reader: the value of `after`, `Last-Event-ID` or the `start` of a group.
///
/// ```
/// use streamgate::model::position::{Position, Start};
///
/// assert_eq!("$".parse(), Ok(Start::Tail));
/// assert_eq!("0".parse(), Ok(Start::After(Position::OLDEST)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// After this position (`0` and `-` are [`Position::OLDEST`]).
    After(Position),
    /// `$`: after the current last entry.
    Tail,
    /// `+`: at the current last entry.
    LastEntry,
}

impl FromStr for Start {
    type Err = InvalidId;

    /// Parses a starting point. A space counts as `+`, because an unescaped `+` in a query becomes
    /// a space.
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
