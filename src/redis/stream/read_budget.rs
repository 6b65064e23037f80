//! Large reads: what entries weigh, as far as it was seen, and a bound on how much is read at once.
//!
//! Redis counts entries and not bytes, and all reads share few connections: without a bound some who
//! ask for much would make everybody's reads too late, and fill our memory and the buffers of Redis
//! with answers that nobody can take yet. A read holds its room until it is done.
//!
//! What an entry weighs is its bytes, and something for each field, which costs Redis more than its bytes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::model::entry::{Entry, Fields, size};
use crate::model::id::EntryId;
use crate::model::name::StreamName;
use crate::model::range::Order;
use crate::redis::{Delivery, Store, StoreError};

/// A read that is expected to be larger takes room.
pub(in crate::redis) const LARGE: usize = 64 << 10;
/// First reads at once of streams of which nothing is known, an entry each. Apart from the others, so
/// that those who read much do not keep anybody from reading something else.
const UNKNOWN: usize = 16;
/// What a field weighs besides its bytes.
const FIELD: usize = 256;
/// What room is counted in, bytes.
const UNIT: usize = 1 << 10;
/// Streams of which the weight of entries is remembered.
const STREAMS: usize = 10_000;
/// What one answer holds at most that is not bounded otherwise, but one entry at least.
pub(in crate::redis) const ANSWER: usize = 16 << 20;
/// How much the counters of several streams may weigh that are asked for in one script, and what they
/// are taken to weigh of a stream that was never looked at.
const GLANCE: usize = 1 << 20;
const UNSEEN: usize = 128 << 10;

/// What is known of large reads, and the room there is for them.
pub struct LargeReads {
    /// The weight of the heaviest entry that was lately seen of a stream.
    weights: Mutex<HashMap<Box<str>, usize>>,
    room: Arc<Semaphore>,
    unknown: Arc<Semaphore>,
    /// All room there is, in units.
    all: u32,
    /// How long a read waits for room.
    patience: Duration,
    /// Reads that got none in time, since this was last asked.
    refused: AtomicU64,
}

/// The weight of the heaviest.
pub(in crate::redis) fn heaviest(entries: &[Entry]) -> Option<usize> {
    heaviest_of(entries.iter().map(|entry| &entry.fields))
}

/// The same, of entries that were handed to a consumer.
pub(in crate::redis) fn heaviest_handed(entries: &[Delivery]) -> Option<usize> {
    heaviest_of(entries.iter().filter_map(|entry| entry.fields.as_ref()))
}

fn heaviest_of<'a>(entries: impl Iterator<Item = &'a Fields>) -> Option<usize> {
    entries
        .map(|fields| size(fields) + FIELD * fields.len())
        .max()
}

