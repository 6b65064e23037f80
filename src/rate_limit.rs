//! How often someone may ask: a token bucket in one atomic, and how it is told.
//!
//! A bucket holds as many tokens as its quota has in a window, and fills evenly. What is kept of it
//! is the moment at which it will be full again (GCRA): taking a token moves that moment by what
//! one token takes to come, and may not move it further than a window ahead of now. Nothing has to
//! run to fill a bucket, and one that is full is like one that was never used.

use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::model::duration;

/// A number of requests per window, all at once if need be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    limit: u32,
    window: Duration,
}

/// The text is no quota, or one of a rate that a bucket cannot keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "is not a rate like 100/s, 6000/m or 500/10s, with a window of 1s to 1d and at most 1000000 a second"
)]
pub struct NotAQuota;

/// The highest rate. A token then takes a microsecond, which the nanoseconds of a bucket still count.
const MAX_PER_SECOND: u64 = 1_000_000;

impl FromStr for Quota {
    type Err = NotAQuota;

    fn from_str(text: &str) -> Result<Self, NotAQuota> {
        let (limit, window) = text.split_once('/').ok_or(NotAQuota)?;
        let limit: u32 = limit.parse().map_err(|_| NotAQuota)?;
        let window = match window {
            "s" | "m" | "h" | "d" => duration::parse(&format!("1{window}")),
            window => duration::parse(window),
        };
        let window = window.map_err(|_| NotAQuota)?;
        let fits = limit > 0
            && window >= Duration::from_secs(1)
            && window.as_secs() <= 86_400
            && u64::from(limit) <= MAX_PER_SECOND * window.as_secs();
        fits.then_some(Self { limit, window }).ok_or(NotAQuota)
    }
}

impl Quota {
    /// One each second.
    pub const SECONDLY: Self = Self {
        limit: 1,
        window: Duration::from_secs(1),
    };

    /// As an item of `RateLimit-Policy`, under this name.
    #[must_use]
    pub fn policy(&self, name: &str) -> String {
        let Self { limit, window } = *self;
        format!("\"{name}\";q={limit};w={}", window.as_secs())
    }

    fn window_nanos(&self) -> u64 {
        nanos(self.window)
    }

    fn nanos_each(&self) -> u64 {
        self.window_nanos() / u64::from(self.limit)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Whole seconds, none of them too few.
fn seconds(nanos: u64) -> u64 {
    nanos.div_ceil(1_000_000_000)
}

/// One who asks. To be shared by all that serve them.
#[derive(Debug)]
pub struct Bucket {
    quota: Quota,
    made: Instant,
    /// When it will be full, in nanoseconds since it was made. Only `take` moves it, and only on.
    full_at: AtomicU64,
}

/// What is left after a token was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remaining {
    /// Tokens that can be taken now.
    pub left: u64,
    /// Until all can be.
    pub full_in: Duration,
}

/// No token was there; how long until one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryAfter(pub Duration);

impl Bucket {
    /// A full bucket.
    #[must_use]
    pub fn new(quota: Quota) -> Self {
        Self {
            quota,
            made: Instant::now(),
            full_at: AtomicU64::new(0),
        }
    }

    /// What it holds when full.
    #[must_use]
    pub fn quota(&self) -> Quota {
        self.quota
    }

    /// Takes a token.
    ///
    /// # Errors
    /// How long until there is one; nothing is taken then.
    pub fn take(&self) -> Result<Remaining, RetryAfter> {
        self.take_at(Instant::now())
    }

    fn take_at(&self, now: Instant) -> Result<Remaining, RetryAfter> {
        let now = nanos(now.saturating_duration_since(self.made));
        let (each, window) = (self.quota.nanos_each(), self.quota.window_nanos());
        let latest = now + window;
        let taken = self.full_at.fetch_update(Relaxed, Relaxed, |full_at| {
            let next = full_at.max(now) + each;
            (next <= latest).then_some(next)
        });
        match taken {
            Ok(before) => {
                let ahead = before.max(now) + each - now;
                let (left, full_in) = ((window - ahead) / each, Duration::from_nanos(ahead));
                Ok(Remaining { left, full_in })
            }
            Err(full_at) => Err(RetryAfter(Duration::from_nanos(full_at + each - latest))),
        }
    }

    /// Whether it is as good as new.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.full_at.load(Relaxed) <= nanos(self.made.elapsed())
    }
}

impl Remaining {
    /// As an item of `RateLimit`, under this name.
    #[must_use]
    pub fn item(&self, name: &str) -> String {
        let (left, reset) = (self.left, seconds(nanos(self.full_in)));
        format!("\"{name}\";r={left};t={reset}")
    }
}

impl RetryAfter {
    /// As an item of `RateLimit`, under this name.
    #[must_use]
    pub fn item(&self, name: &str) -> String {
        let reset = self.seconds();
        format!("\"{name}\";r=0;t={reset}")
    }

    /// As `Retry-After` has it.
    #[must_use]
    pub fn seconds(&self) -> u64 {
        seconds(nanos(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(text: &str) -> Quota {
        text.parse().unwrap()
    }

    #[test]
    fn quotas_are_read() {
        let of = |limit, seconds| Quota {
            limit,
            window: Duration::from_secs(seconds),
        };
        for (text, expected) in [
            ("100/s", of(100, 1)),
            ("6000/m", of(6000, 60)),
            ("5/10s", of(5, 10)),
        ] {
            assert_eq!(quota(text), expected, "{text}");
        }
        for wrong in [
            "",
            "100",
            "0/s",
            "-1/s",
            "1/0s",
            "1/10",
            "1/500ms",
            "1/2d",
            "1/x",
            "1.5/s",
            "1000001/s",
            "2000000000/s",
        ] {
            assert_eq!(wrong.parse::<Quota>(), Err(NotAQuota), "{wrong}");
        }
        assert_eq!(quota("100/m").policy("address"), "\"address\";q=100;w=60");
    }

    #[test]
    fn a_bucket_gives_what_it_holds_and_then_what_comes() {
        let bucket = Bucket::new(quota("4/s"));
        let start = bucket.made;
        let left: Vec<u64> = (0..4)
            .map(|_| bucket.take_at(start).unwrap().left)
            .collect();
        assert_eq!(left, [3, 2, 1, 0]);
        let refused = bucket.take_at(start).unwrap_err();
        assert_eq!(refused, RetryAfter(Duration::from_millis(250)));
        assert_eq!(refused.item("a"), "\"a\";r=0;t=1");
        assert_eq!(
            bucket.take_at(start),
            Err(refused),
            "a refusal costs nothing"
        );
        assert!(bucket.take_at(start + Duration::from_millis(249)).is_err());
        let later = bucket.take_at(start + Duration::from_millis(250)).unwrap();
        assert_eq!(
            later,
            Remaining {
                left: 0,
                full_in: Duration::from_secs(1)
            }
        );
        assert_eq!(later.item("a"), "\"a\";r=0;t=1");
        let rested = bucket.take_at(start + Duration::from_secs(60)).unwrap();
        assert_eq!(rested.left, 3, "it never holds more than its quota");
    }

    #[test]
    fn many_threads_take_no_more_than_there_is() {
        let bucket = Bucket::new(quota("1000/d"));
        let taken: usize = std::thread::scope(|scope| {
            let take = || (0..1000).filter(|_| bucket.take().is_ok()).count();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .sum()
        });
        assert_eq!(taken, 1000);
    }
}
