//! Reading entries.

use super::facts::Range;
use super::{Lane, Store, StoreError};
use crate::model::entry::Entry;
use crate::model::history::{Facts, Standing};
use crate::model::id::EntryId;
use crate::model::name::StreamName;
use crate::model::position::Position;
use crate::model::range::Order;

/// The first read of a budgeted range, when nothing is known of the size of its entries.
const FIRST_READ: usize = 32;
/// Bytes read in one go where only ids are wanted.
const SCAN_BYTES: usize = 256 << 10;

/// A run of entries read upwards, with what was known of the stream when it was read.
#[derive(Clone, Debug)]
pub struct Stretch {
    /// Oldest first.
    pub entries: Vec<Entry>,
    /// How many entries the stream had been given up to each, where that is certain.
    pub numbers: Vec<Option<u64>>,
    /// Read in one step with the first entries.
    pub facts: Facts,
    /// How the position stood that was read from. Nothing is read after [`Standing::Reset`].
    pub standing: Standing,
    /// Nothing more lay between the last entry and the end that was asked for.
    pub ended: bool,
    /// Nothing more lay in the stream.
    pub at_tail: bool,
}

impl Stretch {
    /// Whether nothing has happened to the stream since `after` was read.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.entries.is_empty() && self.standing == Standing::Intact
    }

    /// Where to read on: after the last entry, or at the tail of the stream where entries that
    /// followed were removed again.
    #[must_use]
    pub fn end(&self, after: Position) -> Position {
        match (self.entries.last(), self.numbers.last()) {
            (Some(entry), Some(n)) if !self.at_tail || entry.id >= self.facts.last_id => {
                Position::new(entry.id, *n)
            }
            // Nothing is left between here and the tail, so this is the tail.
            _ if self.at_tail => self.facts.tail(),
            _ => after,
        }
    }
}

impl Store {
    /// Reads upwards from `after` to `end` or the tail: at most `limit` entries, and no more than
    /// fit into `max_bytes` unless a single one is larger.
    ///
    /// # Errors
    /// [`StoreError::NotAStream`], or that Redis is away.
    /// # Cancel safety
    /// Reads only.
    pub async fn read_after(
        &self,
        lane: &Lane,
        stream: &StreamName,
        after: Position,
        end: EntryId,
        limit: usize,
        max_bytes: usize,
    ) -> Result<Stretch, StoreError> {
        let mut budget = Budget::new(limit, max_bytes);
        let mut whole = self.read_step(lane, stream, after, end, budget.next()).await?;
        if whole.standing == Standing::Reset {
            return Ok(whole);
        }
        budget.cut(&mut whole);
        while !whole.ended && budget.next() > 0 {
            let from = whole.end(after);
            let mut more = self.read_step(lane, stream, from, end, budget.next()).await?;
            if more.standing != Standing::Intact {
                break; // Overtaken while reading: whoever reads on is told.
            }
            budget.cut(&mut more);
            whole.entries.append(&mut more.entries);
            whole.numbers.append(&mut more.numbers);
            (whole.ended, whole.at_tail) = (more.ended, more.at_tail);
        }
        Ok(whole)
    }

    async fn read_step(
        &self,
        lane: &Lane,
        stream: &StreamName,
        after: Position,
        end: EntryId,
        count: usize,
    ) -> Result<Stretch, StoreError> {
        // Nothing lies after the greatest id; the empty range still answers the counters.
        let (from, to) = after.id.next().map_or((EntryId::MAX, EntryId::MIN), |from| (from, end));
        let range = Range { order: Order::Asc, low: from, high: to, count };
        let (entries, facts) = self.range_with_facts(lane, stream, &range).await?;
        let standing = facts.standing(after);
        let ids: Vec<EntryId> = entries.iter().map(|entry| entry.id).collect();
        // A short page ended where it was to end; a full one may have, by chance.
        let short = entries.len() < count;
        let at_tail = ids.last() == Some(&facts.last_id) || (short && end >= facts.last_id);
        // Who is told of the gap stands behind it.
        let from = match standing {
            Standing::Overtaken { .. } => facts.after_gap(),
            _ => after,
        };
        let numbers = facts.number(from, &ids, at_tail);
        let entries = if standing == Standing::Reset { Vec::new() } else { entries };
        Ok(Stretch { entries, numbers, facts, standing, ended: short || at_tail, at_tail })
    }

