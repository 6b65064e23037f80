//! Large reads: what entries weigh, as far as it was seen, and a bound on how much is read at once.
//!
//! Redis counts entries and not bytes, and all reads share few connections: without a bound some who
//! ask for much would make everybody's reads too late, and fill our memory and the buffers of Redis
//! with answers that nobody can take yet. A read holds its room until it is done.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::StoreError;

/// A read that is expected to be larger takes room.
const LARGE: usize = 64 << 10;
/// What room is counted in, bytes.
const UNIT: usize = 1 << 10;
/// Streams of which the weight of entries is remembered.
const STREAMS: usize = 10_000;

/// What is known of large reads, and the room there is for them.
pub struct LargeReads {
    /// The mean size of the entries of a stream when it was last read, bytes.
    weights: Mutex<HashMap<Box<str>, usize>>,
    room: Arc<Semaphore>,
    /// All room there is, in units.
    all: u32,
    /// How long a read waits for room.
    patience: Duration,
    /// Reads that got none in time, since this was last asked.
    refused: AtomicU64,
}

impl LargeReads {
    /// Room for so many bytes, for which a read waits so long.
    pub(super) fn new(bytes: usize, patience: Duration) -> Self {
        let all =
            u32::try_from((bytes / UNIT).clamp(1, Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX);
        Self {
            weights: Mutex::default(),
            room: Arc::new(Semaphore::new(all as usize)),
            all,
            patience,
            refused: AtomicU64::new(0),
        }
    }

    /// What an entry of this stream weighs, if some were seen.
    pub(super) fn weight(&self, stream: &str) -> Option<usize> {
        self.weights.lock().unwrap_or_else(PoisonError::into_inner).get(stream).copied()
    }

    /// Notes what was seen. What was heavier is forgotten by halves, so that one read of small
    /// entries does not make a stream of large ones look harmless.
    pub(super) fn saw(&self, stream: &str, entries: usize, bytes: usize) {
        let Some(mean) = bytes.checked_div(entries) else { return };
        let mut weights = self.weights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(weight) = weights.get_mut(stream) {
            *weight = mean.max(*weight / 2);
            return;
        }
        if weights.len() >= STREAMS {
            weights.clear();
        }
        weights.insert(stream.into(), mean);
    }

    /// Room for a read of about so many bytes, for as long as it is held; small ones need none.
    ///
    /// # Errors
    /// [`StoreError::Crowded`] when there is none in time.
    pub(super) async fn room(&self, bytes: usize) -> Result<Room, StoreError> {
        if bytes < LARGE {
            return Ok(Room::default());
        }
        let units = u32::try_from(bytes / UNIT).unwrap_or(u32::MAX).min(self.all);
        let room =
            tokio::time::timeout(self.patience, self.room.clone().acquire_many_owned(units)).await;
        if let Ok(Ok(room)) = room {
            return Ok(Room(Some(room)));
        }
        self.refused.fetch_add(1, Ordering::Relaxed);
        Err(StoreError::Crowded)
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

/// Room for a large read, or none that a small one needs. To be held until what was read is in the
/// form it is answered in: what is read faster than that would only pile up before the threads that do
/// it, and small requests behind it.
#[derive(Debug, Default)]
pub struct Room(Option<OwnedSemaphorePermit>);

impl Room {
    pub(super) fn is_none(&self) -> bool {
        self.0.is_none()
    }
}

/// How much of a range is still to be read: at most so many entries, and no more than fit into so many
/// bytes unless a single one is larger.
pub(super) struct Budget {
    entries: usize,
    bytes: usize,
    seen: usize,
    seen_bytes: usize,
    /// What an entry weighs, by earlier reads.
    known: Option<usize>,
}

impl Budget {
    /// How many entries the first read asks for at most, if it is known what they weigh; and how many
    /// times as many as were seen each one after it. What is known may be wrong by then.
    const FIRST: usize = 64;
    const GROWTH: usize = 16;

    pub(super) fn new(entries: usize, bytes: usize, known: Option<usize>) -> Self {
        Self { entries, bytes, seen: 0, seen_bytes: 0, known }
    }

    fn weight(&self) -> Option<usize> {
        self.seen_bytes.checked_div(self.seen).or(self.known).map(|weight| weight.max(1))
    }

    fn left(&self) -> (usize, usize) {
        (self.entries.saturating_sub(self.seen), self.bytes.saturating_sub(self.seen_bytes))
    }

    /// How many entries to ask for next; 0 when the budget is spent.
    pub(super) fn next(&self) -> usize {
        let (left, bytes) = self.left();
        let most = if self.seen == 0 { Self::FIRST } else { self.seen * Self::GROWTH };
        match self.weight() {
            Some(_) if bytes == 0 => 0,
            Some(weight) => left.min((bytes / weight).max(1)).min(most),
            None => left.min(1),
        }
    }

    /// How many bytes all that is left will be; 0 while nothing is known.
    pub(super) fn expects(&self) -> usize {
        if self.next() == 0 {
            return 0;
        }
        let (left, bytes) = self.left();
        let weight = self.weight().unwrap_or(0);
        left.saturating_mul(weight).min(bytes.max(weight))
    }

    /// How many of entries of these sizes fit; counts them as seen. The very first always fits.
    pub(super) fn keep(&mut self, sizes: impl ExactSizeIterator<Item = usize>) -> usize {
        let all = sizes.len();
        for (index, size) in sizes.enumerate() {
            if self.seen > 0 && self.seen_bytes + size > self.bytes {
                self.bytes = self.seen_bytes;
                return index;
            }
            self.seen += 1;
            self.seen_bytes += size;
        }
        all
    }

    /// Entries seen, and their bytes.
    pub(super) fn seen(&self) -> (usize, usize) {
        (self.seen, self.seen_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_nobody_has_seen_one_is_read_first() {
        let mut budget = Budget::new(1000, 1 << 20, None);
        assert_eq!((budget.next(), budget.expects()), (1, 0));
        assert_eq!(budget.keep([8 << 20].into_iter()), 1);
        assert_eq!(budget.next(), 0, "one that is larger than all there may be is all there is");
        let mut budget = Budget::new(1000, 1 << 20, None);
        assert_eq!(budget.keep([100].into_iter()), 1);
        assert_eq!(budget.next(), Budget::GROWTH, "what is small so far need not stay so");
    }

    #[test]
    fn what_is_known_to_be_large_is_asked_for_by_its_weight() {
        let budget = Budget::new(100, 1 << 20, Some(512 << 10));
        assert_eq!((budget.next(), budget.expects()), (2, 1 << 20));
        let budget = Budget::new(100, 1 << 20, Some(8 << 20));
        assert_eq!((budget.next(), budget.expects()), (1, 8 << 20));
        let budget = Budget::new(100, 1 << 20, Some(100));
        assert_eq!((budget.next(), budget.expects()), (Budget::FIRST, 10_000));
    }

    #[test]
    fn what_does_not_fit_ends_the_budget() {
        let mut budget = Budget::new(100, 250, Some(10));
        assert_eq!(budget.keep([100, 100, 100, 1].into_iter()), 2);
        assert_eq!((budget.next(), budget.seen()), (0, (2, 200)));
    }

    #[test]
    fn weights_rise_at_once_and_fall_by_halves() {
        let large = LargeReads::new(1 << 20, Duration::ZERO);
        assert_eq!(large.weight("s"), None);
        large.saw("s", 0, 0);
        assert_eq!(large.weight("s"), None);
        for (bytes, weight) in [(1000, 100), (80_000, 8000), (10, 4000), (10, 2000)] {
            large.saw("s", 10, bytes);
            assert_eq!(large.weight("s"), Some(weight));
        }
    }

    #[tokio::test]
    async fn who_gets_no_room_in_time_is_told_and_counted() {
        let large = LargeReads::new(1 << 20, Duration::from_millis(1));
        assert!(large.room(LARGE - 1).await.unwrap().is_none());
        let all = large.room(usize::MAX).await.unwrap();
        assert_eq!(large.bytes(), 1 << 20);
        assert!(matches!(large.room(LARGE).await, Err(StoreError::Crowded)));
        drop(all);
        assert!(!large.room(LARGE).await.unwrap().is_none());
        assert_eq!((large.take_refused(), large.take_refused(), large.bytes()), (1, 0, 0));
    }
}
