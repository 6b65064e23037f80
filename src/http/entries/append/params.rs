//! Query parameters of an append.

use std::time::Duration;

use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use crate::http::entries::deletion::RefsParam;
use crate::http::error::ApiError;
use crate::http::extract::id;
use crate::http::extract::params::{DurationParam, redis_number};
use crate::http::openapi::text::{
    AppendDelayText, DurabilityText, DurabilityTimeoutText, DurationText, NewIdText, ShortIdText,
};
use crate::model::id::EntryId;
use crate::redis::{Durability, MAX_DURABILITY_WAIT, ReferencePolicy, Trim};
use crate::service::publish::{TrimBound, TrimOptions};

/// Default timeout for durability.
const DURABILITY_WAIT: Duration = Duration::from_secs(1);
/// Maximum number of replicas in `durability`.
const MAX_REPLICAS: u32 = 1000;

/// Query parameters of an append.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AppendParams {
    /// The id of the entry: `*` (Redis chooses), `ms-*`, or a full id greater than the last one.
    #[param(example = "*", value_type = Option<NewIdText>, inline)]
    pub(super) id: Option<String>,
    /// Trim the stream to about this many entries in the same step.
    #[param(maximum = 9_223_372_036_854_775_807_u64)]
    pub(super) maxlen: Option<u64>,
    /// Trim entries below this id in the same step.
    #[param(value_type = Option<ShortIdText>, inline)]
    pub(super) minid: Option<String>,
    /// Trim entries older than this, by the clock of Redis, in the same step.
    #[param(value_type = Option<DurationText>, example = "7d", inline)]
    pub(super) max_age: Option<DurationParam>,
    /// Trim exactly. By default Redis drops only whole nodes, which is much cheaper.
    #[serde(default)]
    #[param(required = false)]
    pub(super) exact: bool,
    /// Without `exact`: the maximum number of entries examined for trimming, or 0 for no limit.
    #[param(maximum = 9_223_372_036_854_775_807_u64)]
    pub(super) trim_limit: Option<u64>,
    /// Handling of groups when trimming. `keep` (the default) keeps their pending records. `delete`
    /// removes these records and requires the right to manage the stream. `acked` trims only
    /// entries that every group has read and acknowledged.
    #[param(inline)]
    pub(super) refs: Option<RefsParam>,
    /// `false`: answer 404 instead of creating a missing stream.
    pub(super) create: Option<bool>,
    /// `false`: append each entry of a batch separately, and answer 207 if any was refused.
    pub(super) atomic: Option<bool>,
    /// Answer once the entries are in the memory of N replicas (`replicas:N`) or on the disk of the
    /// server (`fsync`).
    #[param(example = "replicas:1", value_type = Option<DurabilityText>, inline)]
    pub(super) durability: Option<String>,
    /// Timeout for `durability`: 1s by default, at most 10s.
    #[param(value_type = Option<DurabilityTimeoutText>, example = "1s", inline)]
    pub(super) durability_timeout: Option<DurationParam>,
    /// Append after this delay, at most 7d, and answer 202 now. Only `payload` and `as` can be
    /// combined with `delay`.
    #[param(value_type = Option<AppendDelayText>, example = "30s", inline)]
    pub(super) delay: Option<DurationParam>,
    /// Store the whole body unchanged in this field.
    #[param(example = "data")]
    pub(super) payload: Option<String>,
    /// `fields`: store each member of a JSON object as a field, whatever its name. Lists and
    /// objects are stored as JSON text. Each object of a list, or of NDJSON, is an entry.
    #[serde(rename = "as")]
    #[param(rename = "as", inline)]
    pub(super) form: Option<AsParam>,
    /// `stream`: answer each NDJSON line while the client sends further lines.
    #[param(inline)]
    pub(super) receipts: Option<ReceiptsParam>,
}

/// `as=`: the meaning of the members of a JSON object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AsParam {
    /// The members are the fields of an entry.
    Fields,
}

