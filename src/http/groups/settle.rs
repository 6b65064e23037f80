//! Calls with which a worker settles leased entries, other than ack: nack, reject and extend.

use axum::extract::State;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::http::bounds::MAX_REASON;
use crate::http::error::ApiError;
use crate::http::error::problems::{LeaseProblems, ManyLeaseProblems};
use crate::http::extract::access::{Caller, Consume, GroupAccess, PathGroup};
use crate::http::extract::params::{DurationParam, lease};
use crate::http::extract::{JsonOrForm, NoParams, Query};
use crate::http::groups::items::{Outcome, SettleBatch, SettledAll};
use crate::http::openapi::text::{
    EntryIdText, GroupNameText, LeaseText, ReasonText, RetryDelayText, StreamNameText,
};
use crate::http::paths;
use crate::http::respond::json::Json;
use crate::http::state::AppState;
use crate::model::name::GroupName;
use crate::model::policy;
use crate::redis::LeaseOperation;
use crate::service::settle::Settlement;

/// Entries to release, by `ids` or `receipts`.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NackCall {
    /// Ids of entries, at most 1000, regardless of which consumer holds them. In a call on several
    /// streams, each is `STREAM@ID`. In a form, repeat `ids` for each entry.
    #[serde(default)]
    #[schema(required = false, max_items = 1000, example = json!(["1795232709004-0"]), value_type = Vec<EntryIdText>, inline)]
    ids: Vec<String>,
    /// Receipts of leased entries, at most 1000.
    #[serde(default)]
    #[schema(required = false, max_items = 1000)]
    receipts: Vec<String>,
    /// Time until the entries are delivered again: 0, or 100ms to 12h. Default: the backoff of the
    /// policy.
    #[schema(value_type = Option<RetryDelayText>, inline)]
    delay: Option<DurationParam>,
    /// Reason for the release, at most 1024 bytes. It is stored with dead letters.
    #[schema(value_type = Option<ReasonText>, inline)]
    reason: Option<String>,
}

/// Entries to reject, by `ids` or `receipts`.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RejectCall {
    /// Ids of entries, at most 1000, regardless of which consumer holds them. In a call on several
    /// streams, each is `STREAM@ID`. In a form, repeat `ids` for each entry.
    #[serde(default)]
    #[schema(required = false, max_items = 1000, example = json!(["1795232709004-0"]), value_type = Vec<EntryIdText>, inline)]
    ids: Vec<String>,
    /// Receipts of leased entries, at most 1000.
    #[serde(default)]
    #[schema(required = false, max_items = 1000)]
    receipts: Vec<String>,
    /// Reason for the rejection, at most 1024 bytes. It is stored with dead letters.
    #[schema(value_type = Option<ReasonText>, inline)]
    reason: Option<String>,
}

/// Leases to extend, by `ids` or `receipts`.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExtendCall {
    /// Ids of entries, at most 1000, regardless of which consumer holds them. In a call on several
    /// streams, each is `STREAM@ID`. In a form, repeat `ids` for each entry.
    #[serde(default)]
    #[schema(required = false, max_items = 1000, example = json!(["1795232709004-0"]), value_type = Vec<EntryIdText>, inline)]
    ids: Vec<String>,
    /// Receipts of leased entries, at most 1000.
    #[serde(default)]
    #[schema(required = false, max_items = 1000)]
    receipts: Vec<String>,
    /// New lease from now on, 100ms to 12h. Default: the lease of the policy.
    #[schema(value_type = Option<LeaseText>, inline)]
    lease: Option<DurationParam>,
}

fn bounded_reason(reason: Option<String>) -> Result<Option<String>, ApiError> {
    if reason
        .as_ref()
        .is_some_and(|reason| reason.len() > MAX_REASON)
    {
        let detail = format!("must be at most {MAX_REASON} bytes");
        return Err(ApiError::invalid(format!("`reason` {detail}")).at("/reason", detail));
    }
    Ok(reason.filter(|reason| !reason.is_empty()))
}

