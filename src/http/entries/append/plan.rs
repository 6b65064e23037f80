//! Options of an append, from its query and headers.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use crate::auth::Principal;
use crate::http::entries::append::conditions::Conditions;
use crate::http::entries::deletion::RefsParam;
use crate::http::error::{ApiError, ErrorCode};
use crate::http::extract::id;
use crate::http::extract::params::{DurationParam, at_most_one, redis_number};
use crate::http::extract::single_header::single;
use crate::http::state::Shared;
use crate::model::id::{EntryId, NewId};
use crate::model::time::Time;
use crate::redis::{Durability, MAX_DURABILITY_WAIT, ReferencePolicy, Trim, Trimming};

/// Default timeout for durability.
const DURABILITY_WAIT: Duration = Duration::from_secs(1);
/// Maximum delay of an append.
pub(in crate::http) const MAX_DELAY: Duration = Duration::from_secs(7 * 24 * 3600);
/// Maximum number of replicas in `durability`.
const MAX_REPLICAS: u32 = 1000;

/// Query parameters of an append.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AppendParams {
    /// The id of the entry: `*` (Redis chooses), `ms-*`, or a full id greater than the last one.
    #[param(example = "*")]
    id: Option<String>,
    /// Trim the stream to about this many entries in the same step.
    #[param(maximum = 9_223_372_036_854_775_807_u64)]
    maxlen: Option<u64>,
    /// Trim entries below this id in the same step.
    minid: Option<String>,
    /// Trim entries older than this, by the clock of Redis, in the same step.
    #[param(value_type = Option<String>, example = "7d")]
    max_age: Option<DurationParam>,
    /// Trim exactly. By default Redis drops only whole nodes, which is much cheaper.
    #[serde(default)]
    #[param(required = false)]
    exact: bool,
    /// Without `exact`: the maximum number of entries examined for trimming, or 0 for no limit.
    #[param(maximum = 9_223_372_036_854_775_807_u64)]
    trim_limit: Option<u64>,
    /// Handling of groups when trimming. `keep` (the default) keeps their pending records. `delete`
    /// removes these records and requires the right to manage the stream. `acked` trims only
    /// entries that every group has read and acknowledged.
    #[param(inline)]
    refs: Option<RefsParam>,
    /// `false`: answer 404 instead of creating a missing stream.
    create: Option<bool>,
    /// `false`: append each entry of a batch separately, and answer 207 if any was refused.
    atomic: Option<bool>,
    /// Answer once the entries are in the memory of N replicas (`replicas:N`) or on the disk of the
    /// server (`fsync`).
    #[param(example = "replicas:1")]
    durability: Option<String>,
    /// Timeout for `durability`: 1s by default, at most 10s.
    #[param(value_type = Option<String>, example = "1s")]
    durability_timeout: Option<DurationParam>,
    /// Append after this delay, at most 7d, and answer 202 now. Only `payload` and `as` can be
    /// combined with `delay`.
    #[param(value_type = Option<String>, example = "30s")]
    delay: Option<DurationParam>,
    /// Store the whole body unchanged in this field.
    #[param(example = "data")]
    pub(in crate::http) payload: Option<String>,
    /// `fields`: store each member of a JSON object as a field, whatever its name. Lists and
    /// objects are stored as JSON text. Each object of a list, or of NDJSON, is an entry.
    #[serde(rename = "as")]
    #[param(rename = "as", inline)]
    form: Option<AsParam>,
    /// `stream`: answer each NDJSON line while the client sends further lines.
    #[param(inline)]
    pub(in crate::http) receipts: Option<ReceiptsParam>,
}

/// `as=`: the meaning of the members of a JSON object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AsParam {
    /// The members are the fields of an entry.
    Fields,
}

/// The conversion of a body into entries.
#[derive(Clone, Copy)]
pub(in crate::http) enum Shape<'a> {
    /// Conversion by the media type of the body.
    ByType,
    /// Conversion into one field, which stores the body unchanged.
    Payload(&'a str),
    /// Conversion of each member of a JSON object into a field.
    Members,
}

/// `receipts=`: the response mode of an NDJSON upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReceiptsParam {
    /// One response line for each line.
    Stream,
}

