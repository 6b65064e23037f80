//! Accounts: how much of each limit a caller holds.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::Semaphore;

/// A limit of the gateway of which callers have shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Open subscriptions.
    Subscriptions,
    /// Streams followed by subscriptions and waiting reads.
    FollowedStreams,
    /// Name prefixes followed by subscriptions.
    FollowedPrefixes,
    /// Reads that wait for an entry.
    WaitingReads,
    /// Memory of request bodies.
    Bodies,
    /// Memory of answers that are not sent yet.
    Answers,
    /// Memory of large reads.
    Reads,
    /// First reads of streams whose entries have an unknown size.
    FirstReads,
    /// Connections to Redis for durable appends.
    DurableConnections,
}

impl Bound {
    const COUNT: usize = Self::DurableConnections as usize + 1;

    /// Returns the value of `bound` in the metric of refusals.
    #[must_use]
    pub const fn metric(self) -> &'static str {
        match self {
            Self::Subscriptions => "subscriptions_of_principal",
            Self::FollowedStreams | Self::FollowedPrefixes => "followed_streams_of_principal",
            Self::WaitingReads => "waiting_reads_of_principal",
            Self::Bodies => "bodies_of_principal",
            Self::Answers => "answers_of_principal",
            Self::Reads | Self::FirstReads => "reads_of_principal",
            Self::DurableConnections => "durable_connections_of_principal",
        }
    }

    const fn noun(self) -> &'static str {
        match self {
            Self::Subscriptions => "subscriptions",
            Self::FollowedStreams => "followed streams",
            Self::FollowedPrefixes => "followed prefixes",
            Self::WaitingReads => "waiting reads",
            Self::Bodies => "the memory for request bodies",
            Self::Answers => "the memory for large responses",
            Self::Reads | Self::FirstReads => "the memory for large reads",
            Self::DurableConnections => "the Redis connections for durable appends",
        }
    }
}

/// A caller that uses its share of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareExceeded {
    /// The limit.
    pub bound: Bound,
    /// The share of the caller, in percent of the limit.
    pub percent: u8,
}

impl fmt::Display for ShareExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (percent, noun) = (self.percent, self.bound.noun());
        write!(f, "this caller uses its share ({percent} %) of {noun}")
    }
}

/// The use of the limits by one principal or tenant.
#[derive(Debug)]
pub struct Account {
    percent: u8,
    used: [AtomicU64; Bound::COUNT],
    /// The shares for which callers wait, each created when it is first used.
    queues: [OnceLock<Arc<Semaphore>>; Bound::COUNT],
}

impl Account {
    /// Creates an account that has used nothing. It may use `percent` of each limit, at most 100.
    #[must_use]
    pub fn new(percent: u8) -> Arc<Self> {
        Arc::new(Self {
            percent,
            used: std::array::from_fn(|_| AtomicU64::new(0)),
            queues: std::array::from_fn(|_| OnceLock::new()),
        })
    }

    /// Returns the share of the account, in percent.
    #[must_use]
    pub const fn percent(&self) -> u8 {
        self.percent
    }

    /// Returns how much of a limit the account holds.
    #[must_use]
    pub fn used(&self, bound: Bound) -> u64 {
        self.used[bound as usize].load(Ordering::Relaxed)
    }

    /// Returns the part of a limit that the account can use, at least 1.
    fn part_of(&self, all: u64) -> u64 {
        let part = u128::from(all) * u128::from(self.percent) / 100;
        u64::try_from(part).unwrap_or(u64::MAX).max(1)
    }

    /// Returns the queue for the share of a limit of `all` units, and its size.
    pub(super) fn queue(&self, bound: Bound, all: u32) -> (Arc<Semaphore>, u32) {
        let own = u32::try_from(self.part_of(u64::from(all))).unwrap_or(u32::MAX);
        let queue = &self.queues[bound as usize];
        let queue = queue.get_or_init(|| Arc::new(Semaphore::new(own as usize)));
        (queue.clone(), own)
    }

    /// Takes `amount` of a limit of `all` until the returned guard is dropped.
    ///
    /// # Errors
    /// [`ShareExceeded`], unless the account holds nothing else of this limit. A caller alone can
    /// always do one thing at a time, however large it is.
    pub fn take(
        self: &Arc<Self>,
        bound: Bound,
        amount: u64,
        all: usize,
    ) -> Result<Held, ShareExceeded> {
        let mut held = Held {
            account: self.clone(),
            bound,
            amount: 0,
        };
        held.resize(amount, all)?;
        Ok(held)
    }
}

/// A part of a limit that an account holds, returned when dropped.
#[derive(Debug)]
pub struct Held {
    account: Arc<Account>,
    bound: Bound,
    amount: u64,
}

impl Held {
    /// Changes the held amount.
    ///
    /// # Errors
    /// Same as [`Account::take`]. The held amount is then unchanged.
    pub fn resize(&mut self, amount: u64, all: usize) -> Result<(), ShareExceeded> {
        let account = &self.account;
        let used = &account.used[self.bound as usize];
        if amount <= self.amount {
            used.fetch_sub(self.amount - amount, Ordering::Relaxed);
            self.amount = amount;
            return Ok(());
        }
        let more = amount - self.amount;
        let before = used.fetch_add(more, Ordering::Relaxed);
        // With all of it, only the limit of the gateway counts.
        let part = account.part_of(all as u64);
        let exceeds = account.percent < 100 && before + more > part && before > self.amount;
        if exceeds {
            used.fetch_sub(more, Ordering::Relaxed);
            return Err(ShareExceeded {
                bound: self.bound,
                percent: account.percent,
            });
        }
        self.amount = amount;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.account.used[self.bound as usize].fetch_sub(self.amount, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_part_of_the_limit_and_one_thing_always_fits() {
        let account = Account::new(25);
        let held: Vec<_> = (0..25)
            .map(|_| account.take(Bound::WaitingReads, 1, 100).unwrap())
            .collect();
        let refused = account.take(Bound::WaitingReads, 1, 100).unwrap_err();
        assert_eq!((refused.bound, refused.percent), (Bound::WaitingReads, 25));
        assert_eq!(account.used(Bound::WaitingReads), 25);
        drop(held);
        assert_eq!(account.used(Bound::WaitingReads), 0);
        let mut whole = account.take(Bound::Bodies, 1000, 1000).unwrap();
        account.take(Bound::Bodies, 1, 1000).unwrap_err();
        whole.resize(10, 1000).unwrap();
        let more = account.take(Bound::Bodies, 240, 1000).unwrap();
        whole.resize(11, 1000).unwrap_err();
        drop((whole, more));
        assert_eq!(account.used(Bound::Bodies), 0);
    }
}
