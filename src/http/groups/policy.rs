//! The policy of a consumer group, in requests and responses.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use crate::http::error::{ApiError, ErrorCode};
use crate::http::extract::access::{Access, Manage, Publish};
use crate::http::extract::params::DurationParam;
use crate::http::openapi::text::{DeadLetterStreamText, ExpiryText, LeaseText, RetryDelayText};
use crate::model::duration;
use crate::model::namespace::Namespace;
use crate::model::policy::{self, DEFAULT_LEASE, InvalidPolicy, Policy};

/// A member of a JSON merge patch. Needs `#[serde(default)]`, because it can be absent.
#[derive(Clone, Debug, Default)]
pub enum Patch<T> {
    /// The member is absent.
    #[default]
    Absent,
    /// The member is null.
    Null,
    /// The member has a value.
    To(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Patch<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let given = Option::deserialize(deserializer)?;
        Ok(given.map_or(Self::Null, Self::To))
    }
}

impl<T> Patch<T> {
    /// Returns the patched value: `old` if absent, `default` if null.
    pub(in crate::http) fn of(self, old: T, default: T) -> T {
        match self {
            Self::Absent => old,
            Self::Null => default,
            Self::To(new) => new,
        }
    }
}

/// Policy of a consumer group: how long entries are leased, how often they are delivered, and where
/// dead letters go. A member that is null is set to its default. A member that is absent gets its
/// default in a new policy and keeps its value in a change.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewPolicy)]
pub struct PolicyCall {
    /// Time a consumer has to settle an entry, 100ms to 12h; default 30s.
    #[serde(default)]
    #[schema(value_type = Option<LeaseText>, inline)]
    lease: Patch<DurationParam>,
    /// Deliveries after which an entry becomes a dead letter; default 0, which is no limit.
    #[serde(default)]
    #[schema(value_type = Option<u64>, maximum = 1_000_000)]
    max_deliveries: Patch<u64>,
    /// Delay before a nacked entry is delivered again, by delivery: the first step follows the
    /// first delivery, and so on; the last step repeats. Each step is 0 or 100ms to 12h. At most
    /// 100 steps, and fewer than `max_deliveries`.
    #[serde(default)]
    #[schema(value_type = Option<Vec<RetryDelayText>>, example = json!(["1s", "10s", "1m"]), inline, max_items = 100)]
    backoff: Patch<Vec<DurationParam>>,
    /// Idle time after which a consumer without pending entries is deleted, 100ms to 365d; default
    /// 0, which is never.
    #[serde(default)]
    #[schema(value_type = Option<ExpiryText>, inline)]
    consumer_expiry: Patch<DurationParam>,
    /// Stream that receives the dead letters. It must have the same hash tag as the stream, and
    /// requires the right to publish to it. Default: `{orders}.dead` for the stream `orders`.
    #[serde(default)]
    #[schema(value_type = Option<DeadLetterStreamText>, inline)]
    dead_letter: Patch<String>,
}

impl PolicyCall {
    /// Merges this patch into the policy `old`.
    ///
    /// # Errors
    /// 422 `invalid-policy`; for the dead-letter stream also the errors of [`Access::other`].
    pub fn merge(&self, access: &Access<Manage>, old: Option<&Policy>) -> Result<Policy, ApiError> {
        let stream = access.stream();
        // If no default name is possible, this placeholder is replaced or refused below.
        let unnamed = policy::default_dead_letter(stream).unwrap_or_else(|_| stream.clone());
        let old = old.cloned().unwrap_or_else(|| Policy {
            lease: DEFAULT_LEASE,
            max_deliveries: 0,
            backoff: Vec::new(),
            consumer_expiry: Duration::ZERO,
            dead_letter: unnamed.clone(),
            hidden: stream.hidden(),
        });
        let dead_letter = match &self.dead_letter {
            Patch::To(name) => access
                .other::<Publish>(name)
                .map_err(|error| error.at("/policy/dead_letter", "this stream"))?
                .into_stream(),
            Patch::Null => unnamed,
            Patch::Absent => old.dead_letter,
        };
        if dead_letter == *stream && !matches!(self.dead_letter, Patch::To(_)) {
            return Err(refused(InvalidPolicy::Unnamed));
        }
        let merged = Policy {
            lease: self
                .lease
                .clone()
                .of(DurationParam(old.lease), DurationParam(DEFAULT_LEASE))
                .0,
            max_deliveries: self.max_deliveries.clone().of(old.max_deliveries, 0),
            backoff: match self.backoff.clone() {
                Patch::To(steps) => steps.into_iter().map(|DurationParam(step)| step).collect(),
                Patch::Null => Vec::new(),
                Patch::Absent => old.backoff,
            },
            consumer_expiry: {
                let old = DurationParam(old.consumer_expiry);
                self.consumer_expiry
                    .clone()
                    .of(old, DurationParam(Duration::ZERO))
                    .0
            },
            dead_letter,
            hidden: old.hidden,
        };
        merged.check(stream).map_err(refused)?;
        Ok(merged)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "as map_err calls it")]
fn refused(error: InvalidPolicy) -> ApiError {
    let detail = error.to_string();
    let pointer = format!("/policy{}", error.pointer());
    ApiError::new(ErrorCode::InvalidPolicy, detail.clone()).at(pointer, detail)
}

/// Policy of a consumer group.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Policy)]
pub struct PolicyOut {
    /// Time a consumer has to settle an entry.
    lease: String,
    /// Deliveries after which an entry becomes a dead letter; 0 is no limit.
    max_deliveries: u64,
    /// Delays before a nacked entry is delivered again, by delivery; the last repeats.
    backoff: Vec<String>,
    /// Idle time after which a consumer without pending entries is deleted; 0 is never.
    consumer_expiry: String,
    /// Stream that receives the dead letters.
    dead_letter: String,
}

impl PolicyOut {
    /// Returns a policy with names as the namespace shows them.
    #[must_use]
    pub fn new(policy: Policy, seen_in: &Namespace) -> Self {
        Self {
            lease: duration::format(policy.lease),
            max_deliveries: policy.max_deliveries,
            backoff: policy.backoff.into_iter().map(duration::format).collect(),
            consumer_expiry: duration::format(policy.consumer_expiry),
            dead_letter: seen_in.public_name_of(&policy.dead_letter).into_owned(),
        }
    }
}