/// Options of an append, parsed and checked.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a separate parameter"
)]
pub(in crate::http) struct Plan {
    /// The requested id of a single entry.
    pub(in crate::http) id: Option<NewId>,
    /// Whether the caller may manage the stream.
    pub(in crate::http) manages: bool,
    pub(in crate::http) create: bool,
    pub(in crate::http) atomic: bool,
    /// The delay before the append.
    pub(in crate::http) delay: Option<Duration>,
    /// Whether the request has an explicit `atomic=true`.
    all_or_nothing: bool,
    pub(in crate::http) conditions: Conditions,
    pub(in crate::http) durability: Option<(Durability, Duration)>,
    /// The trace context to store with each entry.
    pub(in crate::http) traceparent: Option<Vec<u8>>,
    pub(in crate::http) window: Duration,
    trimming: Option<(Bound, Trimming)>,
}

/// The bound of a trim.
#[derive(Clone, Copy)]
enum Bound {
    Given,
    /// An age, resolved to an id when the trim runs.
    Age(Duration),
}

impl Plan {
    /// Parses and checks the options.
    ///
    /// # Errors
    /// 400 for invalid or contradictory options, 422 for options that `delay` excludes.
    pub(in crate::http) fn new(
        state: &Shared,
        principal: &Principal,
        params: &AppendParams,
        headers: &HeaderMap,
    ) -> Result<Self, ApiError> {
        at_most_one(&[
            ("payload", params.payload.is_some()),
            ("as", params.form.is_some()),
        ])?;
        let wanted = params
            .id
            .as_deref()
            .map(|text| new_id("id", text))
            .transpose()?;
        let plan = Self {
            id: wanted,
            manages: false,
            delay: params
                .delay
                .map(|DurationParam(delay)| delay)
                .filter(|delay| !delay.is_zero()),
            create: params.create.unwrap_or(true),
            atomic: params.atomic.unwrap_or(true),
            all_or_nothing: params.atomic == Some(true),
            conditions: Conditions::new(principal, headers)?,
            durability: durability(params)?,
            traceparent: state
                .settings
                .trace_context
                .then(|| traceparent(headers))
                .flatten(),
            window: state.settings.idempotency_window,
            trimming: trimming(params)?,
        };
        plan.check_delay(params)?;
        Ok(plan)
    }

    /// Checks that the append can be delayed. Nothing is known of the caller when it runs.
    fn check_delay(&self, params: &AppendParams) -> Result<(), ApiError> {
        let Some(delay) = self.delay else {
            return Ok(());
        };
        if delay > MAX_DELAY {
            return Err(undelayed("delay", "`delay` must be at most 7d"));
        }
        let conditions = &self.conditions;
        let given = [
            ("id", self.id.is_some()),
            ("If-Match", conditions.if_match.is_some()),
            ("If-None-Match", conditions.if_new),
            ("Idempotency-Key", conditions.key.is_some()),
            ("durability", self.durability.is_some()),
            ("atomic", !self.atomic),
            ("create", !self.create),
            ("maxlen", params.maxlen.is_some()),
            ("minid", params.minid.is_some()),
            ("max_age", params.max_age.is_some()),
            ("receipts", params.receipts.is_some()),
        ];
        match given.iter().find(|(_, given)| *given) {
            Some((name, _)) => Err(undelayed(
                name,
                format!("`{name}` cannot be combined with `delay`"),
            )),
            None => Ok(()),
        }
    }

    /// Refuses conditions and keys, which would have to hold for all of `what`.
    ///
    /// # Errors
    /// 400 for a condition or a key.
    pub(in crate::http) fn refuse_conditions(&self, what: &str) -> Result<(), ApiError> {
        let conditions = &self.conditions;
        let given = [
            (
                "Idempotency-Key",
                conditions.key.is_some(),
                "; set `key` on each entry",
            ),
            ("If-Match", conditions.if_match.is_some(), ""),
            ("If-None-Match", conditions.if_new, ""),
            ("id", self.id.is_some(), "; set `id` on each entry"),
            ("atomic=true", self.all_or_nothing, ""),
        ];
        let Some((name, _, instead)) = given.iter().find(|(_, given, _)| *given) else {
            return Ok(());
        };
        let detail = format!("`{name}` cannot be combined with {what}{instead}");
        Err(ApiError::invalid(detail.clone()).at(*name, detail))
    }

    /// Returns the requested trimming. Resolves an age to an id by the clock of Redis.
    ///
    /// # Errors
    /// If Redis is unreachable and the bound is an age.
    pub(in crate::http) async fn trimming(
        &self,
        state: &Shared,
    ) -> Result<Option<Trimming>, ApiError> {
        let Some((bound, mut trimming)) = self.trimming else {
            return Ok(None);
        };
        if let Bound::Age(age) = bound {
            let now = Box::pin(state.store.now_ms())
                .await
                .map_err(ApiError::of_read)?;
            trimming.trim = Trim::MinId(Time::Ago(age).first_id(now));
        }
        Ok(Some(trimming))
    }
}

