//! Rate limits: a token bucket in one atomic, and its `RateLimit` and `Retry-After` headers.
//!
//! A bucket holds as many tokens as its quota allows in a window, and refills evenly. Its only
//! state is the time at which it will be full again (GCRA). Taking a token moves that time by the
//! refill time of one token, at most to one window ahead of now. No task has to refill a bucket,
//! and a full bucket is equal to one that was never used.

use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::model::duration;

/// A number of requests per window. A burst may use the whole quota at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    limit: u32,
    window: Duration,
}

/// The error for a text that is not a quota, or exceeds the rate that a bucket supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "is not a rate such as 100/s, 6000/m or 500/10s; the window must be 1s to 1d, the rate at most 1000000/s"
)]
pub struct NotAQuota;

/// The highest rate. One token then refills in 1 µs, which the bucket's nanoseconds can represent.
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
    /// One request per second.
    pub const SECONDLY: Self = Self {
        limit: 1,
        window: Duration::from_secs(1),
    };

    /// Returns the `RateLimit-Policy` item with this name.
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

/// Converts nanoseconds to whole seconds, rounded up.
fn seconds(nanos: u64) -> u64 {
    nanos.div_ceil(1_000_000_000)
}

/// The token bucket of one client. Shared by all threads that serve the client.
#[derive(Debug)]
pub struct Bucket {
    quota: Quota,
    made: Instant,
    /// The time at which the bucket is full, in nanoseconds since `made`. Only `take` changes it,
    /// and only forward.
    full_at: AtomicU64,
}

/// The state of a bucket after a token was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remaining {
    /// Tokens that can be taken now.
    pub left: u64,
    /// The time until the bucket is full.
    pub full_in: Duration,
}

/// The time until a token is available, if there is none now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryAfter(pub Duration);

impl Bucket {
    /// Returns a full bucket.
    #[must_use]
    pub fn new(quota: Quota) -> Self {
        Self {
            quota,
            made: Instant::now(),
            full_at: AtomicU64::new(0),
        }
    }

    /// Returns the quota of the bucket.
    #[must_use]
    pub fn quota(&self) -> Quota {
        self.quota
    }

    /// Takes a token.
    ///
    /// # Errors
    /// [`RetryAfter`] if the bucket is empty. A refused call does not change the bucket.
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

    /// Returns whether the bucket is full, and so equal to a new one.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.full_at.load(Relaxed) <= nanos(self.made.elapsed())
    }
}

impl Remaining {
    /// Returns the `RateLimit` item with this name.
    #[must_use]
    pub fn item(&self, name: &str) -> String {
        let (left, reset) = (self.left, seconds(nanos(self.full_in)));
        format!("\"{name}\";r={left};t={reset}")
    }
}

impl RetryAfter {
    /// Returns the `RateLimit` item with this name.
    #[must_use]
    pub fn item(&self, name: &str) -> String {
        let reset = self.seconds();
        format!("\"{name}\";r=0;t={reset}")
    }

    /// Returns the value of `Retry-After`, in whole seconds.
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