impl LargeReads {
    /// Room for so many bytes, for which a read waits so long.
    pub(in crate::redis) fn new(bytes: usize, patience: Duration) -> Self {
        let all =
            u32::try_from((bytes / UNIT).clamp(1, Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX);
        Self {
            weights: Mutex::default(),
            room: Arc::new(Semaphore::new(all as usize)),
            unknown: Arc::new(Semaphore::new(UNKNOWN)),
            all,
            patience,
            refused: AtomicU64::new(0),
        }
    }

    /// What the heaviest entries of a stream weigh, if some were seen.
    pub(in crate::redis) fn weight(&self, stream: &str) -> Option<usize> {
        self.weights
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(stream)
            .copied()
    }

    /// Room for a look at the counters of a stream: XINFO copies the first and the last entry along.
    ///
    /// # Errors
    /// As [`LargeReads::room`].
    pub(in crate::redis) async fn room_for_facts(&self, stream: &str) -> Result<Room, StoreError> {
        let weight = self.weight(stream).map(|weight| 2 * weight);
        self.at_least(Room::default(), weight).await
    }

    /// Notes what the heaviest of some entries weighed, also of such that were thrown away. What was
    /// heavier is forgotten by eighths, so that a few light ones do not make a stream look harmless.
    pub(in crate::redis) fn saw(&self, stream: &str, heaviest: Option<usize>) {
        let Some(heaviest) = heaviest else { return };
        let mut weights = self.weights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(weight) = weights.get_mut(stream) {
            *weight = heaviest.max(*weight - *weight / 8);
            return;
        }
        if weights.len() >= STREAMS {
            weights.clear();
        }
        weights.insert(stream.into(), heaviest);
    }

    /// Room for a read of about so many bytes, for as long as it is held; small ones need none.
    ///
    /// # Errors
    /// [`StoreError::Crowded`] when there is none in time.
    pub(in crate::redis) async fn room(&self, bytes: usize) -> Result<Room, StoreError> {
        if bytes < LARGE {
            return Ok(Room::default());
        }
        let units = u32::try_from(bytes / UNIT)
            .unwrap_or(u32::MAX)
            .min(self.all);
        self.wait_for(&self.room, units).await
    }

    async fn wait_for(&self, room: &Arc<Semaphore>, units: u32) -> Result<Room, StoreError> {
        let room = room.clone().acquire_many_owned(units);
        if let Ok(Ok(room)) = tokio::time::timeout(self.patience, room).await {
            return Ok(Room(Some(room)));
        }
        self.refused.fetch_add(1, Ordering::Relaxed);
        Err(StoreError::Crowded)
    }

    /// As much room as is held if that is enough, else as much as is needed for so many bytes; for an
    /// entry of which nothing is known if there is no telling.
    ///
    /// # Errors
    /// As [`LargeReads::room`].
    pub(in crate::redis) async fn at_least(
        &self,
        held: Room,
        bytes: Option<usize>,
    ) -> Result<Room, StoreError> {
        let Some(bytes) = bytes else {
            return self.wait_for(&self.unknown, 1).await;
        };
        let has = held.0.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        if bytes < LARGE || has >= (bytes / UNIT).min(self.all as usize) {
            return Ok(held);
        }
        // Who held some while waiting for more might wait for those who do the same.
        drop(held);
        self.room(bytes).await
    }

    /// Bytes for which room is held now.
    #[must_use]
    pub fn bytes(&self) -> usize {
        (self.all as usize - self.room.available_permits().min(self.all as usize)) * UNIT
    }

    /// Reads that got no room in time since this was last asked.
    #[must_use]
    pub fn take_refused(&self) -> u64 {
        self.refused.swap(0, Ordering::Relaxed)
    }
}

impl Store {
    /// How many of these streams, from the first on, may be asked for their counters at once: at least
    /// one.
    #[must_use]
    pub fn glanced_at_once<'a>(&self, streams: impl Iterator<Item = &'a StreamName>) -> usize {
        let mut weight = 0;
        let fits = streams.take_while(|stream| {
            weight += 2 * self.large.weight(stream.as_str()).unwrap_or(UNSEEN);
            weight <= GLANCE
        });
        fits.count().max(1)
    }
}

impl Store {
    /// What the heaviest entries of a stream weigh. Of one that nobody has read lately the last is
    /// looked at.
    pub(in crate::redis) async fn weigh(&self, stream: &StreamName) -> Result<usize, StoreError> {
        if let Some(weight) = self.large.weight(stream.as_str()) {
            return Ok(weight);
        }
        let all = (EntryId::MIN, EntryId::MAX);
        let last = self
            .read_between(stream, Order::Desc, all, 1, usize::MAX)
            .await?;
        Ok(heaviest(&last.entries).unwrap_or(0))
    }

    /// How many of `count` entries make an answer, one at least, and room for them.
    pub(in crate::redis) async fn portion(
        &self,
        stream: &StreamName,
        count: usize,
    ) -> Result<(usize, Room), StoreError> {
        let weight = self.weigh(stream).await?.max(1);
        let portion = count.min(ANSWER / weight).max(1);
        Ok((
            portion,
            self.large.room(portion.saturating_mul(weight)).await?,
        ))
    }
}

/// Room for a large read, or none that a small one needs. To be held until what was read is in the
/// form it is answered in: what is read faster than that would only pile up before the threads that do
/// it, and small requests behind it.
#[derive(Debug, Default)]
pub struct Room(Option<OwnedSemaphorePermit>);

/// How much of a range is still to be read: at most so many entries, and no more than fit into so many
/// bytes unless a single one is larger.
pub(in crate::redis) struct Budget {
    entries: usize,
    bytes: usize,
    seen: usize,
    seen_bytes: usize,
    /// The weight of the heaviest entry, by what was read earlier and now; of those that did not fit,
    /// too.
    heaviest: Option<usize>,
}

impl Budget {
    /// How many entries the first read asks for at most, if it is known what they weigh; and how many
    /// times as many as were seen each one after it. What is known may be wrong by then.
    const FIRST: usize = 64;
    const GROWTH: usize = 4;

    pub(in crate::redis) fn new(entries: usize, bytes: usize, known: Option<usize>) -> Self {
        Self {
            entries,
            bytes,
            seen: 0,
            seen_bytes: 0,
            heaviest: known,
        }
    }

    fn left(&self) -> (usize, usize) {
        (
            self.entries.saturating_sub(self.seen),
            self.bytes.saturating_sub(self.seen_bytes),
        )
    }

