//! The lag of a group: the number of entries in the stream that were not delivered to the group
//! yet.
//!
//! Redis computes `entries-added − entries-read`. This number is wrong once entries that the group
//! had not read are removed, because Redis 7.0 and Valkey do not check whether the group is before
//! the first entry. So the number of Redis is used only if nothing was removed, or if nothing
//! better is available.

use crate::model::id::EntryId;

/// The maximum number of entries counted to determine a lag, from either end of the stream.
pub const MAX_COUNTED: usize = 1000;

/// The counters of a stream that determine the lags of its groups.
#[derive(Clone, Copy, Debug)]
pub struct LagCounters {
    /// The number of retained entries.
    pub length: u64,
    /// The number of entries ever added; `None` on servers that do not count them.
    pub entries_added: Option<u64>,
    /// The last generated id.
    pub last_id: EntryId,
    /// The id of the oldest retained entry.
    pub oldest: Option<EntryId>,
}

/// The state of a group as reported by Redis.
#[derive(Clone, Copy, Debug)]
pub struct GroupCursor {
    /// The last delivered id.
    pub last_delivered: EntryId,
    /// The number of entries read since the beginning of the stream.
    pub entries_read: Option<u64>,
    /// The lag as computed by Redis; `None` if it is unknown or negative.
    pub lag: Option<u64>,
}

/// The lag of a group, as far as the counters determine it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lag {
    /// The exact lag.
    Exactly(u64),
    /// An unknown lag: the entries after the position of the group must be counted. If there are
    /// too many to count, the lag may be this number.
    Uncounted(Option<u64>),
}

impl Lag {
    /// Determines the lag of a group from the counters of its stream.
    #[must_use]
    pub fn of(stream: &LagCounters, group: &GroupCursor) -> Self {
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
            // At least one of the entries up to the position of the group is retained, so the group
            // has read more entries than were removed.
            (lag, Some(added)) => {
                let least = added.saturating_sub(stream.length).saturating_add(1);
                Self::Uncounted(lag.filter(|_| group.entries_read.is_some_and(|n| n >= least)))
            }
            (lag, None) => Self::Uncounted(lag),
        }
    }

    /// Returns the lag if it is known without counting.
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

    /// Returns the lag in a stream that was given entries `1-0` to `<added>-0` and retains the last
    /// `length` of them.
    fn lag(added: u64, length: u64, at: u64, entries_read: Option<u64>, lag: Option<u64>) -> Lag {
        let oldest = (length > 0).then(|| id(added - length + 1));
        let stream = LagCounters {
            length,
            entries_added: Some(added),
            last_id: id(added),
            oldest,
        };
        Lag::of(
            &stream,
            &GroupCursor {
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
