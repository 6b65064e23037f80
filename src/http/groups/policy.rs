//! The policy of a group, as it is sent and as it is shown.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use crate::http::error::{ApiError, ErrorCode};
use crate::http::extract::access::{Access, Manage, Publish};
use crate::http::extract::params::Wait;
use crate::model::duration;
use crate::model::namespace::Namespace;
use crate::model::policy::{self, DEFAULT_LEASE, InvalidPolicy, Policy};

/// A member of a JSON merge patch; with `#[serde(default)]`, for it may be left out.
#[derive(Clone, Debug, Default)]
pub enum Patch<T> {
    /// It was left out.
    #[default]
    Absent,
    /// It was null.
    Null,
    /// It was this.
    To(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Patch<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let given = Option::deserialize(deserializer)?;
        Ok(given.map_or(Self::Null, Self::To))
    }
}

impl<T> Patch<T> {
    /// What it makes of what there is.
    pub(in crate::http) fn of(self, old: T, default: T) -> T {
        match self {
            Self::Absent => old,
            Self::Null => default,
            Self::To(new) => new,
        }
    }
}

/// A policy: how long entries are lent, how often, and what becomes of them then. What is null is as
/// if nobody had said anything; what is left out is so in a new policy, and stays in a change.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewPolicy)]
pub struct PolicyCall {
    /// How long a consumer has for an entry, 100ms to 12h; 30s unless given.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "30s")]
    lease: Patch<Wait>,
    /// After so many deliveries an entry is a dead letter; 0, which is no limit, unless given.
    #[serde(default)]
    #[schema(value_type = Option<u64>, maximum = 1_000_000)]
    max_deliveries: Patch<u64>,
    /// How long an entry that is handed back waits: after its first delivery, its second, and so on;
    /// the last holds from then on. Each 0, or 100ms to 12h; at most 100, and fewer than deliveries.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>, example = json!(["1s", "10s", "1m"]))]
    backoff: Patch<Vec<Wait>>,
    /// A consumer that has not asked for anything for so long and holds nothing is deleted, 100ms to
    /// 365d; 0, which is never, unless given.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "1d")]
    consumer_expiry: Patch<Wait>,
    /// The stream dead letters go to. It must have the same hash tag as the stream: `{orders}.dead`,
    /// which it is unless given, for `orders`. The right to publish there is needed.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "{orders}.dead")]
    dead_letter: Patch<String>,
}

impl PolicyCall {
    /// The policy this makes of the one there is.
    ///
    /// # Errors
    /// 422 `invalid-policy`; for the dead-letter stream also what [`Access::other`] says.
    pub fn merge(&self, access: &Access<Manage>, old: Option<&Policy>) -> Result<Policy, ApiError> {
        let stream = access.stream();
        // Whatever the name is when there can be none, it is replaced or told below.
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
                .of(Wait(old.lease), Wait(DEFAULT_LEASE))
                .0,
            max_deliveries: self.max_deliveries.clone().of(old.max_deliveries, 0),
            backoff: match self.backoff.clone() {
                Patch::To(steps) => steps.into_iter().map(|Wait(step)| step).collect(),
                Patch::Null => Vec::new(),
                Patch::Absent => old.backoff,
            },
            consumer_expiry: {
                let old = Wait(old.consumer_expiry);
                self.consumer_expiry.clone().of(old, Wait(Duration::ZERO)).0
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

/// The policy of a group.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Policy)]
pub struct PolicyOut {
    /// How long a consumer has for an entry.
    lease: String,
    /// After so many deliveries an entry is a dead letter; 0 is no limit.
    max_deliveries: u64,
    /// How long an entry that is handed back waits, by how often it was delivered.
    backoff: Vec<String>,
    /// A consumer that has not asked for anything for so long and holds nothing is deleted; 0 is
    /// never.
    consumer_expiry: String,
    /// The stream dead letters go to.
    dead_letter: String,
}

impl PolicyOut {
    /// A policy as it is seen in a namespace.
    #[must_use]
    pub fn new(policy: Policy, seen_in: &Namespace) -> Self {
        Self {
            lease: duration::format(policy.lease),
            max_deliveries: policy.max_deliveries,
            backoff: policy.backoff.into_iter().map(duration::format).collect(),
            consumer_expiry: duration::format(policy.consumer_expiry),
            dead_letter: seen_in.show(&policy.dead_letter).into_owned(),
        }
    }
}