impl NackCall {
    fn operation(&mut self) -> Result<LeaseOperation, ApiError> {
        let delay = self.delay.map(|DurationParam(delay)| delay);
        if delay.is_some_and(|delay| !policy::is_delay(delay)) {
            let detail = "`delay` must be 0, or 100ms to 12h";
            return Err(ApiError::invalid(detail).at("/delay", detail));
        }
        Ok(LeaseOperation::Nack {
            delay,
            reason: bounded_reason(self.reason.take())?,
        })
    }
}

impl RejectCall {
    fn operation(&mut self) -> Result<LeaseOperation, ApiError> {
        Ok(LeaseOperation::Reject {
            reason: bounded_reason(self.reason.take())?,
        })
    }
}

impl ExtendCall {
    fn operation(&mut self) -> Result<LeaseOperation, ApiError> {
        Ok(LeaseOperation::Extend {
            lease: lease("/lease", self.lease)?,
        })
    }
}

/// Release entries
///
/// Returns entries to the group for redelivery, at once or after `delay`. An entry that has reached
/// the `max_deliveries` of the policy becomes a dead letter instead.
#[utoipa::path(
    post,
    path = paths::GROUP_NACK,
    tag = "work",
    params(
        ("stream" = inline(StreamNameText), Path, description = "The stream"),
        ("group" = inline(GroupNameText), Path, description = "The group"),
    ),
    request_body(content((NackCall = "application/json"), (NackCall = "application/x-www-form-urlencoded"))),
    responses((status = 200, description = "Outcome of each entry", body = SettledAll), LeaseProblems),
)]
pub async fn nack_entries(
    access: GroupAccess<Consume>,
    Query(NoParams {}): Query<NoParams>,
    State(state): State<AppState>,
    JsonOrForm(mut call): JsonOrForm<NackCall>,
) -> Result<Json<SettledAll>, ApiError> {
    let batch = SettleBatch::of_one(access.stream(), &access.group, &call.ids, &call.receipts)?;
    settle_leases(&state, &access.group, batch, call.operation()?).await
}

/// Release entries of several streams
///
/// Releases entries in the groups with this name. No entry is released unless every named stream
/// has the group.
#[utoipa::path(
    post,
    path = paths::MANY_NACK,
    tag = "work",
    params(("group" = inline(GroupNameText), Path, description = "The name of the groups")),
    request_body(content((NackCall = "application/json"), (NackCall = "application/x-www-form-urlencoded"))),
    responses((status = 200, description = "Outcome of each entry", body = SettledAll), ManyLeaseProblems),
)]
pub async fn nack_entries_of_many(
    PathGroup(group): PathGroup,
    caller: Caller,
    Query(NoParams {}): Query<NoParams>,
    State(state): State<AppState>,
    JsonOrForm(mut call): JsonOrForm<NackCall>,
) -> Result<Json<SettledAll>, ApiError> {
    let batch = SettleBatch::of_many((&caller, &group), &call.ids, &call.receipts, |_| Ok(()))?;
    settle_leases(&state, &group, batch, call.operation()?).await
}

/// Reject entries
///
/// Moves entries to the dead letters of the group, regardless of their number of deliveries.
#[utoipa::path(
    post,
    path = paths::GROUP_REJECT,
    tag = "work",
    params(
        ("stream" = inline(StreamNameText), Path, description = "The stream"),
        ("group" = inline(GroupNameText), Path, description = "The group"),
    ),
    request_body(content((RejectCall = "application/json"), (RejectCall = "application/x-www-form-urlencoded"))),
    responses((status = 200, description = "Outcome of each entry", body = SettledAll), LeaseProblems),
)]
pub async fn reject_entries(
    access: GroupAccess<Consume>,
    Query(NoParams {}): Query<NoParams>,
    State(state): State<AppState>,
    JsonOrForm(mut call): JsonOrForm<RejectCall>,
) -> Result<Json<SettledAll>, ApiError> {
    let batch = SettleBatch::of_one(access.stream(), &access.group, &call.ids, &call.receipts)?;
    settle_leases(&state, &access.group, batch, call.operation()?).await
}

