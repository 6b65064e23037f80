//! The read budget: estimates entry sizes and limits the bytes of concurrent large reads.
//!
//! Redis limits reads by entries, not by bytes, and all reads share a few connections. Without a
//! limit, a few large reads would delay all others. Their replies would also fill the gateway's
//! memory and the buffers of Redis before clients can receive them. A read holds its permit until
//! it is done.
//!
//! The weight of an entry is its size in bytes plus a constant per field, because a field costs
//! Redis more than its bytes.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::model::entry::{Entry, Fields, size};
use crate::model::id::EntryId;
use crate::model::name::StreamName;
use crate::model::range::Order;
use crate::redis::{Delivery, Store, StoreError};
use crate::shares::{self, Bound, ShareQueue};

/// Expected bytes from which a read needs a permit.
pub(in crate::redis) const LARGE: usize = 64 << 10;
/// Maximum number of concurrent first reads of streams of unknown weight, one entry each. Separate
/// from the budget, so that large reads do not block first reads.
const UNKNOWN: u32 = 16;
/// Weight of a field in addition to its bytes.
const FIELD: usize = 256;
/// Bytes per unit of the budget.
const UNIT: usize = 1 << 10;
/// Maximum number of streams whose entry weight is remembered.
const STREAMS: usize = 10_000;
/// Maximum bytes of a response without another limit; at least one entry is returned.
pub(in crate::redis) const ANSWER: usize = 16 << 20;
/// Maximum bytes that one script may copy to read the counters of several streams.
const GLANCE: usize = 1 << 20;
/// Bytes assumed for the counters of a stream of unknown weight.
const UNSEEN: usize = 128 << 10;

/// The read budget and the known weights of entries.
pub struct ReadBudget {
    /// Weight of the heaviest entry recently seen in each stream.
    weights: Mutex<HashMap<Box<str>, usize>>,
    budget: Arc<Semaphore>,
    unknown: Arc<Semaphore>,
    /// The shares of callers in the budget, and in the first reads.
    shares: [ShareQueue; 2],
    /// Total budget, in units.
    all: u32,
    /// Timeout for waiting for a permit.
    patience: Duration,
    /// Number of reads without a permit in time, since the last `take_refused`.
    refused: AtomicU64,
}

/// Returns the weight of the heaviest entry.
pub(in crate::redis) fn heaviest(entries: &[Entry]) -> Option<usize> {
    heaviest_of(entries.iter().map(|entry| &entry.fields))
}

/// Returns the weight of the heaviest entry among those delivered to a consumer.
pub(in crate::redis) fn heaviest_handed(entries: &[Delivery]) -> Option<usize> {
    heaviest_of(entries.iter().filter_map(|entry| entry.fields.as_ref()))
}

fn heaviest_of<'a>(entries: impl Iterator<Item = &'a Fields>) -> Option<usize> {
    entries
        .map(|fields| size(fields) + FIELD * fields.len())
        .max()
}

