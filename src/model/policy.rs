//! The policy of a group: the lease time of entries, the number of deliveries, and dead letters.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

use crate::model::name::{StreamName, tag_of};
use crate::model::policy_options::{
    self, HandOutLimits, MAX_IN_FLIGHT, MAX_ORDER_FIELD, MAX_PER_KEY, MAX_RATE_TIME,
    MAX_READ_AHEAD, OrderBy,
};

/// The minimum lease.
pub const MIN_LEASE: Duration = Duration::from_millis(100);
/// The maximum lease, and the maximum delay.
pub const MAX_LEASE: Duration = Duration::from_secs(12 * 3600);
/// The lease of a policy that sets none.
pub const DEFAULT_LEASE: Duration = Duration::from_secs(30);
/// The maximum time after which an idle consumer is deleted.
pub const MAX_EXPIRY: Duration = Duration::from_secs(365 * 24 * 3600);
/// The maximum number of deliveries that a policy can set.
pub const MAX_DELIVERIES: u64 = 1_000_000;
/// The maximum number of backoff steps.
pub const MAX_STEPS: usize = 100;

/// The policy of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The time that a consumer has to process an entry.
    pub lease: Duration,
    /// The number of deliveries after which an entry becomes a dead letter; 0 for no limit.
    pub max_deliveries: u64,
    /// The delay before a returned entry is delivered again, by its number of deliveries. The last
    /// delay repeats.
    pub backoff: Vec<Duration>,
    /// The time after which a consumer without requests is deleted if it holds no entries; 0 for
    /// never.
    pub consumer_expiry: Duration,
    /// The dead-letter stream. It is in the slot of the source stream, so that entries are moved
    /// atomically.
    pub dead_letter: StreamName,
    /// The length of the prefix of the source stream's key that workers of the group do not see, in
    /// bytes. Dead letters name their source stream without this prefix.
    pub hidden: usize,
    /// The order of entries by key.
    pub order: Option<OrderBy>,
    /// The limits of what the group hands out.
    pub limits: HandOutLimits,
}

/// The rule that a policy breaks, and the member that breaks it. The text can be shown to the
/// client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPolicy {
    /// A lease that is too short or too long.
    #[error("`lease` must be between 100ms and 12h")]
    Lease,
    /// A number of deliveries over the limit.
    #[error("`max_deliveries` must be at most 1000000; 0 means no limit")]
    MaxDeliveries,
    /// A backoff step that is too short or too long.
    #[error("each step of `backoff` must be 0, or between 100ms and 12h")]
    Step(usize),
    /// Backoff steps that no entry would ever reach, or too many of them.
    #[error("`backoff` must have at most 100 steps, and fewer than `max_deliveries`")]
    Steps,
    /// A consumer expiry that is too short or too long.
    #[error("`consumer_expiry` must be between 100ms and 365d; 0 means never")]
    ConsumerExpiry,
    /// A field name that no entry can have.
    #[error("`order_by` must be a field name of 1 to 1024 bytes")]
    OrderBy,
    /// A member that has no meaning without an order.
    #[error("`{0}` requires `order_by`")]
    Unordered(&'static str),
    /// A number of entries of a key over the limit.
    #[error("`max_in_flight_per_key` must be between 1 and 1000")]
    PerKey,
    /// A number of entries that are read ahead over the limit.
    #[error("`read_ahead` must be between 1 and 200000")]
    ReadAhead,
    /// A number of entries in flight over the limit.
    #[error("`max_in_flight` must be at most 1000000; 0 means no limit")]
    MaxInFlight,
    /// A rate over the limit.
    #[error("`rate` must be 1 to 1000000 entries per 100ms to 1d, such as \"100/1s\"")]
    Rate,
    /// The source stream as its own dead-letter stream.
    #[error("the dead-letter stream must not be the source stream")]
    Itself,
    /// A dead-letter stream in another slot.
    #[error(
        "entries are moved atomically: the dead-letter stream must have the same hash tag, like {0}"
    )]
    OtherSlot(String),
    /// A stream name that is too long to derive a dead-letter stream from it.
    #[error("the stream name is too long for a default dead-letter stream: set `dead_letter`")]
    Unnamed,
}

impl InvalidPolicy {
    /// Returns a JSON pointer to the member that breaks the rule.
    #[must_use]
    pub fn pointer(&self) -> String {
        match self {
            Self::Lease => "/lease".to_owned(),
            Self::MaxDeliveries => "/max_deliveries".to_owned(),
            Self::Step(index) => format!("/backoff/{index}"),
            Self::Steps => "/backoff".to_owned(),
            Self::ConsumerExpiry => "/consumer_expiry".to_owned(),
            Self::OrderBy => "/order_by".to_owned(),
            Self::Unordered(member) => format!("/{member}"),
            Self::PerKey => "/max_in_flight_per_key".to_owned(),
            Self::ReadAhead => "/read_ahead".to_owned(),
            Self::MaxInFlight => "/max_in_flight".to_owned(),
            Self::Rate => "/rate".to_owned(),
            Self::Itself | Self::OtherSlot(_) | Self::Unnamed => "/dead_letter".to_owned(),
        }
    }
}

