//! Taking over what is pending: by id, and by how long it has been.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::http::error::ApiError;
use crate::http::error::problems::WorkProblems;
use crate::http::extract::access::{Consume, GroupAccess, consumer};
use crate::http::extract::names::{NameParam, NameSchema};
use crate::http::extract::params::{
    TimeParam, Wait, at_most_one, bounded, entry_ids, redis_number,
};
use crate::http::extract::{Call, NoParams, Query, id};
use crate::http::groups::consumers::admit;
use crate::http::groups::read::{Deliveries, DeliveryOut, MAX_COUNT};
use crate::http::paths;
use crate::http::respond::json::Json;
use crate::http::state::AppState;
use crate::model::id::EntryId;
use crate::redis::{AutoClaim, Claim};

/// What to claim.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClaimCall {
    /// Who takes the entries.
    #[schema(required, value_type = NameSchema, example = "w2")]
    consumer: Option<NameParam>,
    /// Which entries, at most 1000. In a form, `ids` is given once for each.
    #[serde(default)]
    #[schema(required, min_items = 1, max_items = 1000, example = json!(["1795232709004-0"]))]
    ids: Vec<String>,
    /// Only entries not delivered for at least this long; 0 unless given.
    #[schema(value_type = Option<String>, example = "30s")]
    min_idle: Option<Wait>,
    /// Set their idle time to this, rather than to 0.
    #[schema(value_type = Option<String>)]
    idle: Option<Wait>,
    /// Set when they were last delivered, rather than to now: RFC 3339, Unix milliseconds, or how
    /// long ago. What lies ahead counts as now.
    #[schema(value_type = Option<String>)]
    time: Option<TimeParam>,
    /// Set their delivery count to this, rather than raise it.
    retry_count: Option<u64>,
    /// Also entries that are pending with nobody.
    force: Option<bool>,
    /// Answer ids alone, and leave delivery counts as they are.
    just_id: Option<bool>,
    /// Raise the group's last delivered id to this.
    last_id: Option<String>,
}

fn millis(name: &str, duration: Option<Wait>) -> Result<Option<u64>, ApiError> {
    let Some(Wait(duration)) = duration else {
        return Ok(None);
    };
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    redis_number(name, millis).map(Some)
}

fn named(name: Option<&NameParam>) -> Result<crate::model::name::ConsumerName, ApiError> {
    let name = name.ok_or_else(|| {
        ApiError::invalid("a claim names its `consumer`").at("/consumer", "is missing")
    })?;
    consumer(name.as_str())
}

/// Claim pending entries
///
/// Transfers pending entries to a consumer, whichever consumer holds them. Entries that are gone
/// from the stream are left out; from Redis 7.0 on they are no longer pending.
#[utoipa::path(
    post,
    path = paths::GROUP_CLAIM,
    tag = "work",
    params(
        ("stream" = String, Path, description = "The stream"),
        ("group" = String, Path, description = "The group"),
    ),
    request_body(content((ClaimCall = "application/json"), (ClaimCall = "application/x-www-form-urlencoded"))),
    responses((status = 200, description = "Those that were taken", body = Deliveries), WorkProblems),
)]
pub async fn claim_entries(
    access: GroupAccess<Consume>,
    Query(NoParams {}): Query<NoParams>,
    State(state): State<AppState>,
    Call(call): Call<ClaimCall>,
) -> Result<Json<Deliveries>, ApiError> {
    let ids = entry_ids(&call.ids, "/ids", |index| format!("/ids/{index}"))?;
    at_most_one(&[
        ("/idle", call.idle.is_some()),
        ("/time", call.time.is_some()),
    ])?;
    let just_id = call.just_id.unwrap_or(false);
    let time = call.time.map(|TimeParam(time)| time);
    let now = state.store.now_for(time).await.map_err(ApiError::of_read)?;
    let claim = Claim {
        consumer: named(call.consumer.as_ref())?,
        min_idle_ms: millis("/min_idle", call.min_idle)?.unwrap_or(0),
        ids,
        idle_ms: millis("/idle", call.idle)?,
        time_ms: time
            .map(|time| redis_number("/time", time.unix_ms(now)))
            .transpose()?,
        retry_count: call
            .retry_count
            .map(|n| redis_number("/retry_count", n))
            .transpose()?,
        force: call.force.unwrap_or(false),
        just_id,
        last_id: call
            .last_id
            .as_deref()
            .map(|text| id("/last_id", text, str::parse))
            .transpose()?,
    };
    admit(&state, access.stream(), &access.group, &claim.consumer).await?;
    let claimed = state
        .store
        .claim(access.stream(), &access.group, &claim)
        .await?;
    state.metrics.bury("gone", claimed.deleted.len() as u64);
    let of = (access.stream(), &access.group);
    Ok(Json(Deliveries::new(of, claimed.entries, just_id, false)))
}