impl ReadBudget {
    /// Creates a budget of `bytes`; a read waits for its permit at most `patience`.
    pub(in crate::redis) fn new(bytes: usize, patience: Duration) -> Self {
        let all =
            u32::try_from((bytes / UNIT).clamp(1, Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX);
        Self {
            weights: Mutex::default(),
            budget: Arc::new(Semaphore::new(all as usize)),
            unknown: Arc::new(Semaphore::new(UNKNOWN as usize)),
            shares: [
                ShareQueue::new(Bound::Reads, all),
                ShareQueue::new(Bound::FirstReads, UNKNOWN),
            ],
            all,
            patience,
            refused: AtomicU64::new(0),
        }
    }

    /// Returns the weight of the heaviest entries of a stream, if any were seen.
    pub(in crate::redis) fn weight(&self, stream: &str) -> Option<usize> {
        self.weights.lock().get(stream).copied()
    }

    /// Returns a permit for reading the counters of a stream. XINFO also copies the first and the
    /// last entry.
    ///
    /// # Errors
    /// Same as [`ReadBudget::permit`].
    pub(in crate::redis) async fn permit_for_facts(
        &self,
        stream: &str,
    ) -> Result<ReadPermit, StoreError> {
        let weight = self.weight(stream).map(|weight| 2 * weight);
        self.at_least(ReadPermit::default(), weight).await
    }

    /// Records the weight of the heaviest of some entries, including entries that were discarded. A
    /// greater known weight decreases by an eighth each time, so that a few light entries do not
    /// make a stream look light.
    pub(in crate::redis) fn saw(&self, stream: &str, heaviest: Option<usize>) {
        let Some(heaviest) = heaviest else { return };
        let mut weights = self.weights.lock();
        if let Some(weight) = weights.get_mut(stream) {
            *weight = heaviest.max(*weight - *weight / 8);
            return;
        }
        if weights.len() >= STREAMS {
            weights.clear();
        }
        weights.insert(stream.into(), heaviest);
    }

    /// Returns a permit for a read of about `bytes`; small reads need none. The permit is released
    /// when dropped.
    ///
    /// # Errors
    /// [`StoreError::Crowded`] when the budget is not available in time,
    /// [`StoreError::ShareExceeded`] when the share of the caller is not.
    pub(in crate::redis) async fn permit(&self, bytes: usize) -> Result<ReadPermit, StoreError> {
        if bytes < LARGE {
            return Ok(ReadPermit::default());
        }
        let units = u32::try_from(bytes / UNIT)
            .unwrap_or(u32::MAX)
            .min(self.all);
        self.wait_for(&self.budget, &self.shares[0], units).await
    }

    async fn wait_for(
        &self,
        budget: &Arc<Semaphore>,
        queue: &ShareQueue,
        units: u32,
    ) -> Result<ReadPermit, StoreError> {
        let deadline = Instant::now() + self.patience;
        let share = queue.acquire(shares::current(), units, self.patience).await;
        let share = share.map_err(StoreError::ShareExceeded)?;
        let permit = budget.clone().acquire_many_owned(units);
        if let Ok(Ok(permit)) = tokio::time::timeout_at(deadline, permit).await {
            return Ok(ReadPermit(Some((permit, share))));
        }
        self.refused.fetch_add(1, Ordering::Relaxed);
        Err(StoreError::Crowded)
    }

    /// Returns `held` if it suffices for `bytes`, or a larger permit otherwise. If `bytes` is
    /// `None`, returns a permit for one entry of unknown weight.
    ///
    /// # Errors
    /// Same as [`ReadBudget::permit`].
    pub(in crate::redis) async fn at_least(
        &self,
        held: ReadPermit,
        bytes: Option<usize>,
    ) -> Result<ReadPermit, StoreError> {
        let Some(bytes) = bytes else {
            return self.wait_for(&self.unknown, &self.shares[1], 1).await;
        };
        let has = held
            .0
            .as_ref()
            .map_or(0, |(permit, _)| permit.num_permits());
        if bytes < LARGE || has >= (bytes / UNIT).min(self.all as usize) {
            return Ok(held);
        }
        // Reads that hold a permit while waiting for a larger one could deadlock.
        drop(held);
        self.permit(bytes).await
    }

    /// Returns the bytes of all permits held now.
    #[must_use]
    pub fn bytes(&self) -> usize {
        (self.all as usize - self.budget.available_permits().min(self.all as usize)) * UNIT
    }

    /// Returns the number of reads that did not get the share of their caller in time since the last
    /// call.
    #[must_use]
    pub fn take_refused_shares(&self) -> u64 {
        self.shares.iter().map(ShareQueue::take_refused).sum()
    }

    /// Returns the number of reads without a permit in time since the last call.
    #[must_use]
    pub fn take_refused(&self) -> u64 {
        self.refused.swap(0, Ordering::Relaxed)
    }
}

impl Store {
    /// Returns how many of these streams, in order, fit in one read of their counters; at least
    /// one.
    #[must_use]
    pub fn glanced_at_once<'a>(&self, streams: impl Iterator<Item = &'a StreamName>) -> usize {
        let mut weight = 0;
        let fits = streams.take_while(|stream| {
            weight += 2 * self.large.weight(stream.redis_key()).unwrap_or(UNSEEN);
            weight <= GLANCE
        });
        fits.count().max(1)
    }

