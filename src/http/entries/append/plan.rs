//! What an append asks for besides its entries: in its query and in its headers.

use std::time::Duration;

use axum::http::{HeaderMap, HeaderName};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use crate::auth::Principal;
use crate::http::entries::append::conditions::Conditions;
use crate::http::entries::deletion::RefsParam;
use crate::http::error::{ApiError, ErrorCode};
use crate::http::extract::id;
use crate::http::extract::params::{Wait, at_most_one, redis_number};
use crate::http::extract::single_header::single;
use crate::http::state::Shared;
use crate::model::id::{EntryId, NewId};
use crate::model::time::Time;
use crate::redis::{Durability, MAX_DURABILITY_WAIT, References, Trim, Trimming};

/// How long durability is waited for unless told.
const DURABILITY_WAIT: Duration = Duration::from_secs(1);
/// The longest an append may be put off.
const MAX_DELAY: Duration = Duration::from_secs(7 * 24 * 3600);
/// The most replicas that can be asked for.
const MAX_REPLICAS: u32 = 1000;

/// How to append.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AppendParams {
    /// The id of the entry: `*` (Redis chooses), `ms-*`, or a full id above the last one.
    #[param(example = "*")]
    id: Option<String>,
    /// Trim the stream to about this many entries in the same step.
    #[param(maximum = 9_223_372_036_854_775_807_u64)]
    maxlen: Option<u64>,
    /// Trim entries below this id in the same step.
    minid: Option<String>,
    /// Trim entries older than this, by the clock of Redis, in the same step.
    #[param(value_type = Option<String>, example = "7d")]
    max_age: Option<Wait>,
    /// Trim to the letter. Otherwise Redis drops whole nodes only, which is much cheaper.
    #[serde(default)]
    #[param(required = false)]
    exact: bool,
    /// Without `exact`: look at no more than so many entries to trim; 0 for no limit.
    #[param(maximum = 9_223_372_036_854_775_807_u64)]
    trim_limit: Option<u64>,
    /// What trimming does about groups: `keep` (the default) their pending records, `delete` them,
    /// which takes the right to manage the stream, or trim only what every group has read and
    /// acknowledged (`acked`).
    #[param(inline)]
    refs: Option<RefsParam>,
    /// `false`: do not make the stream if there is none, but answer 404.
    create: Option<bool>,
    /// `false`: append each entry of a batch for itself, and answer 207 if some were refused.
    atomic: Option<bool>,
    /// Answer once the entries are in the memory of N replicas (`replicas:N`) or on the disk of
    /// the server (`fsync`).
    #[param(example = "replicas:1")]
    durability: Option<String>,
    /// How long to wait for that: 1s unless given, at most 10s.
    #[param(value_type = Option<String>, example = "1s")]
    durability_timeout: Option<Wait>,
    /// Append after so long, at most 7d, and answer 202 now. With nothing but `payload` besides.
    #[param(value_type = Option<String>, example = "30s")]
    delay: Option<Wait>,
    /// Store the whole body, untouched, in this field.
    #[param(example = "data")]
    pub(in crate::http) payload: Option<String>,
    /// `fields`: take each member of a JSON object as a field, whatever its name; lists and objects
    /// as JSON text. Of a list of objects, or of NDJSON, each is an entry.
    #[serde(rename = "as")]
    #[param(rename = "as", inline)]
    form: Option<AsParam>,
    /// `stream`: answer each line of NDJSON while the next are sent.
    #[param(inline)]
    pub(in crate::http) receipts: Option<ReceiptsParam>,
}

/// `as=`: what the members of a JSON object are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum AsParam {
    /// The fields of an entry.
    Fields,
}

/// How a body becomes entries, where its media type does not decide.
#[derive(Clone, Copy)]
pub(in crate::http) enum Shape<'a> {
    /// By its media type.
    ByType,
    /// Untouched, in this field.
    Payload(&'a str),
    /// Every member of a JSON object is a field.
    Members,
}

/// `receipts=`: how an upload of lines is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ReceiptsParam {
    /// Line by line.
    Stream,
}

/// What an append asks for besides its entries.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a parameter of its own"
)]
pub(in crate::http) struct Plan {
    /// The id of the one entry.
    pub(in crate::http) id: Option<NewId>,
    /// Whoever asks may manage the stream.
    pub(in crate::http) manages: bool,
    pub(in crate::http) create: bool,
    pub(in crate::http) atomic: bool,
    /// How much later it is to be appended.
    pub(in crate::http) delay: Option<Duration>,
    /// That was asked for by name.
    all_or_nothing: bool,
    pub(in crate::http) conditions: Conditions,
    pub(in crate::http) durability: Option<(Durability, Duration)>,
    /// To be kept with each entry.
    pub(in crate::http) traceparent: Option<Vec<u8>>,
    pub(in crate::http) window: Duration,
    trimming: Option<(Bound, Trimming)>,
}