    /// How many entries to ask for next; 0 when the budget is spent.
    pub(in crate::redis) fn next(&self) -> usize {
        let (left, bytes) = self.left();
        let Some(heaviest) = self.heaviest else {
            return left.min(1);
        };
        if self.seen > 0 && bytes == 0 {
            return 0;
        }
        let mean = self.seen_bytes.checked_div(self.seen).unwrap_or(heaviest);
        let fit = bytes / mean.max(1);
        // If all of them are heavy it is not much more than what fits, nor much at all.
        let harmless = bytes.max(LARGE) / heaviest.max(1);
        let most = if self.seen == 0 {
            Self::FIRST
        } else {
            self.seen * Self::GROWTH
        };
        left.min(fit.min(harmless).max(1)).min(most)
    }

    /// What all that is left will weigh in Redis, with the counters that are read along; nothing if
    /// there is no telling.
    pub(in crate::redis) fn expects(&self) -> Option<usize> {
        if self.next() == 0 {
            return Some(0);
        }
        let ((left, bytes), heaviest) = (self.left(), self.heaviest?);
        Some(
            left.saturating_mul(heaviest)
                .min(bytes.max(heaviest))
                .saturating_add(2 * heaviest),
        )
    }

    /// How many of these entries fit; counts them as seen. The very first always fits.
    pub(in crate::redis) fn keep(&mut self, entries: &[Entry]) -> usize {
        self.heaviest = self.heaviest.max(heaviest(entries));
        for (index, entry) in entries.iter().enumerate() {
            let size = entry.size();
            if self.seen > 0 && self.seen_bytes + size > self.bytes {
                self.bytes = self.seen_bytes;
                return index;
            }
            self.seen += 1;
            self.seen_bytes += size;
        }
        entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(sizes: &[usize]) -> Vec<Entry> {
        let entry = |size: &usize| Entry {
            id: EntryId::MIN,
            fields: vec![(Vec::new(), vec![b'x'; *size])],
        };
        sizes.iter().map(entry).collect()
    }

    #[test]
    fn of_what_nobody_has_seen_one_is_read_first() {
        let mut budget = Budget::new(1000, 1 << 20, None);
        assert_eq!((budget.next(), budget.expects()), (1, None));
        assert_eq!(budget.keep(&entries(&[8 << 20])), 1);
        assert_eq!(
            budget.next(),
            0,
            "one that is larger than all there may be is all there is"
        );
        let mut budget = Budget::new(1000, 1 << 20, None);
        assert_eq!(budget.keep(&entries(&[100])), 1);
        assert_eq!(
            budget.next(),
            Budget::GROWTH,
            "what is small so far need not stay so"
        );
    }

    #[test]
    fn what_is_known_to_be_large_is_asked_for_by_its_weight() {
        for (weight, next) in [(512 << 10, 2), (8 << 20, 1), (100, Budget::FIRST)] {
            assert_eq!(Budget::new(100, 1 << 20, Some(weight)).next(), next);
        }
        let many = Budget::new(100, 1 << 20, Some(8 << 20));
        assert_eq!(
            many.expects(),
            Some(3 * (8 << 20)),
            "itself, and the two that counters bring along"
        );
    }

    #[test]
    fn a_large_one_among_small_ones_is_not_forgotten_when_it_did_not_fit() {
        let mut budget = Budget::new(100, 250, Some(300));
        assert_eq!(budget.keep(&entries(&[100, 100, 1 << 20, 1])), 2);
        assert_eq!(budget.next(), 0, "what does not fit ends it");
        assert_eq!(budget.heaviest, Some((1 << 20) + FIELD));
        let mut budget = Budget::new(1000, 4 << 20, Some(300));
        budget.keep(&entries(&[100, 1 << 20, 100]));
        assert_eq!(
            budget.next(),
            2,
            "no more than would fit if all were like it"
        );
    }

    #[test]
    fn weights_rise_at_once_and_fall_by_and_by() {
        let large = LargeReads::new(1 << 20, Duration::ZERO);
        large.saw("s", None);
        assert_eq!(large.weight("s"), None);
        for (seen, weight) in [(100, 100), (8000, 8000), (10, 7000), (10, 6125)] {
            large.saw("s", Some(seen));
            assert_eq!(large.weight("s"), Some(weight));
        }
    }

    #[tokio::test]
    async fn who_gets_no_room_in_time_is_told_and_counted() {
        let large = LargeReads::new(1 << 20, Duration::from_millis(1));
        assert!(large.room(LARGE - 1).await.unwrap().0.is_none());
        let all = large.room(usize::MAX).await.unwrap();
        assert_eq!(large.bytes(), 1 << 20);
        assert!(matches!(large.room(LARGE).await, Err(StoreError::Crowded)));
        let all = large.at_least(all, Some(usize::MAX)).await.unwrap();
        drop(all);
        let some = large.room(LARGE).await.unwrap();
        assert!(
            large
                .at_least(some, Some(2 * LARGE))
                .await
                .unwrap()
                .0
                .is_some()
        );
        assert_eq!(
            (large.take_refused(), large.take_refused(), large.bytes()),
            (1, 0, 0)
        );
    }
}
