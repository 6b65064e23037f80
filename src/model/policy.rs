//! The policy of a group: how long an entry is lent, how often, and what becomes of it then.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

use crate::model::name::{StreamName, tag_of};

/// The shortest lease.
pub const MIN_LEASE: Duration = Duration::from_millis(100);
/// The longest lease, and the longest delay.
pub const MAX_LEASE: Duration = Duration::from_secs(12 * 3600);
/// The lease of a policy that names none.
pub const DEFAULT_LEASE: Duration = Duration::from_secs(30);
/// The longest a consumer may be asked to be kept for.
pub const MAX_EXPIRY: Duration = Duration::from_secs(365 * 24 * 3600);
/// The most deliveries a policy may ask for.
pub const MAX_DELIVERIES: u64 = 1_000_000;
/// The most steps of a backoff.
pub const MAX_STEPS: usize = 100;

/// The policy of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How long a consumer has for an entry.
    pub lease: Duration,
    /// After so many deliveries an entry is a dead letter; 0 for no limit.
    pub max_deliveries: u64,
    /// How long an entry that was handed back waits, by how often it was delivered; the last
    /// repeats.
    pub backoff: Vec<Duration>,
    /// A consumer that has not asked for anything for so long, and holds nothing, is deleted; 0 for
    /// never.
    pub consumer_expiry: Duration,
    /// Where dead letters go: in the slot of the stream, so that they are moved in one step.
    pub dead_letter: StreamName,
    /// How many bytes of the stream's key those do not see who work in the group: dead letters tell
    /// where they came from without them.
    pub hidden: usize,
}

/// Which rule a policy breaks, and the member that does. The text is fit for the caller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPolicy {
    /// Too short or too long.
    #[error("a lease is 100ms to 12h")]
    Lease,
    /// Too many.
    #[error("`max_deliveries` is at most 1000000; 0 is no limit")]
    MaxDeliveries,
    /// A step beyond the bounds.
    #[error("each step of the backoff is 0, or 100ms to 12h")]
    Step(usize),
    /// Steps nobody would ever take.
    #[error("the backoff has at most 100 steps, and fewer than there are deliveries")]
    Steps,
    /// Too short or too long.
    #[error("`consumer_expiry` is 100ms to 365d; 0 is never")]
    ConsumerExpiry,
    /// The stream itself.
    #[error("dead letters cannot go to the stream they come from")]
    Itself,
    /// It lies elsewhere.
    #[error(
        "dead letters are moved in one step: their stream must share what is in braces, like {0}"
    )]
    Slot(String),
    /// There is no name to make one of.
    #[error("the name of the stream is too long to make one of: name the dead-letter stream")]
    Unnamed,
}

impl InvalidPolicy {
    /// Where in the policy it stands, as a pointer.
    #[must_use]
    pub fn pointer(&self) -> String {
        match self {
            Self::Lease => "/lease".to_owned(),
            Self::MaxDeliveries => "/max_deliveries".to_owned(),
            Self::Step(index) => format!("/backoff/{index}"),
            Self::Steps => "/backoff".to_owned(),
            Self::ConsumerExpiry => "/consumer_expiry".to_owned(),
            Self::Itself | Self::Slot(_) | Self::Unnamed => "/dead_letter".to_owned(),
        }
    }
}

/// Where the dead letters of a stream go unless told otherwise.
///
/// # Errors
/// [`InvalidPolicy::Unnamed`] when that would be too long for a name.
pub fn default_dead_letter(stream: &StreamName) -> Result<StreamName, InvalidPolicy> {
    let name = stream.as_str();
    let text = if name.contains('{') {
        format!("{name}.dead")
    } else {
        format!("{{{name}}}.dead")
    };
    let named = StreamName::new(&text).map_err(|_| InvalidPolicy::Unnamed)?;
    Ok(named.hiding(stream.hidden()))
}

/// Whether a lease may be so long.
#[must_use]
pub fn is_lease(lease: Duration) -> bool {
    (MIN_LEASE..=MAX_LEASE).contains(&lease)
}

/// Whether an entry may be held back for so long.
#[must_use]
pub fn is_delay(delay: Duration) -> bool {
    delay.is_zero() || is_lease(delay)
}

impl Policy {
    /// Checks a policy for a group of `stream`.
    ///
    /// # Errors
    /// [`InvalidPolicy`] says which rule it breaks.
    pub fn check(&self, stream: &StreamName) -> Result<(), InvalidPolicy> {
        if !is_lease(self.lease) {
            return Err(InvalidPolicy::Lease);
        }
        if self.max_deliveries > MAX_DELIVERIES {
            return Err(InvalidPolicy::MaxDeliveries);
        }
        if let Some(step) = self.backoff.iter().position(|step| !is_delay(*step)) {
            return Err(InvalidPolicy::Step(step));
        }
        let steps = self.backoff.len();
        if steps > MAX_STEPS || (self.max_deliveries > 0 && steps as u64 >= self.max_deliveries) {
            return Err(InvalidPolicy::Steps);
        }
        let expiry = self.consumer_expiry;
        if !expiry.is_zero() && !(MIN_LEASE..=MAX_EXPIRY).contains(&expiry) {
            return Err(InvalidPolicy::ConsumerExpiry);
        }
        if self.dead_letter == *stream {
            return Err(InvalidPolicy::Itself);
        }
        if self.dead_letter.tag() != stream.tag() {
            return Err(InvalidPolicy::Slot(format!(
                "{{{}}}.dead",
                tag_of(&stream.shown())
            )));
        }
        Ok(())
    }