/// Returns a 422 for an append that cannot be delayed.
pub(in crate::http) fn undelayed(pointer: &str, detail: impl Into<String>) -> ApiError {
    let detail = detail.into();
    ApiError::new(ErrorCode::InvalidDelay, detail.clone()).at(pointer, detail)
}

/// Parses the requested id of an entry.
///
/// # Errors
/// 400 `invalid-id`.
pub(in crate::http) fn new_id(pointer: &str, text: &str) -> Result<NewId, ApiError> {
    let wanted = id(pointer, text, str::parse::<NewId>)?;
    if wanted == NewId::Exact(EntryId::MIN) {
        let error = ApiError::new(ErrorCode::InvalidId, "0-0 is not a valid entry id");
        return Err(error.at(pointer, "must be greater than 0-0"));
    }
    Ok(wanted)
}

impl AppendParams {
    pub(in crate::http) fn shape(&self) -> Shape<'_> {
        match (&self.payload, self.form) {
            (Some(field), _) => Shape::Payload(field),
            (None, Some(AsParam::Fields)) => Shape::Members,
            (None, None) => Shape::ByType,
        }
    }

    /// Whether trimming also removes entries from the pending records of groups.
    pub(in crate::http) fn forgets(&self) -> bool {
        self.refs == Some(RefsParam::Delete)
    }
}

fn trimming(params: &AppendParams) -> Result<Option<(Bound, Trimming)>, ApiError> {
    let (bound, trim) = match (params.maxlen, &params.minid, params.max_age) {
        (None, None, None) => {
            let set = [
                ("exact", params.exact),
                ("trim_limit", params.trim_limit.is_some()),
                ("refs", params.refs.is_some()),
            ];
            if let Some((name, _)) = set.iter().find(|(_, set)| *set) {
                let detail = format!("`{name}` requires `maxlen`, `minid` or `max_age`");
                return Err(ApiError::invalid(detail).at(*name, "requires a trim bound"));
            }
            return Ok(None);
        }
        (Some(length), None, None) => (Bound::Given, Trim::MaxLen(redis_number("maxlen", length)?)),
        (None, Some(min), None) => {
            let min = id("minid", min, |text| EntryId::parse_with(text, 0))?;
            (Bound::Given, Trim::MinId(min))
        }
        (None, None, Some(DurationParam(age))) => (Bound::Age(age), Trim::MinId(EntryId::MIN)),
        _ => {
            let detail = "`maxlen`, `minid` and `max_age` are mutually exclusive";
            let second = if params.max_age.is_some() {
                "max_age"
            } else {
                "minid"
            };
            return Err(ApiError::invalid(detail).at(second, "cannot be combined"));
        }
    };
    if params.exact && params.trim_limit.is_some() {
        return Err(
            ApiError::invalid("`trim_limit` cannot be combined with `exact`")
                .at("trim_limit", "cannot be combined with `exact`"),
        );
    }
    let limit = params
        .trim_limit
        .map(|limit| redis_number("trim_limit", limit))
        .transpose()?;
    let references = params
        .refs
        .map_or(ReferencePolicy::Keep, ReferencePolicy::from);
    Ok(Some((
        bound,
        Trimming {
            trim,
            exact: params.exact,
            limit,
            references,
        },
    )))
}

fn durability(params: &AppendParams) -> Result<Option<(Durability, Duration)>, ApiError> {
    let Some(text) = params.durability.as_deref() else {
        if params.durability_timeout.is_some() {
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
        let detail = format!("`durability` must be `fsync` or `replicas:N` (1 to {MAX_REPLICAS})");
        ApiError::invalid(detail.clone()).at("durability", detail)
    })?;
    let timeout = params
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

/// Returns the W3C Trace Context header if it is valid and given only once.
fn traceparent(headers: &HeaderMap) -> Option<Vec<u8>> {
    let value = single(headers, &HeaderName::from_static("traceparent"))
        .ok()??
        .as_bytes();
    let part = |from: usize, to: usize| {
        value[from..to]
            .iter()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b))
    };
    let whole = value.len() == 55
        && [2, 35, 52].iter().all(|dash| value[*dash] == b'-')
        && part(0, 2)
        && part(3, 35)
        && part(36, 52)
        && part(53, 55);
    whole.then(|| value.to_vec())
}
