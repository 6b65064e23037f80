//! Claims of pending entries, by id and by idle time.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::http::error::ApiError;
use crate::http::error::problems::WorkProblems;
use crate::http::extract::access::{Consume, GroupAccess, consumer};
use crate::http::extract::names::NameParam;
use crate::http::extract::params::{
    DurationParam, TimeParam, at_most_one, bounded, entry_ids, redis_number,
};
use crate::http::extract::{JsonOrForm, NoParams, Query, id};
use crate::http::groups::read::{Deliveries, DeliveryOut, MAX_COUNT};
use crate::http::openapi::text::{
    ConsumerNameText, DurationText, EntryIdText, GroupNameText, ShortIdText, StreamNameText,
    TimeText,
};
use crate::http::paths;
use crate::http::respond::json::Json;
use crate::http::state::AppState;
use crate::model::id::EntryId;
use crate::redis::{AutoClaim, Claim};

/// The entries to claim.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClaimCall {
    /// The consumer that receives the entries. A name that is not UTF-8 is the text
    /// `{"base64":"…"}`.
    #[schema(required, value_type = ConsumerNameText, inline)]
    consumer: Option<NameParam>,
    /// Entry ids, at most 1000. In a form, repeat `ids` for each id.
    #[serde(default)]
    #[schema(required, min_items = 1, max_items = 1000, example = json!(["1795232709004-0"]), value_type = Vec<EntryIdText>, inline)]
    ids: Vec<String>,
    /// Minimum time since the last delivery of an entry; 0 by default.
    #[schema(value_type = Option<DurationText>, inline)]
    min_idle: Option<DurationParam>,
    /// The new idle time of the entries, instead of 0.
    #[schema(value_type = Option<DurationText>, inline)]
    idle: Option<DurationParam>,
    /// The new time of the last delivery, instead of now: RFC 3339, Unix milliseconds, or a
    /// duration before now. A time in the future counts as now.
    #[schema(value_type = Option<TimeText>, inline)]
    time: Option<TimeParam>,
    /// The new delivery count, instead of incrementing it.
    #[schema(maximum = 9_223_372_036_854_775_807_u64)]
    retry_count: Option<u64>,
    /// Whether to claim entries that are not pending for any consumer, too.
    force: Option<bool>,
    /// Whether to return only ids and leave delivery counts unchanged.
    just_id: Option<bool>,
    /// Raises the group's last delivered id to this id.
    #[schema(value_type = Option<EntryIdText>, inline)]
    last_id: Option<String>,
}

fn millis(name: &str, duration: Option<DurationParam>) -> Result<Option<u64>, ApiError> {
    let Some(DurationParam(duration)) = duration else {
        return Ok(None);
    };
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    redis_number(name, millis).map(Some)
}

fn named(name: Option<&NameParam>) -> Result<crate::model::name::ConsumerName, ApiError> {
    let name = name.ok_or_else(|| {
        ApiError::invalid("`consumer` is required").at("/consumer", "is required")
    })?;
    consumer("/consumer", name.as_str())
}

/// Claim pending entries
///
/// Transfers pending entries to a consumer, no matter which consumer holds them. Entries that no
/// longer exist in the stream are omitted. Since Redis 7.0, the claim also removes them from the
/// pending entries.
#[utoipa::path(
    post,
    path = paths::GROUP_CLAIM,
    tag = "work",
    params(
        ("stream" = inline(StreamNameText), Path, description = "The stream"),
        ("group" = inline(GroupNameText), Path, description = "The group"),
    ),
    request_body(content((ClaimCall = "application/json"), (ClaimCall = "application/x-www-form-urlencoded"))),
    responses((status = 200, description = "The claimed entries", body = Deliveries), WorkProblems),
)]
pub async fn claim_entries(
    access: GroupAccess<Consume>,
    Query(NoParams {}): Query<NoParams>,
    State(state): State<AppState>,
    JsonOrForm(call): JsonOrForm<ClaimCall>,
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
    state
        .admit_consumer(access.stream(), &access.group, &claim.consumer)
        .await?;
    let claimed = state
        .store
        .claim(access.stream(), &access.group, &claim)
        .await?;
    state
        .metrics
        .count_dead_letters("gone", claimed.deleted.len() as u64);
    let of = (access.stream(), &access.group);
    Ok(Json(Deliveries::new(of, claimed.entries, just_id, false)))
}

/// The entries to claim by idle time.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AutoClaimCall {
    /// The consumer that receives the entries. A name that is not UTF-8 is the text
    /// `{"base64":"…"}`.
    #[schema(required, value_type = ConsumerNameText, inline)]
    consumer: Option<NameParam>,
    /// Minimum time since the last delivery of an entry.
    #[schema(required, value_type = DurationText, inline)]
    min_idle: Option<DurationParam>,
    /// The `next` of the previous page; `0-0` by default.
    #[schema(value_type = Option<ShortIdText>, inline)]
    start: Option<String>,
    /// Maximum number of entries: 100 by default, at most 1000.
    #[schema(minimum = 1, maximum = 1000)]
    count: Option<u64>,
    /// Whether to return only ids and leave delivery counts unchanged.
    just_id: Option<bool>,
}

/// A page of claimed entries.
#[derive(Serialize, ToSchema)]
pub struct ClaimedPage {
    /// The claimed entries, in the order of their ids.
    entries: Vec<DeliveryOut>,
    /// The `start` of the next request; `0-0` when all pending entries have been examined.
    next: String,
    /// Entries that were pending but no longer exist in the stream. They are no longer pending and
    /// will never be delivered. Apart from the dead letters of a group with a policy, no other
    /// response lists them.
    deleted: Vec<String>,
}

/// Claim idle entries
///
/// Transfers entries that have been pending for at least `min_idle` to a consumer, for example the
/// entries of a crashed worker.
#[utoipa::path(
    post,
    path = paths::GROUP_AUTOCLAIM,
    tag = "work",
    params(
        ("stream" = inline(StreamNameText), Path, description = "The stream"),
        ("group" = inline(GroupNameText), Path, description = "The group"),
    ),
    request_body(content((AutoClaimCall = "application/json"), (AutoClaimCall = "application/x-www-form-urlencoded"))),
    responses((status = 200, description = "The claimed entries", body = ClaimedPage), WorkProblems),
)]
pub async fn autoclaim_entries(
    access: GroupAccess<Consume>,
    Query(NoParams {}): Query<NoParams>,
    State(state): State<AppState>,
    JsonOrForm(call): JsonOrForm<AutoClaimCall>,
) -> Result<Json<ClaimedPage>, ApiError> {
    let min_idle_ms = millis("/min_idle", call.min_idle)?.ok_or_else(|| {
        ApiError::invalid("`min_idle` is required").at("/min_idle", "is required")
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
    state
        .admit_consumer(access.stream(), &access.group, &claim.consumer)
        .await?;
    let claimed = state
        .store
        .auto_claim(access.stream(), &access.group, &claim)
        .await?;
    let of = (access.stream(), &access.group);
    if claimed.leased {
        state
            .metrics
            .count_dead_letters("gone", claimed.deleted.len() as u64);
    }
    Ok(Json(ClaimedPage {
        entries: Deliveries::new(of, claimed.entries, just_id, false).into_entries(),
        next: claimed.next.to_string(),
        deleted: claimed.deleted.iter().map(ToString::to_string).collect(),
    }))
}
