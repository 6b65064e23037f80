//! Entry ids: two unsigned 64-bit numbers, compared as numbers and never as text.

use std::fmt;
use std::str::FromStr;

/// An entry id of Redis: `<milliseconds>-<sequence>`. Ids are ordered as in Redis.
///
/// ```
/// use streamgate::model::id::EntryId;
///
/// let id: EntryId = "1795232709004-0".parse()?;
/// assert_eq!(id, EntryId::new(1_795_232_709_004, 0));
/// assert_eq!(id.next(), Some(EntryId::new(1_795_232_709_004, 1)));
/// assert_eq!(id.to_string(), "1795232709004-0");
/// # Ok::<(), streamgate::model::id::InvalidId>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    /// Milliseconds since the Unix epoch, or any number that the writer chose instead.
    pub ms: u64,
    /// The sequence number, which distinguishes entries of the same millisecond.
    pub seq: u64,
}

/// The error for a text that is not an entry id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an entry id is two numbers, like 1795232709004-0")]
pub struct InvalidId;

impl EntryId {
    /// The id `0-0`, which sorts before every entry and is never the id of one.
    pub const MIN: Self = Self { ms: 0, seq: 0 };
    /// The greatest possible id.
    pub const MAX: Self = Self {
        ms: u64::MAX,
        seq: u64::MAX,
    };

    /// Creates the id `ms-seq`.
    #[must_use]
    pub const fn new(ms: u64, seq: u64) -> Self {
        Self { ms, seq }
    }

    /// Returns the id right after this one; `None` for [`EntryId::MAX`].
    #[must_use]
    pub const fn next(self) -> Option<Self> {
        match self.seq.checked_add(1) {
            Some(seq) => Some(Self { ms: self.ms, seq }),
            None => match self.ms.checked_add(1) {
                Some(ms) => Some(Self { ms, seq: 0 }),
                None => None,
            },
        }
    }

    /// Returns the id right before this one; `None` for [`EntryId::MIN`].
    #[must_use]
    pub const fn previous(self) -> Option<Self> {
        match self.seq.checked_sub(1) {
            Some(seq) => Some(Self { ms: self.ms, seq }),
            None => match self.ms.checked_sub(1) {
                Some(ms) => Some(Self { ms, seq: u64::MAX }),
                None => None,
            },
        }
    }

    /// Parses `ms-seq`, or `ms` alone with `seq` as its sequence.
    ///
    /// # Errors
    /// Returns [`InvalidId`] for any other text, including signs and white space.
    pub fn parse_with(text: &str, seq: u64) -> Result<Self, InvalidId> {
        match text.split_once('-') {
            Some((ms, seq)) => Ok(Self {
                ms: number(ms)?,
                seq: number(seq)?,
            }),
            None => Ok(Self {
                ms: number(text)?,
                seq,
            }),
        }
    }
}

/// Parses decimal digits only. `u64::from_str` alone would accept `+5`.
pub(crate) fn number(text: &str) -> Result<u64, InvalidId> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(InvalidId);
    }
    text.parse().map_err(|_| InvalidId)
}

impl FromStr for EntryId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let (ms, seq) = text.split_once('-').ok_or(InvalidId)?;
        Ok(Self {
            ms: number(ms)?,
            seq: number(seq)?,
        })
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

/// The requested id of a new entry: the `id` of an append.
///
/// ```
/// use streamgate::model::id::{EntryId, NewId};
///
/// assert_eq!("*".parse(), Ok(NewId::Auto));
/// assert_eq!("5-*".parse(), Ok(NewId::AutoSeq(5)));
/// assert_eq!("5-7".parse(), Ok(NewId::Exact(EntryId::new(5, 7))));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NewId {
    /// `*`: Redis chooses the id.
    #[default]
    Auto,
    /// `ms-*`: Redis chooses the sequence.
    AutoSeq(u64),
    /// A full id, which must be greater than the last id of the stream.
    Exact(EntryId),
}

impl NewId {
    /// Returns whether the id is in the last possible millisecond. Only a limited number of ids can
    /// follow it.
    #[must_use]
    pub fn is_of_the_end(self) -> bool {
        matches!(
            self,
            Self::AutoSeq(u64::MAX) | Self::Exact(EntryId { ms: u64::MAX, .. })
        )
    }
}

impl FromStr for NewId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        if text == "*" {
            return Ok(Self::Auto);
        }
        match text.strip_suffix("-*") {
            Some(ms) => Ok(Self::AutoSeq(number(ms)?)),
            None => Ok(Self::Exact(text.parse()?)),
        }
    }
}

impl fmt::Display for NewId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("*"),
            Self::AutoSeq(ms) => write!(f, "{ms}-*"),
            Self::Exact(id) => id.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_not_an_id_is_refused() {
        for text in [
            "",
            "-",
            "1",
            "1-",
            "-1",
            "1-2-3",
            "+1-0",
            "1 -0",
            "a-0",
            "99999999999999999999-0",
        ] {
            assert!(text.parse::<EntryId>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn new_ids_take_the_three_forms_of_redis_and_no_other() {
        assert_eq!("*".parse(), Ok(NewId::Auto));
        assert_eq!("5-*".parse(), Ok(NewId::AutoSeq(5)));
        assert_eq!("5-7".parse(), Ok(NewId::Exact(EntryId::new(5, 7))));
        assert!("5".parse::<NewId>().is_err());
        assert!("*-5".parse::<NewId>().is_err());
    }

    proptest! {
        #[test]
        fn every_id_survives_being_written_and_read(ms: u64, seq: u64) {
            let id = EntryId::new(ms, seq);
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }

        #[test]
        fn next_and_previous_are_neighbours(ms: u64, seq: u64) {
            let id = EntryId::new(ms, seq);
            if let Some(next) = id.next() {
                prop_assert!(next > id);
                prop_assert_eq!(next.previous(), Some(id));
            }
        }
    }
}
