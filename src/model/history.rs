//! Gap detection from the counters of a stream. The counters can prove that removals overtook a
//! position and by how many entries, or that a position belongs to another history of the stream.
//! They also give the count of each entry on a page.
//!
//! The invariant of this module: a returned number is exact or `None`, and a position of the
//! current history is never taken for one of another. Two histories can leave identical counters
//! behind, so the counters cannot answer every question (ADR 2 lists the cases).

#[cfg(test)]
pub(in crate::model) mod tests;

use crate::model::id::EntryId;
use crate::model::position::Position;

/// The counters of a stream, read atomically with the page for which they are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamCounters {
    /// Whether the key exists.
    pub exists: bool,
    /// The number of retained entries.
    pub length: u64,
    /// The number of entries ever added; `None` on servers that do not count them (Redis 6.2).
    pub entries_added: Option<u64>,
    /// The last generated id, even if its entry was deleted since; `0-0` if there was none.
    pub last_id: EntryId,
    /// The id of the oldest retained entry.
    pub oldest: Option<EntryId>,
    /// The id of the newest retained entry.
    pub newest: Option<EntryId>,
    /// The greatest id ever removed by XDEL. Trimming does not change it.
    pub max_deleted: EntryId,
    /// Whether this server can remove entries from the middle without a trace in `max_deleted`:
    /// trims that skip entries which a group has not acknowledged (8.2 and later).
    pub untraced_holes: bool,
}

impl StreamCounters {
    /// Returns the counters of a stream that does not exist: nothing was ever added.
    #[must_use]
    pub const fn missing() -> Self {
        Self {
            exists: false,
            length: 0,
            entries_added: Some(0),
            last_id: EntryId::MIN,
            oldest: None,
            newest: None,
            max_deleted: EntryId::MIN,
            untraced_holes: false,
        }
    }

    /// Returns the position right after the last entry. If the last id was set (XSETID) and is not
    /// an entry, the position has no count. The entry of a counted position is looked up, and a
    /// missing entry would mean another history.
    #[must_use]
    pub fn tail(&self) -> Position {
        let is_missed = self.newest != Some(self.last_id) && self.must_hold(self.last_id);
        Position::new(self.last_id, self.entries_added.filter(|_| !is_missed))
    }

    /// Returns whether the stream ends at this position.
    #[must_use]
    pub fn ends_at(&self, position: Position) -> bool {
        position.id == self.last_id && (position.n.is_none() || position.n == self.entries_added)
    }

    /// Returns the id above which every entry ever added still exists; `None` if the counters
    /// cannot tell.
    fn complete_above(&self) -> Option<EntryId> {
        if self.entries_added == Some(self.length) {
            Some(EntryId::MIN)
        } else if self.untraced_holes {
            None
        } else {
            Some(self.max_deleted)
        }
    }

    /// Returns whether the entry with this id must still exist if it was ever added.
    fn must_hold(&self, id: EntryId) -> bool {
        self.oldest.is_some_and(|oldest| id >= oldest)
            && self.complete_above().is_some_and(|above| id > above)
    }

    /// Returns the position of a reader that was informed of a gap: right before the oldest
    /// retained entry, or the tail if nothing is retained. The count covers all entries removed so
    /// far, so only later removals are reported from here on. The position is not an entry, but it
    /// is below all retained and future entries, where no entry is looked up.
    #[must_use]
    pub fn after_gap(&self) -> Position {
        let told = self
            .entries_added
            .map(|added| added.saturating_sub(self.length));
        match self.oldest {
            Some(oldest) => Position::new(oldest.previous().unwrap_or_default(), told),
            None => self.tail(),
        }
    }

    /// Returns whether the stream ends before a position that a reader had. Such a position is from
    /// another stream, or from this stream before it was set back.
    #[must_use]
    pub fn end_before(&self, position: Position) -> bool {
        let counted_too_far = match (position.n, self.entries_added) {
            (Some(n), Some(added)) => n > added,
            _ => false,
        };
        position.id > self.last_id || counted_too_far
    }

