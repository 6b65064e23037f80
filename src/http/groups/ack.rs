//! Acknowledgment of entries in one stream or in several.

use axum::extract::State;
use axum::http::HeaderMap;
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use crate::http::entries::deletion::RefsParam;
use crate::http::error::ApiError;
use crate::http::error::problems::{AckProblems, ManyWorkProblems};
use crate::http::extract::access::{Access, Caller, Consume, GroupAccess, Manage, PathGroup};
use crate::http::extract::{JsonOrForm, Query};
use crate::http::groups::ack_publish::{PublishedWithAck, publish_and_ack};
use crate::http::groups::items::{Outcome, SettleBatch, SettledAll};
use crate::http::openapi::text::{EntryIdText, GroupNameText, StreamNameText};
use crate::http::paths;
use crate::http::respond::json::Json;
use crate::http::state::AppState;
use crate::model::name::GroupName;
use crate::redis::ReferencePolicy;
use crate::service::settle::Settlement;

/// Deletion options of an acknowledgment.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AckParams {
    /// Delete each entry that this call acknowledges, in the same step.
    #[serde(default)]
    #[param(required = false)]
    delete: bool,
    /// Handling of other groups with `delete`. `acked` (the default) deletes an entry once every
    /// group has read and acknowledged it. `keep` deletes it at once and keeps the pending records
    /// of other groups. `delete` deletes it at once, together with those records.
    #[param(inline)]
    refs: Option<RefsParam>,
}

impl AckParams {
    fn delete(&self) -> Result<Option<ReferencePolicy>, ApiError> {
        if self.refs.is_some() && !self.delete {
            let detail = "`refs` requires `delete=true`";
            return Err(ApiError::invalid(detail).at("refs", detail));
        }
        Ok(self.delete.then(|| {
            self.refs
                .map_or(ReferencePolicy::Acked, ReferencePolicy::from)
        }))
    }
}

/// Requires the right to manage the stream for deletions that ignore other groups.
fn permit(access: &Access<Consume>, delete: Option<ReferencePolicy>) -> Result<(), ApiError> {
    if let Some(ReferencePolicy::Keep | ReferencePolicy::Delete) = delete {
        access.also::<Manage>()?;
    }
    Ok(())
}

/// The entries to acknowledge, as `ids` or `receipts`.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AckCall {
    /// Entry ids, at most 1000, no matter which consumer holds the entries. In a request for
    /// several streams, each id has the form `STREAM@ID`. In a form, repeat `ids` for each id.
    #[serde(default)]
    #[schema(required = false, max_items = 1000, example = json!(["1795232709004-0"]), value_type = Vec<EntryIdText>, inline)]
    pub(in crate::http) ids: Vec<String>,
    /// Receipts, at most 1000, returned with entries of groups that have a policy. Only entries
    /// that are still leased under these receipts are acknowledged.
    #[serde(default)]
    #[schema(required = false, max_items = 1000)]
    pub(in crate::http) receipts: Vec<String>,
    /// Entries to append in the same step, at most 1000, each with its stream. Either all entries are
    /// acknowledged and all of these appended, or nothing happens. The streams must have the hash tag
    /// of the group's stream. Only in JSON, and in requests for one stream.
    #[serde(default)]
    #[schema(required = false, max_items = 1000, value_type = Vec<PublishedWithAck>)]
    pub(in crate::http) publish: Vec<Box<RawValue>>,
}

/// Acknowledge entries
///
/// Removes entries from the pending entries of the group. Each entry gets its own outcome. An entry
/// that is not pending, or that another consumer now holds, does not fail the request. `refs=keep`
/// and `refs=delete` require the right to manage the stream, because they also affect its other
/// groups. With `publish`, the results of the work are appended in the same step, which answers 409
/// `lease-lost` if any entry is not pending or another consumer now holds it.
#[utoipa::path(
    post,
    path = paths::GROUP_ACK,
    tag = "work",
    params(
        ("stream" = inline(StreamNameText), Path, description = "The stream"),
        ("group" = inline(GroupNameText), Path, description = "The group"),
        AckParams,
    ),
    request_body(content((AckCall = "application/json"), (AckCall = "application/x-www-form-urlencoded"))),
    responses((status = 200, description = "The outcome of each entry", body = SettledAll), AckProblems),
)]
pub async fn ack_entries(
    access: GroupAccess<Consume>,
    Query(params): Query<AckParams>,
    State(state): State<AppState>,
    headers: HeaderMap,
    JsonOrForm(call): JsonOrForm<AckCall>,
) -> Result<Json<SettledAll>, ApiError> {
    let delete = params.delete()?;
    permit(&access.access, delete)?;
    if !call.publish.is_empty() {
        if delete.is_some() {
            let detail = "`publish` cannot be combined with `delete`";
            return Err(ApiError::invalid(detail).at("/publish", detail));
        }
        let batch = SettleBatch::of_one(access.stream(), &access.group, &call.ids, &call.receipts)?;
        return publish_and_ack(&state, &access, &headers, batch, &call.publish).await;
    }
    let batch = SettleBatch::of_one(access.stream(), &access.group, &call.ids, &call.receipts)?;
    acknowledge(&state, &access.group, batch, delete)
        .await
        .map(Json)
}

/// Acknowledge entries of several streams
///
/// Acknowledges entries in the groups with this name. Unless every named stream has the group,
/// nothing is acknowledged. `refs=keep` and `refs=delete` require the right to manage each stream.
#[utoipa::path(
    post,
    path = paths::MANY_ACK,
    tag = "work",
    params(("group" = inline(GroupNameText), Path, description = "The group name, the same in each stream"), AckParams),
    request_body(content((AckCall = "application/json"), (AckCall = "application/x-www-form-urlencoded"))),
    responses((status = 200, description = "The outcome of each entry", body = SettledAll), ManyWorkProblems),
)]
pub async fn ack_entries_of_many(
    PathGroup(group): PathGroup,
    caller: Caller,
    Query(params): Query<AckParams>,
    State(state): State<AppState>,
    JsonOrForm(call): JsonOrForm<AckCall>,
) -> Result<Json<SettledAll>, ApiError> {
    let delete = params.delete()?;
    if !call.publish.is_empty() {
        let detail = "`publish` requires a request for one stream";
        return Err(ApiError::invalid(detail).at("/publish", detail));
    }
    let batch = SettleBatch::of_many((&caller, &group), &call.ids, &call.receipts, |access| {
        permit(access, delete)
    })?;
    acknowledge(&state, &group, batch, delete).await.map(Json)
}

/// Acknowledges entries, and deletes what is acknowledged if there is a policy for other groups.
///
/// # Errors
/// The reason why entries were not acknowledged.
pub(in crate::http) async fn acknowledge(
    state: &AppState,
    group: &GroupName,
    batch: SettleBatch,
    delete: Option<ReferencePolicy>,
) -> Result<SettledAll, ApiError> {
    let settlement = Settlement::Ack(delete);
    let results = batch.settle(&state.services, group, &settlement).await?;
    let counted = &[Outcome::Acknowledged];
    Ok(SettledAll::new(results, counted, delete.is_some()))
}