/// What to claim.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AutoClaimCall {
    /// Who takes the entries.
    #[schema(required, value_type = NameSchema, example = "w2")]
    consumer: Option<NameParam>,
    /// Only entries not delivered for at least this long.
    #[schema(required, value_type = String, example = "30s")]
    min_idle: Option<Wait>,
    /// Where to begin: the `next` of the call before, `0-0` unless given.
    start: Option<String>,
    /// At most so many entries: 100 unless given, at most 1000.
    #[schema(minimum = 1, maximum = 1000)]
    count: Option<u64>,
    /// Answer ids alone, and leave delivery counts as they are.
    just_id: Option<bool>,
}

/// What was claimed.
#[derive(Serialize, ToSchema)]
pub struct ClaimedPage {
    /// The entries, by id.
    entries: Vec<DeliveryOut>,
    /// The `start` of the next call; `0-0` when everything pending was looked at.
    next: String,
    /// Entries that were pending but are gone from the stream. They are pending no more, and
    /// nobody will get them: this is the only place they are named, besides the dead letters of a
    /// group with a policy.
    deleted: Vec<String>,
}

/// Claim entries that have been idle
///
/// Transfers entries that have been pending for at least `min_idle` to a consumer, such as entries
/// of a worker that crashed.
#[utoipa::path(
    post,
    path = paths::GROUP_AUTOCLAIM,
    tag = "work",
    params(
        ("stream" = String, Path, description = "The stream"),
        ("group" = String, Path, description = "The group"),
    ),
    request_body(content((AutoClaimCall = "application/json"), (AutoClaimCall = "application/x-www-form-urlencoded"))),
    responses((status = 200, description = "Those that were taken", body = ClaimedPage), WorkProblems),
)]
pub async fn autoclaim_entries(
    access: GroupAccess<Consume>,
    Query(NoParams {}): Query<NoParams>,
    State(state): State<AppState>,
    Call(call): Call<AutoClaimCall>,
) -> Result<Json<ClaimedPage>, ApiError> {
    let min_idle_ms = millis("/min_idle", call.min_idle)?.ok_or_else(|| {
        ApiError::invalid("say how long entries must have been idle, as `min_idle`")
            .at("/min_idle", "is missing")
    })?;
    let start = call.start.as_deref();
    let just_id = call.just_id.unwrap_or(false);
    let claim = AutoClaim {
        consumer: named(call.consumer.as_ref())?,
        min_idle_ms,
        start: start.map_or(Ok(EntryId::MIN), |text| {
            id("/start", text, |text| EntryId::parse_with(text, 0))
        })?,
        count: bounded("/count", call.count, 100, MAX_COUNT)?,
        just_id,
    };
    admit(&state, access.stream(), &access.group, &claim.consumer).await?;
    let claimed = state
        .store
        .auto_claim(access.stream(), &access.group, &claim)
        .await?;
    let of = (access.stream(), &access.group);
    if claimed.leased {
        state.metrics.bury("gone", claimed.deleted.len() as u64);
    }
    Ok(Json(ClaimedPage {
        entries: Deliveries::new(of, claimed.entries, just_id, false).into_entries(),
        next: claimed.next.to_string(),
        deleted: claimed.deleted.iter().map(ToString::to_string).collect(),
    }))
}