/// Reject entries of several streams
///
/// Rejects entries in the groups with this name. No entry is rejected unless every named stream has
/// the group.
#[utoipa::path(
    post,
    path = paths::MANY_REJECT,
    tag = "work",
    params(("group" = inline(GroupNameText), Path, description = "The name of the groups")),
    request_body(content((RejectCall = "application/json"), (RejectCall = "application/x-www-form-urlencoded"))),
    responses((status = 200, description = "Outcome of each entry", body = SettledAll), ManyLeaseProblems),
)]
pub async fn reject_entries_of_many(
    PathGroup(group): PathGroup,
    caller: Caller,
    Query(NoParams {}): Query<NoParams>,
    State(state): State<AppState>,
    JsonOrForm(mut call): JsonOrForm<RejectCall>,
) -> Result<Json<SettledAll>, ApiError> {
    let batch = SettleBatch::of_many((&caller, &group), &call.ids, &call.receipts, |_| Ok(()))?;
    settle_leases(&state, &group, batch, call.operation()?).await
}

/// Extend leases
///
/// Extends the leases of entries. The response has a new receipt for each entry; the old receipts
/// become invalid.
#[utoipa::path(
    post,
    path = paths::GROUP_EXTEND,
    tag = "work",
    params(
        ("stream" = inline(StreamNameText), Path, description = "The stream"),
        ("group" = inline(GroupNameText), Path, description = "The group"),
    ),
    request_body(content((ExtendCall = "application/json"), (ExtendCall = "application/x-www-form-urlencoded"))),
    responses((status = 200, description = "Outcome of each entry", body = SettledAll), LeaseProblems),
)]
pub async fn extend_entries(
    access: GroupAccess<Consume>,
    Query(NoParams {}): Query<NoParams>,
    State(state): State<AppState>,
    JsonOrForm(mut call): JsonOrForm<ExtendCall>,
) -> Result<Json<SettledAll>, ApiError> {
    let batch = SettleBatch::of_one(access.stream(), &access.group, &call.ids, &call.receipts)?;
    settle_leases(&state, &access.group, batch, call.operation()?).await
}

/// Extend leases of several streams
///
/// Extends leases in the groups with this name. No lease is extended unless every named stream has
/// the group.
#[utoipa::path(
    post,
    path = paths::MANY_EXTEND,
    tag = "work",
    params(("group" = inline(GroupNameText), Path, description = "The name of the groups")),
    request_body(content((ExtendCall = "application/json"), (ExtendCall = "application/x-www-form-urlencoded"))),
    responses((status = 200, description = "Outcome of each entry", body = SettledAll), ManyLeaseProblems),
)]
pub async fn extend_entries_of_many(
    PathGroup(group): PathGroup,
    caller: Caller,
    Query(NoParams {}): Query<NoParams>,
    State(state): State<AppState>,
    JsonOrForm(mut call): JsonOrForm<ExtendCall>,
) -> Result<Json<SettledAll>, ApiError> {
    let batch = SettleBatch::of_many((&caller, &group), &call.ids, &call.receipts, |_| Ok(()))?;
    settle_leases(&state, &group, batch, call.operation()?).await
}

async fn settle_leases(
    state: &AppState,
    group: &GroupName,
    batch: SettleBatch,
    operation: LeaseOperation,
) -> Result<Json<SettledAll>, ApiError> {
    let counted: &[Outcome] = match operation {
        LeaseOperation::Reject { .. } => &[Outcome::DeadLettered],
        LeaseOperation::Extend { .. } => &[Outcome::Extended],
        _ => &[Outcome::Released, Outcome::DeadLettered],
    };
    let settlement = Settlement::Lease(operation);
    let results = batch.settle(&state.services, group, &settlement).await?;
    Ok(Json(SettledAll::new(results, counted, false)))
}
