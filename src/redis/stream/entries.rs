//! Range reads of entries.

use crate::model::entry::Entry;
use crate::model::history::{Evidence, PositionStatus, StreamCounters};
use crate::model::id::EntryId;
use crate::model::name::StreamName;
use crate::model::position::Position;
use crate::model::range::Order;
use crate::redis::stream::facts::Range;
use crate::redis::stream::read_budget::{Budget, ReadPermit, heaviest};
use crate::redis::{Lane, PositionCheck, Store, StoreError};

/// Bytes read per page when only the ids are needed.
const SCAN_BYTES: usize = 256 << 10;

/// A page of entries in ascending order, with the state of the stream at the time of the read.
#[derive(Debug)]
pub struct RangePage {
    /// Entries, oldest first.
    pub entries: Vec<Entry>,
    /// Number of entries added to the stream up to and including each entry, where certain.
    pub numbers: Vec<Option<u64>>,
    /// Counters of the stream, read atomically with the first entries.
    pub facts: StreamCounters,
    /// State of the start position. After [`PositionStatus::Reset`], `entries` is empty.
    pub standing: PositionStatus,
    /// Whether there were no more entries up to the requested end.
    pub ended: bool,
    /// Whether there were no more entries in the stream.
    pub at_tail: bool,
    /// Permit for the read; hold it until the entries are rendered.
    pub permit: ReadPermit,
}

/// Entries between two ids, with the counters of the stream.
#[derive(Debug)]
pub struct IdRangePage {
    /// Entries in the requested order.
    pub entries: Vec<Entry>,
    /// Counters of the stream, read atomically with the first entries.
    pub facts: StreamCounters,
    /// Whether there were no more entries between the ids.
    pub ended: bool,
    /// Permit for the read; hold it until the entries are rendered.
    pub permit: ReadPermit,
}

impl RangePage {
    /// Returns whether the stream has no new entries and lost none since the start position.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.entries.is_empty() && self.standing == PositionStatus::Intact
    }

    /// Returns the position from which to continue: after the last entry, or at the tail of the
    /// stream if the entries that followed were removed again.
    #[must_use]
    pub fn end(&self, after: Position) -> Position {
        match (self.entries.last(), self.numbers.last()) {
            (Some(entry), Some(n)) if !self.at_tail || entry.id >= self.facts.last_id => {
                Position::new(entry.id, *n)
            }
            // Nothing lies between this position and the tail, so continue at the tail.
            _ if self.at_tail => self.facts.tail(),
            _ => after,
        }
    }
}

impl Store {
    /// Reads in ascending order from after `after` to `end` or the tail. Returns at most `limit`
    /// entries and `max_bytes` bytes. A first entry larger than `max_bytes` is still returned.
    ///
    /// # Errors
    /// [`StoreError::NotAStream`], [`StoreError::Crowded`], or an outage of Redis.
    /// # Cancel safety
    /// Cancel safe: only reads.
    pub async fn read_after(
        &self,
        lane: &Lane,
        stream: &StreamName,
        after: Position,
        end: EntryId,
        limit: usize,
        max_bytes: usize,
    ) -> Result<RangePage, StoreError> {
        let large = &self.large;
        let mut budget = Budget::new(limit, max_bytes, large.weight(stream.redis_key()));
        // Reads on an exclusive connection need no permit: they delay no other reads, and there are
        // few such connections.
        let shared = matches!(lane, Lane::Shared);
        let mut permit = ReadPermit::default();
        let mut whole: Option<RangePage> = None;
        while whole.as_ref().is_none_or(|whole| !whole.ended) && budget.next() > 0 {
            if shared {
                permit = large.at_least(permit, budget.expects()).await?;
            }
            let from = whole.as_ref().map_or(after, |whole| whole.end(after));
            let mut more = self
                .read_step(lane, stream, from, end, budget.next())
                .await?;
            large.saw(stream.redis_key(), heaviest(&more.entries));
            let Some(whole) = &mut whole else {
                if more.standing == PositionStatus::Reset {
                    return Ok(more);
                }
                cut(&mut budget, &mut more);
                whole = Some(more);
                continue;
            };
            if more.standing != PositionStatus::Intact {
                break; // Entries were removed while reading: the next read reports the gap.
            }
            cut(&mut budget, &mut more);
            whole.entries.append(&mut more.entries);
            whole.numbers.append(&mut more.numbers);
            (whole.ended, whole.at_tail) = (more.ended, more.at_tail);
        }
        let whole =
            whole.ok_or_else(|| StoreError::Unexpected("a read of 0 entries".to_owned()))?;
        Ok(RangePage { permit, ..whole })
    }

