//! What a stream's counters prove about the past: whether a position was overtaken by removals,
//! by how many entries, whether it belongs to another history of the stream, and how many entries a
//! stream had been given up to each of a page.
//!
//! The invariant of this file: a number it returns is exact, or it is `None`, and a position of this
//! very history is never taken for one of another. Two histories can leave identical counters behind,
//! so there are questions the counters cannot answer (ADR 2 lists them).

#[cfg(test)]
pub(in crate::model) mod tests;

use crate::model::id::EntryId;
use crate::model::position::Position;

/// The counters of a stream, read in one step with the page they are used on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Whether the key exists at all.
    pub exists: bool,
    /// Entries retained.
    pub length: u64,
    /// Entries ever added; `None` on servers that do not count them (Redis 6.2).
    pub entries_added: Option<u64>,
    /// The id last generated, deleted since or not; `0-0` if there was none.
    pub last_id: EntryId,
    /// The oldest entry retained.
    pub oldest: Option<EntryId>,
    /// The newest entry retained.
    pub newest: Option<EntryId>,
    /// The greatest id ever removed by XDEL; trimming does not move it.
    pub max_deleted: EntryId,
    /// Whether this server can remove entries from the middle without a trace in `max_deleted`
    /// (trims that skip what some group has not acknowledged: 8.2 and later).
    pub untraced_holes: bool,
}

impl Facts {
    /// A stream that does not exist: nothing was ever added.
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

    /// Right after the last entry. A last id that was set (XSETID) and is no entry carries no count:
    /// the entry of a counted position is looked for.
    #[must_use]
    pub fn tail(&self) -> Position {
        let is_missed = self.newest != Some(self.last_id) && self.must_hold(self.last_id);
        Position::new(self.last_id, self.entries_added.filter(|_| !is_missed))
    }

    /// Whether the stream ends at this position.
    #[must_use]
    pub fn ends_at(&self, position: Position) -> bool {
        position.id == self.last_id && (position.n.is_none() || position.n == self.entries_added)
    }

    /// Above this id every entry ever added is still there; `None` if that cannot be said.
    fn complete_above(&self) -> Option<EntryId> {
        if self.entries_added == Some(self.length) {
            Some(EntryId::MIN)
        } else if self.untraced_holes {
            None
        } else {
            Some(self.max_deleted)
        }
    }

    /// Whether an entry of this id must still be there if it was ever added.
    fn must_hold(&self, id: EntryId) -> bool {
        self.oldest.is_some_and(|oldest| id >= oldest)
            && self.complete_above().is_some_and(|above| id > above)
    }

    /// Where a reader stands who was told of a gap: right before the oldest entry retained, or at
    /// the tail when nothing is. Its count says that all that is gone by now has been told, so that
    /// from here on only what goes later is counted. The position is no entry, but it lies below all
    /// that is retained and will ever be, where no entry is looked for.
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

    /// Whether the stream ends before a position that somebody stood at: that was another stream, or
    /// this one before it was set back.
    #[must_use]
    pub fn end_before(&self, position: Position) -> bool {
        let counted_too_far = match (position.n, self.entries_added) {
            (Some(n), Some(added)) => n > added,
            _ => false,
        };
        position.id > self.last_id || counted_too_far
    }

    /// How a reader at `position` stands to what is retained.
    #[must_use]
    pub fn standing(&self, position: Position, evidence: Evidence) -> Standing {
        if position.is_oldest() {
            return Standing::Intact;
        }
        if self.end_before(position) || self.is_of_another_history(position, evidence) {
            return Standing::Reset;
        }
        let below = match self.oldest {
            Some(oldest) => position.id < oldest,
            None => position.id < self.last_id,
        };
        if !below {
            return Standing::Intact;
        }
        match (position.n, self.entries_added) {
            // A server that does not count shows nothing of what lay before its oldest entry.
            (_, None) if position.id == EntryId::MIN => Standing::Intact,
            // Nothing can have lain between.
            (None, _)
                if position
                    .id
                    .next()
                    .is_some_and(|next| self.oldest == Some(next)) =>
            {
                Standing::Intact
            }
            // Everything retained lies above the position, so it was added after it.
            (Some(n), Some(added)) => match (added - n).checked_sub(self.length) {
                Some(0) => Standing::Intact,
                Some(lost) => Standing::Overtaken { lost: Some(lost) },
                None => Standing::Reset,
            },
            (None, Some(added)) if added == self.length => Standing::Intact,
            _ => Standing::Overtaken { lost: None },
        }
    }

    /// Whether what was found contradicts a position that the stream does not end before.
    fn is_of_another_history(&self, position: Position, evidence: Evidence) -> bool {
        let Some((n, added)) = position.n.zip(self.entries_added) else {
            return false;
        };
        let (found, since) = (evidence.entries_after, added.saturating_sub(n));
        // Ids only grow: what lies after the position was added after it.
        let too_many = found > since;
        let too_few = added == self.length && evidence.to_tail && found < since;
        let missing = evidence.entry_exists == Some(false) && self.must_hold(position.id);
        too_many || too_few || missing
    }

    /// The `n` of each entry of a page that was read upwards from `after`; `to_tail` says that the
    /// page ends with the last entry retained.
    #[must_use]
    pub fn number(&self, after: Position, ids: &[EntryId], to_tail: bool) -> Vec<Option<u64>> {
        let count = ids.len() as u64;
        let Some(added) = self.entries_added else {
            return vec![None; ids.len()];
        };
        let upwards = |first: u64| (0..count).map(|index| Some(first + index)).collect();
        let at_last = to_tail && ids.last() == Some(&self.last_id);

        // As many entries since a counted position as were added since: none is missing.
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

/// What was found at and after a position, in one step with the counters.
#[derive(Clone, Copy, Debug, Default)]
pub struct Evidence {
    /// Whether the entry of the position is in the stream; `None` if that was not looked up.
    pub entry_exists: Option<bool>,
    /// Entries found after the position.
    pub entries_after: u64,
    /// No others lie after it.
    pub to_tail: bool,
}

/// What has become of the entries after a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing was removed that the reader had not read.
    Intact,
    /// The position lies below the oldest entry, and entries between were removed.
    Overtaken {
        /// Exactly how many, `None` where the counters do not tell.
        lost: Option<u64>,
    },
    /// This is not the stream the position was read from: deleted and recreated, set back, or taken
    /// over from a server that had another history of it.
    Reset,
}