/// Returns the default dead-letter stream of a stream.
///
/// # Errors
/// Returns [`InvalidPolicy::Unnamed`] if the name would be too long.
pub fn default_dead_letter(stream: &StreamName) -> Result<StreamName, InvalidPolicy> {
    let name = stream.redis_key();
    let text = if name.contains('{') {
        format!("{name}.dead")
    } else {
        format!("{{{name}}}.dead")
    };
    let named = StreamName::new(&text).map_err(|_| InvalidPolicy::Unnamed)?;
    Ok(named.hiding(stream.hidden()))
}

/// Returns whether a lease is within its limits.
#[must_use]
pub fn is_lease(lease: Duration) -> bool {
    (MIN_LEASE..=MAX_LEASE).contains(&lease)
}

/// Returns whether a delay is within its limits.
#[must_use]
pub fn is_delay(delay: Duration) -> bool {
    delay.is_zero() || is_lease(delay)
}

impl Policy {
    /// Checks a policy for a group of `stream`.
    ///
    /// # Errors
    /// Returns the rule that the policy breaks.
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
        self.check_options()?;
        if self.dead_letter == *stream {
            return Err(InvalidPolicy::Itself);
        }
        if self.dead_letter.tag() != stream.tag() {
            return Err(InvalidPolicy::OtherSlot(format!(
                "{{{}}}.dead",
                tag_of(&stream.public_name())
            )));
        }
        Ok(())
    }

    fn check_options(&self) -> Result<(), InvalidPolicy> {
        if let Some(order) = &self.order {
            if !(1..=MAX_ORDER_FIELD).contains(&order.field.len()) {
                return Err(InvalidPolicy::OrderBy);
            }
            if !(1..=MAX_PER_KEY).contains(&order.per_key) {
                return Err(InvalidPolicy::PerKey);
            }
            if !(1..=MAX_READ_AHEAD).contains(&order.read_ahead) {
                return Err(InvalidPolicy::ReadAhead);
            }
        }
        if self.limits.max_in_flight > MAX_IN_FLIGHT {
            return Err(InvalidPolicy::MaxInFlight);
        }
        match self.limits.rate {
            Some((count, time))
                if !(1..=MAX_IN_FLIGHT).contains(&count)
                    || !(MIN_LEASE..=MAX_RATE_TIME).contains(&time) =>
            {
                Err(InvalidPolicy::Rate)
            }
            _ => Ok(()),
        }
    }

    /// Returns the name of the source stream in dead letters.
    #[must_use]
    pub fn calls<'a>(&self, stream: &'a StreamName) -> Cow<'a, str> {
        stream.without(self.hidden)
    }

    /// Encodes the policy for storage. Durations are in milliseconds. The stream name comes last,
    /// because it may contain any character.
    #[must_use]
    pub fn encode(&self) -> String {
        let (lease, expiry) = (self.lease.as_millis(), self.consumer_expiry.as_millis());
        let mut text = format!("{lease} {} {expiry} {} ", self.max_deliveries, self.hidden);
        for (index, step) in self.backoff.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            // Writing into a `String` cannot fail.
            let _ = write!(text, "{comma}{}", step.as_millis());
        }
        text + &policy_options::encode(self.order.as_ref(), &self.limits)
            + " "
            + self.dead_letter.redis_key()
    }

    /// Decodes the text that [`Policy::encode`] wrote.
    #[must_use]
    pub fn decode(text: &str) -> Option<Self> {
        let mut parts = text.splitn(6, ' ');
        let lease = Duration::from_millis(parts.next()?.parse().ok()?);
        let max_deliveries = parts.next()?.parse().ok()?;
        let consumer_expiry = Duration::from_millis(parts.next()?.parse().ok()?);
        let hidden = parts.next()?.parse().ok()?;
        let (steps, options) = parts
            .next()
            .map(|text| text.split_at(text.find(';').unwrap_or(text.len())))?;
        let (order, limits) = policy_options::decode(options)?;
        let steps = steps.split(',').filter(|step| !step.is_empty());
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
            order,
            limits,
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
            order: None,
            limits: HandOutLimits::default(),
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
            assert_eq!(policy(dead.redis_key()).check(&source), Ok(()));
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
        fn a_policy_survives_being_kept(lease: u32, max: u64, expiry: u32, steps: Vec<u32>, hidden: u16, name in "[a-z ;]{1,9}", field: Option<String>, flight: u32, rate: Option<(u32, u32)>) {
            let policy = Policy {
                lease: Duration::from_millis(lease.into()),
                max_deliveries: max,
                backoff: steps.into_iter().map(|ms| Duration::from_millis(ms.into())).collect(),
                consumer_expiry: Duration::from_millis(expiry.into()),
                dead_letter: stream(&name),
                hidden: hidden.into(),
                order: field.map(|field| OrderBy { skip_failed: flight % 2 == 1, per_key: lease, ..OrderBy::new(&field) }),
                limits: HandOutLimits { paused: flight % 3 == 0, max_in_flight: flight, rate: rate.map(|(count, ms)| (count, Duration::from_millis(ms.into()))) },
            };
            prop_assert_eq!(Policy::decode(&policy.encode()), Some(policy));
        }
    }
}