    /// The position right before the last `count` entries up to `end`, with the counters of the
    /// stream: from there on it is they that are read.
    ///
    /// # Errors
    /// [`StoreError::NotAStream`], or that Redis is away.
    /// # Cancel safety
    /// Reads only.
    pub async fn before_last(
        &self,
        stream: &StreamName,
        count: usize,
        end: EntryId,
    ) -> Result<(Position, Facts), StoreError> {
        let (mut ids, mut facts, mut high) = (Vec::new(), None, end);
        loop {
            let (span, left) = ((EntryId::MIN, high), count - ids.len());
            let (read, counters, done) =
                self.read_between(stream, Order::Desc, span, left, SCAN_BYTES).await?;
            let first = facts.is_none();
            let facts = *facts.get_or_insert(counters);
            ids.extend(read.iter().map(|entry| entry.id));
            let below = ids.last().and_then(|id| id.previous());
            match below {
                Some(below) if !done && ids.len() < count => high = below,
                Some(below) => {
                    ids.reverse();
                    let numbers = facts.number(Position::OLDEST, &ids, end >= facts.last_id);
                    // Read in several steps, entries between may have gone meanwhile.
                    let n = numbers.first().copied().flatten().filter(|_| first);
                    return Ok((Position::new(below, n.map(|n| n - 1)), facts));
                }
                None => return Ok((facts.tail(), facts)),
            }
        }
    }

    /// Reads between two ids, both included, with the counters of the stream; what does not fit
    /// into `max_bytes` is cut off, but never the first entry. The flag says that nothing more
    /// lies in the range.
    ///
    /// # Errors
    /// [`StoreError::NotAStream`], or that Redis is away.
    /// # Cancel safety
    /// Reads only.
    pub async fn read_between(
        &self,
        stream: &StreamName,
        order: Order,
        (low, high): (EntryId, EntryId),
        limit: usize,
        max_bytes: usize,
    ) -> Result<(Vec<Entry>, Facts, bool), StoreError> {
        let mut budget = Budget::new(limit, max_bytes);
        let (mut low, mut high) = (low, high);
        let (mut all, mut first) = (Vec::new(), None);
        loop {
            let count = budget.next();
            let range = Range { order, low, high, count };
            let (mut read, facts) = self.range_with_facts(&Lane::Shared, stream, &range).await?;
            let facts = *first.get_or_insert(facts);
            let ended = read.len() < count;
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
                return Ok((all, facts, true));
            };
            match order {
                Order::Asc => low = next,
                Order::Desc => high = next,
            }
            if cut || budget.next() == 0 || low > high {
                return Ok((all, facts, low > high));
            }
        }
    }
}

/// Redis counts entries, not bytes: this asks for few entries first and then for as many as the
/// ones seen so far let expect.
struct Budget {
    entries: usize,
    bytes: usize,
    seen: usize,
    seen_bytes: usize,
}

impl Budget {
    fn new(entries: usize, bytes: usize) -> Self {
        Self { entries, bytes, seen: 0, seen_bytes: 0 }
    }

    /// How many entries to ask for next; 0 when the budget is spent.
    fn next(&self) -> usize {
        let left = self.entries.saturating_sub(self.seen);
        let bytes_left = self.bytes.saturating_sub(self.seen_bytes);
        match self.seen_bytes.checked_div(self.seen) {
            None => left.min(FIRST_READ),
            Some(_) if bytes_left == 0 => 0,
            Some(average) => left.min((bytes_left / average.max(1)).max(1)),
        }
    }

    /// How many of `entries` fit; counts them as seen. The very first always fits.
    fn keep(&mut self, entries: &[Entry]) -> usize {
        for (index, entry) in entries.iter().enumerate() {
            let size = entry.size();
            if self.seen > 0 && self.seen_bytes + size > self.bytes {
                self.seen_bytes = self.bytes;
                return index;
            }
            self.seen += 1;
            self.seen_bytes += size;
        }
        entries.len()
    }

    fn cut(&mut self, stretch: &mut Stretch) {
        let kept = self.keep(&stretch.entries);
        if kept < stretch.entries.len() {
            stretch.entries.truncate(kept);
            stretch.numbers.truncate(kept);
            (stretch.ended, stretch.at_tail) = (false, false);
        }
    }
}