/// What trimming is bounded by.
#[derive(Clone, Copy)]
enum Bound {
    Given,
    /// An age, which becomes an id when it is used.
    Age(Duration),
}

impl Plan {
    /// # Errors
    /// 400 for what makes no sense.
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
                .map(|Wait(delay)| delay)
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

    /// That what is to be appended later can be: nothing is known then of who asked for it.
    fn check_delay(&self, params: &AppendParams) -> Result<(), ApiError> {
        let Some(delay) = self.delay else {
            return Ok(());
        };
        if delay > MAX_DELAY {
            return Err(undelayed("delay", "`delay` is at most 7d"));
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
                format!("`{name}` does not go with `delay`"),
            )),
            None => Ok(()),
        }
    }

    /// # Errors
    /// 400 when there is a condition or a key that would have to hold for all of `what`.
    pub(in crate::http) fn refuse_conditions(&self, what: &str) -> Result<(), ApiError> {
        let conditions = &self.conditions;
        let given = [
            (
                "Idempotency-Key",
                conditions.key.is_some(),
                "; give each entry its own `key`",
            ),
            ("If-Match", conditions.if_match.is_some(), ""),
            ("If-None-Match", conditions.if_new, ""),
            ("id", self.id.is_some(), "; entries carry their own"),
            ("atomic=true", self.all_or_nothing, ""),
        ];
        let Some((name, _, instead)) = given.iter().find(|(_, given, _)| *given) else {
            return Ok(());
        };
        let detail = format!("`{name}` does not go with {what}{instead}");
        Err(ApiError::invalid(detail.clone()).at(*name, detail))
    }

    /// The trimming asked for, as of now.
    ///
    /// # Errors
    /// That Redis, whose clock it is, is away.
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

/// 422 for what cannot be appended later.
pub(in crate::http) fn undelayed(pointer: &str, detail: impl Into<String>) -> ApiError {
    let detail = detail.into();
    ApiError::new(ErrorCode::InvalidDelay, detail.clone()).at(pointer, detail)
}

/// The id that an entry asks for.
///
/// # Errors
/// 400 `invalid-id`.
pub(in crate::http) fn new_id(pointer: &str, text: &str) -> Result<NewId, ApiError> {
    let wanted = id(pointer, text, str::parse::<NewId>)?;
    if wanted == NewId::Exact(EntryId::MIN) {
        let error = ApiError::new(ErrorCode::InvalidId, "0-0 cannot be the id of an entry");
        return Err(error.at(pointer, "is 0-0"));
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

    /// What is trimmed is taken out of the lists of groups, too.
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
                let detail = format!("`{name}` goes with `maxlen`, `minid` or `max_age`");
                return Err(ApiError::invalid(detail).at(*name, "nothing to trim"));
            }
            return Ok(None);
        }
        (Some(length), None, None) => (Bound::Given, Trim::MaxLen(redis_number("maxlen", length)?)),
        (None, Some(min), None) => {
            let min = id("minid", min, |text| EntryId::parse_with(text, 0))?;
            (Bound::Given, Trim::MinId(min))
        }
        (None, None, Some(Wait(age))) => (Bound::Age(age), Trim::MinId(EntryId::MIN)),
        _ => {
            let detail = "`maxlen`, `minid` and `max_age` exclude each other";
            let second = if params.max_age.is_some() {
                "max_age"
            } else {
                "minid"
            };
            return Err(ApiError::invalid(detail).at(second, "given with another"));
        }
    };
    if params.exact && params.trim_limit.is_some() {
        return Err(ApiError::invalid("`trim_limit` bounds an approximate trim")
            .at("trim_limit", "given with `exact`"));
    }
    let limit = params
        .trim_limit
        .map(|limit| redis_number("trim_limit", limit))
        .transpose()?;
    let references = params.refs.map_or(References::Keep, References::from);
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
                ApiError::invalid("`durability_timeout` goes with `durability`")
                    .at("durability_timeout", "nothing to wait for"),
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
        let detail = format!("`durability` is `fsync` or `replicas:N` (1 to {MAX_REPLICAS})");
        ApiError::invalid(detail.clone()).at("durability", detail)
    })?;
    let timeout = params
        .durability_timeout
        .map_or(DURABILITY_WAIT, |Wait(timeout)| timeout);
    if timeout.is_zero() || timeout > MAX_DURABILITY_WAIT {
        return Err(
            ApiError::invalid("`durability_timeout` is above 0 and at most 10s")
                .at("durability_timeout", "at most 10s"),
        );
    }
    Ok(Some((wanted, timeout)))
}

/// The header of the W3C Trace Context, if it is one: of several none is.
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