/// `receipts=`: the response mode of an NDJSON upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReceiptsParam {
    /// One response line for each line.
    Stream,
}

impl AppendParams {
    /// Returns the parameters of a query that has at most `maxlen`.
    pub(in crate::http) fn with_maxlen(maxlen: Option<u64>) -> Self {
        Self {
            maxlen,
            ..Self::default()
        }
    }

    /// Parses the bound of a trim.
    ///
    /// # Errors
    /// 400 for contradictory or invalid options.
    pub(super) fn trim(&self) -> Result<Option<TrimOptions>, ApiError> {
        let bound = match (self.maxlen, &self.minid, self.max_age) {
            (None, None, None) => {
                let set = [
                    ("exact", self.exact),
                    ("trim_limit", self.trim_limit.is_some()),
                    ("refs", self.refs.is_some()),
                ];
                if let Some((name, _)) = set.iter().find(|(_, set)| *set) {
                    let detail = format!("`{name}` requires `maxlen`, `minid` or `max_age`");
                    return Err(ApiError::invalid(detail).at(*name, "requires a trim bound"));
                }
                return Ok(None);
            }
            (Some(length), None, None) => {
                TrimBound::At(Trim::MaxLen(redis_number("maxlen", length)?))
            }
            (None, Some(min), None) => {
                let min = id("minid", min, |text| EntryId::parse_with(text, 0))?;
                TrimBound::At(Trim::MinId(min))
            }
            (None, None, Some(DurationParam(age))) => TrimBound::Age(age),
            _ => {
                let detail = "`maxlen`, `minid` and `max_age` are mutually exclusive";
                let second = if self.max_age.is_some() {
                    "max_age"
                } else {
                    "minid"
                };
                return Err(ApiError::invalid(detail).at(second, "cannot be combined"));
            }
        };
        if self.exact && self.trim_limit.is_some() {
            return Err(
                ApiError::invalid("`trim_limit` cannot be combined with `exact`")
                    .at("trim_limit", "cannot be combined with `exact`"),
            );
        }
        let limit = self
            .trim_limit
            .map(|limit| redis_number("trim_limit", limit))
            .transpose()?;
        let references = self
            .refs
            .map_or(ReferencePolicy::Keep, ReferencePolicy::from);
        Ok(Some(TrimOptions {
            bound,
            exact: self.exact,
            limit,
            references,
        }))
    }

    /// Parses the durability to wait for, and its timeout.
    ///
    /// # Errors
    /// 400 for invalid options.
    pub(super) fn durability(&self) -> Result<Option<(Durability, Duration)>, ApiError> {
        let Some(text) = self.durability.as_deref() else {
            if self.durability_timeout.is_some() {
                return Err(
                    ApiError::invalid("`durability_timeout` requires `durability`")
                        .at("durability_timeout", "requires `durability`"),
                );
            }
            return Ok(None);
        };
        let replicas = || {
            let count = text.strip_prefix("replicas:")?.parse::<u32>().ok()?;
            (1..=MAX_REPLICAS)
                .contains(&count)
                .then_some(Durability::Replicas(count))
        };
        let wanted = match text {
            "fsync" => Some(Durability::Fsync),
            _ => replicas(),
        };
        let wanted = wanted.ok_or_else(|| {
            let detail =
                format!("`durability` must be `fsync` or `replicas:N` (1 to {MAX_REPLICAS})");
            ApiError::invalid(detail.clone()).at("durability", detail)
        })?;
        let timeout = self
            .durability_timeout
            .map_or(DURABILITY_WAIT, |DurationParam(timeout)| timeout);
        if timeout.is_zero() || timeout > MAX_DURABILITY_WAIT {
            return Err(
                ApiError::invalid("`durability_timeout` must be above 0 and at most 10s")
                    .at("durability_timeout", "must be above 0 and at most 10s"),
            );
        }
        Ok(Some((wanted, timeout)))
    }
}
