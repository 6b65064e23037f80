//! The lag of a group: how many entries of the stream it has not been handed yet.
//!
//! Redis counts `entries-added − entries-read`, which is wrong once entries that the group had not
//! read are removed (Redis 7.0 and Valkey do not look whether the group stands below the first entry).
//! So the number of Redis is used only where nothing was removed, or where nothing better can be had.

use super::id::EntryId;

/// The most entries that are counted to tell a lag, from either end of the stream.
pub const MAX_COUNTED: usize = 1000;

/// The counters of a stream that its groups' lags depend on.
#[derive(Clone, Copy, Debug)]
pub struct StreamEnds {
    /// Entries retained.
    pub length: u64,
    /// Entries ever added; `None` on servers that do not count them.
    pub entries_added: Option<u64>,
    /// The id generated last.
    pub last_id: EntryId,
    /// The oldest entry retained.
    pub oldest: Option<EntryId>,
}

/// What Redis says of a group.
#[derive(Clone, Copy, Debug)]
pub struct GroupPlace {
    /// The last id handed out.
    pub last_delivered: EntryId,
    /// Entries read since the beginning of the stream.
    pub entries_read: Option<u64>,
    /// Its own idea of the lag; `None` where it has none, or a negative one.
    pub lag: Option<u64>,
}

/// The lag of a group, as far as the counters tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lag {
    /// It is this.
    Exactly(u64),
    /// The entries after the group's place must be counted. Where these are too many it may be this.
    Uncounted(Option<u64>),
}

impl Lag {
    /// Judges a group by the counters of its stream.
    #[must_use]
    pub fn of(stream: &StreamEnds, group: &GroupPlace) -> Self {
        let Some(oldest) = stream
            .oldest
            .filter(|_| group.last_delivered < stream.last_id)
        else {
            return Self::Exactly(0);
        };
        if group.last_delivered < oldest {
            return Self::Exactly(stream.length);
        }
        match (group.lag, stream.entries_added) {
            // 0 is wrong below the tail: Redis 8.2 lowers an `entries-read` set too high.
            (Some(lag @ 1..), Some(added)) if added == stream.length => Self::Exactly(lag),
            // Of the entries up to the place of the group at least one is retained, so the group has
            // read more than were removed.
            (lag, Some(added)) => {
                let least = added.saturating_sub(stream.length).saturating_add(1);
                Self::Uncounted(lag.filter(|_| group.entries_read.is_some_and(|n| n >= least)))
            }
            (lag, None) => Self::Uncounted(lag),
        }
    }

    /// The lag where nothing is counted.
    #[must_use]
    pub fn uncounted(self) -> Option<u64> {
        match self {
            Self::Exactly(lag) => Some(lag),
            Self::Uncounted(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(ms: u64) -> EntryId {
        EntryId::new(ms, 0)
    }

    /// A stream that was given entries `1-0` to `<added>-0` and holds the last `length` of them.
    fn lag(added: u64, length: u64, at: u64, entries_read: Option<u64>, lag: Option<u64>) -> Lag {
        let oldest = (length > 0).then(|| id(added - length + 1));
        let stream = StreamEnds {
            length,
            entries_added: Some(added),
            last_id: id(added),
            oldest,
        };
        Lag::of(
            &stream,
            &GroupPlace {
                last_delivered: id(at),
                entries_read,
                lag,
            },
        )
    }

    #[test]
    fn each_rule_has_its_turn() {
        assert_eq!(
            lag(5, 1, 1, Some(1), Some(4)),
            Lag::Exactly(1),
            "below the first entry"
        );
        assert_eq!(
            lag(5, 1, 5, Some(2), Some(3)),
            Lag::Exactly(0),
            "at the tail"
        );
        assert_eq!(
            lag(5, 0, 1, Some(1), Some(4)),
            Lag::Exactly(0),
            "of an empty stream"
        );
        assert_eq!(
            lag(5, 5, 2, Some(2), Some(3)),
            Lag::Exactly(3),
            "nothing was removed"
        );
        assert_eq!(
            lag(5, 5, 2, None, None),
            Lag::Uncounted(None),
            "Redis does not know"
        );
        assert_eq!(
            lag(5, 5, 2, Some(5), Some(0)),
            Lag::Uncounted(Some(0)),
            "some entries are not read"
        );
        assert_eq!(
            lag(9, 5, 6, Some(6), Some(3)),
            Lag::Uncounted(Some(3)),
            "it may be true"
        );
        assert_eq!(
            lag(9, 5, 6, Some(4), Some(5)),
            Lag::Uncounted(None),
            "it cannot be true"
        );
    }
}