    async fn read_step(
        &self,
        lane: &Lane,
        stream: &StreamName,
        after: Position,
        end: EntryId,
        count: usize,
    ) -> Result<RangePage, StoreError> {
        // No entry follows the greatest id; the empty range still returns the counters.
        let (from, to) = after
            .id
            .next()
            .map_or((EntryId::MAX, EntryId::MIN), |from| (from, end));
        let range = Range {
            order: Order::Asc,
            low: from,
            high: to,
            count,
        };
        let (entries, check) = self.range_with_facts(lane, stream, &range, after).await?;
        let PositionCheck {
            facts,
            entry_exists,
        } = check;
        let ids: Vec<EntryId> = entries.iter().map(|entry| entry.id).collect();
        // A short page reached its end. A full page may have reached it by chance.
        let short = entries.len() < count;
        let at_tail = ids.last() == Some(&facts.last_id) || (short && end >= facts.last_id);
        let entries_after = ids.len() as u64;
        let evidence = Evidence {
            entry_exists,
            entries_after,
            to_tail: at_tail,
        };
        let standing = facts.standing(after, evidence);
        // A reader that is informed of a gap continues after the gap.
        let from = match standing {
            PositionStatus::Overtaken { .. } => facts.after_gap(),
            _ => after,
        };
        let numbers = facts.number(from, &ids, at_tail);
        let entries = if standing == PositionStatus::Reset {
            Vec::new()
        } else {
            entries
        };
        let (ended, permit) = (short || at_tail, ReadPermit::default());
        Ok(RangePage {
            entries,
            numbers,
            facts,
            standing,
            ended,
            at_tail,
            permit,
        })
    }

    /// Returns the position immediately before the last `count` entries up to `end`, with the
    /// counters of the stream. A read from there returns these entries.
    ///
    /// The position is that of the entry before them, if there is one. Any other id is not an
    /// entry, and a reader could not resume from it with a count.
    ///
    /// # Errors
    /// [`StoreError::NotAStream`], or an outage of Redis.
    /// # Cancel safety
    /// Cancel safe: only reads.
    pub async fn before_last(
        &self,
        stream: &StreamName,
        count: usize,
        end: EntryId,
    ) -> Result<(Position, StreamCounters), StoreError> {
        let (mut ids, mut facts, mut high) = (Vec::new(), None, end);
        loop {
            let (span, left) = ((EntryId::MIN, high), count + 1 - ids.len());
            let read = self
                .read_between(stream, Order::Desc, span, left, SCAN_BYTES)
                .await?;
            let first = facts.is_none();
            let facts = *facts.get_or_insert(read.facts);
            ids.extend(read.entries.iter().map(|entry| entry.id));
            let below = ids.last().and_then(|id| id.previous());
            if let Some(below) = below.filter(|_| !read.ended && ids.len() <= count) {
                high = below;
                continue;
            }
            let Some(below) = below else {
                return Ok((facts.tail(), facts));
            };
            ids.reverse();
            let numbers = facts.number(Position::OLDEST, &ids, end >= facts.last_id);
            // If there were several pages, entries between them may have been deleted meanwhile.
            let n = numbers.first().copied().flatten().filter(|_| first);
            let position = match (n, ids.first()) {
                (n, Some(before)) if ids.len() > count => Position::new(*before, n),
                // These are the oldest entries, so the check expects no entry before them.
                (Some(1), _) => Position::START,
                (n, _) => Position::new(below, n.map(|n| n - 1)),
            };
            return Ok((position, facts));
        }
    }

    /// Reads the entries between two ids, inclusive, with the counters of the stream. Stops before
    /// exceeding `max_bytes`, but always returns the first entry.
    ///
    /// # Errors
    /// [`StoreError::NotAStream`], [`StoreError::Crowded`], or an outage of Redis.
    /// # Cancel safety
    /// Cancel safe: only reads.
    pub async fn read_between(
        &self,
        stream: &StreamName,
        order: Order,
        (low, high): (EntryId, EntryId),
        limit: usize,
        max_bytes: usize,
    ) -> Result<IdRangePage, StoreError> {
        let large = &self.large;
        let mut budget = Budget::new(limit, max_bytes, large.weight(stream.redis_key()));
        let mut permit = ReadPermit::default();
        let (mut low, mut high) = (low, high);
        let (mut all, mut first) = (Vec::new(), None);
        let (entries, facts, ended) = loop {
            permit = large.at_least(permit, budget.expects()).await?;
            let count = budget.next();
            let range = Range {
                order,
                low,
                high,
                count,
            };
            let read = self.range_with_facts(&Lane::Shared, stream, &range, Position::OLDEST);
            let (mut read, check) = read.await?;
            let facts = *first.get_or_insert(check.facts);
            let ended = read.len() < count;
            large.saw(stream.redis_key(), heaviest(&read));
            let kept = budget.keep(&read);
            let cut = kept < read.len();
            read.truncate(kept);
            let last = read.last().map(|entry| entry.id);
            all.append(&mut read);
            let next = last.and_then(|last| match order {
                Order::Asc => last.next(),
                Order::Desc => last.previous(),
            });
            let Some(next) = next.filter(|_| !ended || cut) else {
                // If the page was cut before its first entry, the read has not reached the end.
                break (all, facts, !cut);
            };
            match order {
                Order::Asc => low = next,
                Order::Desc => high = next,
            }
            if cut || budget.next() == 0 || low > high {
                break (all, facts, low > high);
            }
        };
        Ok(IdRangePage {
            entries,
            facts,
            ended,
            permit,
        })
    }
}

/// Truncates an ascending page to the entries that fit in the budget.
fn cut(budget: &mut Budget, stretch: &mut RangePage) {
    let kept = budget.keep(&stretch.entries);
    if kept < stretch.entries.len() {
        stretch.entries.truncate(kept);
        stretch.numbers.truncate(kept);
        (stretch.ended, stretch.at_tail) = (false, false);
    }
}