    /// What dead letters call the stream they came from.
    #[must_use]
    pub fn calls<'a>(&self, stream: &'a StreamName) -> Cow<'a, str> {
        stream.without(self.hidden)
    }

    /// As it is kept: milliseconds, and the name last, since it may hold anything.
    #[must_use]
    pub fn encode(&self) -> String {
        let (lease, expiry) = (self.lease.as_millis(), self.consumer_expiry.as_millis());
        let mut text = format!("{lease} {} {expiry} {} ", self.max_deliveries, self.hidden);
        for (index, step) in self.backoff.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            // Writing into a `String` cannot fail.
            let _ = write!(text, "{comma}{}", step.as_millis());
        }
        text + " " + self.dead_letter.as_str()
    }

    /// Reads what [`Policy::encode`] wrote.
    #[must_use]
    pub fn decode(text: &str) -> Option<Self> {
        let mut parts = text.splitn(6, ' ');
        let lease = Duration::from_millis(parts.next()?.parse().ok()?);
        let max_deliveries = parts.next()?.parse().ok()?;
        let consumer_expiry = Duration::from_millis(parts.next()?.parse().ok()?);
        let hidden = parts.next()?.parse().ok()?;
        let steps = parts.next()?.split(',').filter(|step| !step.is_empty());
        let backoff = steps.map(|step| step.parse().ok().map(Duration::from_millis));
        let backoff = backoff.collect::<Option<_>>()?;
        let dead_letter = StreamName::new(parts.next()?).ok()?;
        Some(Self {
            lease,
            max_deliveries,
            backoff,
            consumer_expiry,
            dead_letter,
            hidden,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stream(name: &str) -> StreamName {
        StreamName::new(name).unwrap()
    }

    fn policy(dead_letter: &str) -> Policy {
        let dead_letter = stream(dead_letter);
        Policy {
            lease: DEFAULT_LEASE,
            max_deliveries: 3,
            backoff: Vec::new(),
            consumer_expiry: Duration::ZERO,
            dead_letter,
            hidden: 0,
        }
    }

    #[test]
    fn dead_letters_lie_in_the_slot_of_their_stream_and_not_in_it() {
        for (source, dead, verdict) in [
            ("orders", "{orders}.dead", Ok(())),
            ("{shop}.orders", "{shop}.lost", Ok(())),
            ("orders", "orders", Err("/dead_letter")),
            ("orders", "orders.dead", Err("/dead_letter")),
            ("{shop}.orders", "shops", Err("/dead_letter")),
        ] {
            let checked = policy(dead).check(&stream(source));
            assert_eq!(
                checked.map_err(|error| error.pointer()),
                verdict.map_err(str::to_owned)
            );
        }
        for name in ["orders", "{shop}.orders"] {
            let source = stream(name);
            let dead = default_dead_letter(&source).unwrap();
            assert_eq!(policy(dead.as_str()).check(&source), Ok(()));
        }
    }

    #[test]
    fn what_contradicts_itself_or_is_absurd_is_refused() {
        let wrong = |change: fn(&mut Policy)| {
            let mut policy = policy("{s}.dead");
            change(&mut policy);
            policy.check(&stream("s")).unwrap_err().pointer()
        };
        assert_eq!(wrong(|policy| policy.lease = Duration::ZERO), "/lease");
        assert_eq!(
            wrong(|policy| policy.lease = MAX_LEASE + MIN_LEASE),
            "/lease"
        );
        assert_eq!(
            wrong(|policy| policy.max_deliveries = u64::MAX),
            "/max_deliveries"
        );
        assert_eq!(
            wrong(|policy| policy.backoff = vec![Duration::ZERO; 3]),
            "/backoff"
        );
        assert_eq!(
            wrong(|policy| policy.consumer_expiry = MIN_LEASE / 2),
            "/consumer_expiry"
        );
        assert_eq!(
            wrong(|policy| policy.consumer_expiry = MAX_EXPIRY * 2),
            "/consumer_expiry"
        );
        let short =
            |policy: &mut Policy| policy.backoff = vec![Duration::ZERO, Duration::from_millis(1)];
        assert_eq!(wrong(short), "/backoff/1");
    }

    proptest! {
        #[test]
        fn a_policy_survives_being_kept(lease: u32, max: u64, expiry: u32, steps: Vec<u32>, hidden: u16, name in "[a-z ]{1,9}") {
            let policy = Policy {
                lease: Duration::from_millis(lease.into()),
                max_deliveries: max,
                backoff: steps.into_iter().map(|ms| Duration::from_millis(ms.into())).collect(),
                consumer_expiry: Duration::from_millis(expiry.into()),
                dead_letter: stream(&name),
                hidden: hidden.into(),
            };
            prop_assert_eq!(Policy::decode(&policy.encode()), Some(policy));
        }
    }
}
