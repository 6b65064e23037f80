//! How long a credential is good: until its end, or until it is taken back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

/// Set once, when what a credential rests on is taken back. Shared by all that rests on it.
#[derive(Clone, Debug, Default)]
pub struct Revocable(Arc<AtomicBool>);

impl Revocable {
    /// Takes back everything that rests on this.
    pub fn revoke(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// How long a credential is good. Without an end and on nothing, for ever.
#[derive(Clone, Debug, Default)]
pub struct Validity {
    /// When it ends by itself.
    pub until: Option<SystemTime>,
    on: Revocable,
}

impl Validity {
    /// Good until then, as long as `on` is.
    #[must_use]
    pub fn new(until: Option<SystemTime>, on: Revocable) -> Self {
        Self { until, on }
    }

    /// The same, but no longer than until then.
    #[must_use]
    pub fn at_most(&self, until: SystemTime) -> Self {
        let until = self.until.map_or(until, |own| own.min(until));
        Self {
            until: Some(until),
            on: self.on.clone(),
        }
    }

    /// How long until it ends by itself.
    #[must_use]
    pub fn left(&self) -> Option<Duration> {
        let now = SystemTime::now();
        self.until
            .map(|until| until.duration_since(now).unwrap_or_default())
    }

    /// Whether it has ended, or was taken back.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.on.0.load(Ordering::Acquire) || self.until.is_some_and(|end| end <= SystemTime::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_by_itself_or_is_taken_back() {
        let (on, now) = (Revocable::default(), SystemTime::now());
        let good = Validity::new(None, on.clone());
        let hour = Duration::from_secs(3600);
        assert!(!good.is_over() && !good.at_most(now + hour).is_over());
        assert!(good.at_most(now - hour).is_over());
        assert!(good.at_most(now - hour).at_most(now + hour).is_over());
        on.revoke();
        assert!(good.is_over());
    }
}