    /// Returns whether a few entries of a stream are small enough to be read together with those of
    /// other streams.
    #[must_use]
    pub fn is_light(&self, stream: &StreamName) -> bool {
        let weight = self.large.weight(stream.redis_key()).unwrap_or(UNSEEN);
        weight <= GLANCE / 1024
    }
}

impl Store {
    /// Returns the weight of the heaviest entries of a stream. Reads the last entry if the weight
    /// is unknown.
    pub(in crate::redis) async fn estimate_entry_size(
        &self,
        stream: &StreamName,
    ) -> Result<usize, StoreError> {
        if let Some(weight) = self.large.weight(stream.redis_key()) {
            return Ok(weight);
        }
        let all = (EntryId::MIN, EntryId::MAX);
        let last = self
            .read_between(stream, Order::Desc, all, 1, usize::MAX)
            .await?;
        Ok(heaviest(&last.entries).unwrap_or(0))
    }

    /// Returns how many of `count` entries fit in a response, at least one, and a permit for them.
    pub(in crate::redis) async fn portion(
        &self,
        stream: &StreamName,
        count: usize,
    ) -> Result<(usize, ReadPermit), StoreError> {
        let weight = self.estimate_entry_size(stream).await?.max(1);
        let portion = count.min(ANSWER / weight).max(1);
        Ok((
            portion,
            self.large.permit(portion.saturating_mul(weight)).await?,
        ))
    }
}

/// A permit for a large read; empty for a small read. Hold the permit until the entries are
/// rendered. Otherwise entries are read faster than they are rendered, and small requests queue
/// behind them.
#[derive(Debug, Default)]
pub struct ReadPermit(Option<(OwnedSemaphorePermit, Option<OwnedSemaphorePermit>)>);

/// The remaining budget of a range read, in entries and bytes. A first entry larger than the byte
/// limit is still read.
pub(in crate::redis) struct Budget {
    entries: usize,
    bytes: usize,
    seen: usize,
    seen_bytes: usize,
    /// Weight of the heaviest entry in earlier reads and this one, including entries that did not
    /// fit.
    heaviest: Option<usize>,
}

impl Budget {
    /// Maximum entries of the first page, if their weight is known. The known weight can be
    /// outdated.
    const FIRST: usize = 64;
    /// Maximum size of each further page, as a multiple of the entries seen so far.
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

    fn remaining(&self) -> (usize, usize) {
        (
            self.entries.saturating_sub(self.seen),
            self.bytes.saturating_sub(self.seen_bytes),
        )
    }

    /// Returns the number of entries to request next; 0 when the budget is spent.
    pub(in crate::redis) fn next(&self) -> usize {
        let (left, bytes) = self.remaining();
        let Some(heaviest) = self.heaviest else {
            return left.min(1);
        };
        if self.seen > 0 && bytes == 0 {
            return 0;
        }
        let mean = self.seen_bytes.checked_div(self.seen).unwrap_or(heaviest);
        let fit = bytes / mean.max(1);
        // Bounds the bytes of the page even if all its entries are as heavy as the heaviest.
        let harmless = bytes.max(LARGE) / heaviest.max(1);
        let most = if self.seen == 0 {
            Self::FIRST
        } else {
            self.seen * Self::GROWTH
        };
        left.min(fit.min(harmless).max(1)).min(most)
    }

    /// Returns the expected weight in Redis of the rest of the read, including the counters.
    /// Returns `None` if the weight of the entries is unknown.
    pub(in crate::redis) fn expects(&self) -> Option<usize> {
        if self.next() == 0 {
            return Some(0);
        }
        let ((left, bytes), heaviest) = (self.remaining(), self.heaviest?);
        Some(
            left.saturating_mul(heaviest)
                .min(bytes.max(heaviest))
                .saturating_add(2 * heaviest),
        )
    }

    /// Returns how many of these entries fit, and counts them as seen. The very first always fits.
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
mod tests;
