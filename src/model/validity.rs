//! The validity of credentials, which ends when they expire or are revoked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

/// A flag that is set once, when the basis of a credential is revoked. All credentials with this
/// basis share the flag.
#[derive(Clone, Debug, Default)]
pub struct RevocationFlag(Arc<AtomicBool>);

impl RevocationFlag {
    /// Revokes all credentials that share this flag.
    pub fn revoke(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Returns whether this is the same flag.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// The validity of a credential. The default has no end and cannot be revoked.
#[derive(Clone, Debug, Default)]
pub struct Validity {
    /// The time at which the credential expires.
    pub until: Option<SystemTime>,
    on: RevocationFlag,
}

impl Validity {
    /// Creates a validity that ends at `until`, or earlier if `on` is revoked.
    #[must_use]
    pub fn new(until: Option<SystemTime>, on: RevocationFlag) -> Self {
        Self { until, on }
    }

    /// Returns the same validity, but ending no later than `until`.
    #[must_use]
    pub fn at_most(&self, until: SystemTime) -> Self {
        let until = self.until.map_or(until, |own| own.min(until));
        Self {
            until: Some(until),
            on: self.on.clone(),
        }
    }

    /// Returns the time left until the credential expires.
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        let now = SystemTime::now();
        self.until
            .map(|until| until.duration_since(now).unwrap_or_default())
    }

    /// Returns whether the credential has expired or was revoked.
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
        let (on, now) = (RevocationFlag::default(), SystemTime::now());
        let good = Validity::new(None, on.clone());
        let hour = Duration::from_secs(3600);
        assert!(!good.is_over() && !good.at_most(now + hour).is_over());
        assert!(good.at_most(now - hour).is_over());
        assert!(good.at_most(now - hour).at_most(now + hour).is_over());
        on.revoke();
        assert!(good.is_over());
    }
}
