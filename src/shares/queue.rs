//! Limits for which callers wait instead of being refused at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use crate::shares::account::{Account, Bound, ShareExceeded};

/// A limit for which callers wait, each for its own share.
#[derive(Debug)]
pub struct ShareQueue {
    bound: Bound,
    all: u32,
    /// The number of callers that did not get their share in time, since the last
    /// [`ShareQueue::take_refused`].
    refused: AtomicU64,
}

impl ShareQueue {
    /// Creates the queue of a limit of `all` units.
    #[must_use]
    pub const fn new(bound: Bound, all: u32) -> Self {
        Self {
            bound,
            all,
            refused: AtomicU64::new(0),
        }
    }

    /// Takes units of the share of an account, at most the whole share. Returns `None` at once for
    /// callers without one.
    ///
    /// # Errors
    /// [`ShareExceeded`] after `patience`.
    /// # Cancel safety
    /// Safe: the caller loses its place in the queue.
    pub async fn acquire(
        &self,
        account: Option<Arc<Account>>,
        units: u32,
        patience: Duration,
    ) -> Result<Option<OwnedSemaphorePermit>, ShareExceeded> {
        let Some(account) = account.filter(|account| account.percent() < 100) else {
            return Ok(None);
        };
        let (queue, own) = account.queue(self.bound, self.all);
        let permit = queue.acquire_many_owned(units.min(own));
        if let Ok(Ok(permit)) = tokio::time::timeout(patience, permit).await {
            return Ok(Some(permit));
        }
        self.refused.fetch_add(1, Ordering::Relaxed);
        Err(ShareExceeded {
            bound: self.bound,
            percent: account.percent(),
        })
    }

    /// Returns the number of callers refused since the last call.
    #[must_use]
    pub fn take_refused(&self) -> u64 {
        self.refused.swap(0, Ordering::Relaxed)
    }
}