    /// Determines what happened to the entries after the position of a reader.
    #[must_use]
    pub fn standing(&self, position: Position, evidence: Evidence) -> PositionStatus {
        if position.is_oldest() {
            return PositionStatus::Intact;
        }
        if self.end_before(position) || self.is_of_another_history(position, evidence) {
            return PositionStatus::Reset;
        }
        let below = match self.oldest {
            Some(oldest) => position.id < oldest,
            None => position.id < self.last_id,
        };
        if !below {
            return PositionStatus::Intact;
        }
        match (position.n, self.entries_added) {
            // Without a count, the counters reveal nothing about entries before the oldest one.
            (_, None) if position.id == EntryId::MIN => PositionStatus::Intact,
            // No entry can have existed between the two ids.
            (None, _)
                if position
                    .id
                    .next()
                    .is_some_and(|next| self.oldest == Some(next)) =>
            {
                PositionStatus::Intact
            }
            // Everything retained is above the position, so it was added later.
            (Some(n), Some(added)) => match (added - n).checked_sub(self.length) {
                Some(0) => PositionStatus::Intact,
                Some(lost) => PositionStatus::Overtaken { lost: Some(lost) },
                None => PositionStatus::Reset,
            },
            (None, Some(added)) if added == self.length => PositionStatus::Intact,
            _ => PositionStatus::Overtaken { lost: None },
        }
    }

    /// Returns whether the evidence contradicts a position that is not beyond the end of the
    /// stream.
    fn is_of_another_history(&self, position: Position, evidence: Evidence) -> bool {
        let Some((n, added)) = position.n.zip(self.entries_added) else {
            return false;
        };
        let (found, since) = (evidence.entries_after, added.saturating_sub(n));
        // Ids only grow: entries after the position were added later.
        let too_many = found > since;
        let too_few = added == self.length && evidence.to_tail && found < since;
        let missing = evidence.entry_exists == Some(false) && self.must_hold(position.id);
        too_many || too_few || missing
    }

    /// Returns the count `n` of each entry on a page that was read upwards from `after`. `to_tail`
    /// says that the page ends with the last retained entry.
    #[must_use]
    pub fn number(&self, after: Position, ids: &[EntryId], to_tail: bool) -> Vec<Option<u64>> {
        let count = ids.len() as u64;
        let Some(added) = self.entries_added else {
            return vec![None; ids.len()];
        };
        let upwards = |first: u64| (0..count).map(|index| Some(first + index)).collect();
        let at_last = to_tail && ids.last() == Some(&self.last_id);

        // The page holds exactly the number of entries added since the position: none is missing.
        if let Some(n) = after.n
            && at_last
            && added.checked_sub(n) == Some(count)
        {
            return upwards(n + 1);
        }
        if let Some(above) = self.complete_above() {
            let oldest = self.oldest.unwrap_or(EntryId::MAX);
            if ids.first() == Some(&oldest) && oldest > above {
                return upwards(added.saturating_sub(self.length) + 1);
            }
            if let Some(n) = after.n
                && after.id >= oldest.max(above)
            {
                return upwards(n + 1);
            }
            if to_tail {
                let behind = |index: u64| added - (count - 1 - index);
                return (0..count)
                    .zip(ids)
                    .map(|(index, id)| (*id > above).then(|| behind(index)))
                    .collect();
            }
        }
        let mut numbers = vec![None; ids.len()];
        if at_last && let Some(last) = numbers.last_mut() {
            *last = Some(added);
        }
        numbers
    }
}

/// Evidence found at and after a position, read atomically with the counters.
#[derive(Clone, Copy, Debug, Default)]
pub struct Evidence {
    /// Whether the entry of the position is in the stream; `None` if it was not looked up.
    pub entry_exists: Option<bool>,
    /// The number of entries found after the position.
    pub entries_after: u64,
    /// Whether these are all entries after the position.
    pub to_tail: bool,
}

/// The state of the entries after a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PositionStatus {
    /// No entry was removed that the reader had not read.
    Intact,
    /// The position is below the oldest entry, and entries between them were removed.
    Overtaken {
        /// The exact number of removed entries; `None` if the counters cannot tell.
        lost: Option<u64>,
    },
    /// The position was read from another stream: this one was deleted and recreated, set back, or
    /// replaced by a server with another history of it.
    Reset,
}
