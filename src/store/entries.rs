//! Reading entries.

use super::facts::Range;
use super::large::{Budget, Room, heaviest};
use super::{Lane, Store, StoreError, StreamCheck};
use crate::model::entry::Entry;
use crate::model::history::{Evidence, Facts, Standing};
use crate::model::id::EntryId;
use crate::model::name::StreamName;
use crate::model::position::Position;
use crate::model::range::Order;

/// Bytes read in one go where only ids are wanted.
const SCAN_BYTES: usize = 256 << 10;

/// A run of entries read upwards, with what was known of the stream when it was read.
#[derive(Debug)]
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
    /// To be held until the entries are rendered.
    pub room: Room,
}

/// Entries between two ids, with the counters of their stream.
#[derive(Debug)]
pub struct Between {
    /// In the order asked for.
    pub entries: Vec<Entry>,
    /// Read in one step with the first of them.
    pub facts: Facts,
    /// Nothing more lay between the ids.
    pub ended: bool,
    /// To be held until the entries are rendered.
    pub room: Room,
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
    ) -> Result<Stretch, StoreError> {
        let large = &self.large;
        let mut budget = Budget::new(limit, max_bytes, large.weight(stream.as_str()));
        // A connection of its own holds up nobody, and there are few.
        let shared = matches!(lane, Lane::Shared);
        let mut room = Room::default();
        let mut whole: Option<Stretch> = None;
        while whole.as_ref().is_none_or(|whole| !whole.ended) && budget.next() > 0 {
            if shared {
                room = large.at_least(room, budget.expects()).await?;
            }
            let from = whole.as_ref().map_or(after, |whole| whole.end(after));
            let mut more = self
                .read_step(lane, stream, from, end, budget.next())
                .await?;
            large.saw(stream.as_str(), heaviest(&more.entries));
            let Some(whole) = &mut whole else {
                if more.standing == Standing::Reset {
                    return Ok(more);
                }
                cut(&mut budget, &mut more);
                whole = Some(more);
                continue;
            };
            if more.standing != Standing::Intact {
                break; // Overtaken while reading: whoever reads on is told.
            }
            cut(&mut budget, &mut more);
            whole.entries.append(&mut more.entries);
            whole.numbers.append(&mut more.numbers);
            (whole.ended, whole.at_tail) = (more.ended, more.at_tail);
        }
        let whole =
            whole.ok_or_else(|| StoreError::Unexpected("nothing was asked for".to_owned()))?;
        Ok(Stretch { room, ..whole })
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
        let StreamCheck {
            facts,
            entry_exists,
        } = check;
        let ids: Vec<EntryId> = entries.iter().map(|entry| entry.id).collect();
        // A short page ended where it was to end; a full one may have, by chance.
        let short = entries.len() < count;
        let at_tail = ids.last() == Some(&facts.last_id) || (short && end >= facts.last_id);
        let entries_after = ids.len() as u64;
        let evidence = Evidence {
            entry_exists,
            entries_after,
            to_tail: at_tail,
        };
        let standing = facts.standing(after, evidence);
        // Who is told of the gap stands behind it.
        let from = match standing {
            Standing::Overtaken { .. } => facts.after_gap(),
            _ => after,
        };
        let numbers = facts.number(from, &ids, at_tail);
        let entries = if standing == Standing::Reset {
            Vec::new()
        } else {
            entries
        };
        let (ended, room) = (short || at_tail, Room::default());
        Ok(Stretch {
            entries,
            numbers,
            facts,
            standing,
            ended,
            at_tail,
            room,
        })
    }

    /// The position right before the last `count` entries up to `end`, with the counters of the
    /// stream: from there on it is they that are read. It is the position of the entry before them,
    /// where there is one: any other id would be no entry, and could not be resumed from with a count.
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
    ) -> Result<(Position, Facts), StoreError> {
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
            // Read in several steps, entries between may have gone meanwhile.
            let n = numbers.first().copied().flatten().filter(|_| first);
            let position = match (n, ids.first()) {
                (n, Some(before)) if ids.len() > count => Position::new(*before, n),
                // They are the oldest there are: no entry is looked for below them.
                (Some(1), _) => Position::START,
                (n, _) => Position::new(below, n.map(|n| n - 1)),
            };
            return Ok((position, facts));
        }
    }

    /// Reads between two ids, both included, with the counters of the stream; what does not fit
    /// into `max_bytes` is cut off, but never the first entry.
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
    ) -> Result<Between, StoreError> {
        let large = &self.large;
        let mut budget = Budget::new(limit, max_bytes, large.weight(stream.as_str()));
        let mut room = Room::default();
        let (mut low, mut high) = (low, high);
        let (mut all, mut first) = (Vec::new(), None);
        let (entries, facts, ended) = loop {
            room = large.at_least(room, budget.expects()).await?;
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
            large.saw(stream.as_str(), heaviest(&read));
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
                // Nothing of a page that was cut may fit: then it did not end there.
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
        Ok(Between {
            entries,
            facts,
            ended,
            room,
        })
    }
}

/// Keeps of what was read upwards what fits.
fn cut(budget: &mut Budget, stretch: &mut Stretch) {
    let kept = budget.keep(&stretch.entries);
    if kept < stretch.entries.len() {
        stretch.entries.truncate(kept);
        stretch.numbers.truncate(kept);
        (stretch.ended, stretch.at_tail) = (false, false);
    }
}
