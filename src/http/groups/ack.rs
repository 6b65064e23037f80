//! Acknowledging entries: of one stream, of several.

use axum::extract::State;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use crate::http::entries::deletion::RefsParam;
use crate::http::error::ApiError;
use crate::http::error::problems::{ManyWorkProblems, WorkProblems};
use crate::http::extract::access::{Access, Caller, Consume, GroupAccess, Manage, PathGroup};
use crate::http::extract::{Call, Query};
use crate::http::groups::items::{Batch, Outcome, SettledAll};
use crate::http::paths;
use crate::http::respond::json::Json;
use crate::http::state::AppState;
use crate::redis::References;

/// Whether to delete what is acknowledged.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AckParams {
    /// Delete each entry that this call acknowledges, in the same step.
    #[serde(default)]
    #[param(required = false)]
    delete: bool,
    /// With `delete`, what is done about other groups: with `acked` (the default) an entry is
    /// deleted only once every group has read and acknowledged it; with `keep` at once, and they
    /// keep their pending records; with `delete` at once and with those.
    #[param(inline)]
    refs: Option<RefsParam>,
}

impl AckParams {
    fn delete(&self) -> Result<Option<References>, ApiError> {
        if self.refs.is_some() && !self.delete {
            let detail = "`refs` says how to delete: give it with `delete=true`";
            return Err(ApiError::invalid(detail).at("refs", detail));
        }
        Ok(self
            .delete
            .then(|| self.refs.map_or(References::Acked, References::from)))
    }
}

/// Deleting what other groups are not done with is more than working in one.
fn permit(access: &Access<Consume>, delete: Option<References>) -> Result<(), ApiError> {
    if let Some(References::Keep | References::Delete) = delete {
        access.also::<Manage>()?;
    }
    Ok(())
}

/// What to acknowledge: `ids` or `receipts`.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AckCall {
    /// Ids of entries, at most 1000, whoever holds them. In a call on several streams each is
    /// `STREAM@ID`. In a form, `ids` is given once for each.
    #[serde(default)]
    #[schema(required = false, max_items = 1000, example = json!(["1795232709004-0"]))]
    ids: Vec<String>,
    /// Receipts that were handed out with entries of groups with a policy, at most 1000: only what is
    /// still lent by these is acknowledged.
    #[serde(default)]
    #[schema(required = false, max_items = 1000)]
    receipts: Vec<String>,
}

/// Acknowledge entries
///
/// Removes entries from the pending entries of the group. Each entry gets an outcome: an entry that
/// is not pending, or that another consumer holds by now, does not fail the call. `refs=keep` and
/// `refs=delete` need the right to manage the stream, because they also decide for its other
/// groups.
#[utoipa::path(
    post,
    path = paths::GROUP_ACK,
    tag = "work",
    params(
        ("stream" = String, Path, description = "The stream"),
        ("group" = String, Path, description = "The group"),
        AckParams,
    ),
    request_body(content((AckCall = "application/json"), (AckCall = "application/x-www-form-urlencoded"))),
    responses((status = 200, description = "What became of each", body = SettledAll), WorkProblems),
)]
pub async fn ack_entries(
    access: GroupAccess<Consume>,
    Query(params): Query<AckParams>,
    State(state): State<AppState>,
    Call(call): Call<AckCall>,
) -> Result<Json<SettledAll>, ApiError> {
    let delete = params.delete()?;
    permit(&access.access, delete)?;
    let batch = Batch::of_one(access.stream(), &access.group, &call.ids, &call.receipts)?;
    acknowledge(&state, &access.group, batch, delete).await
}

/// Acknowledge entries of several streams
///
/// Acknowledges entries in the groups of one name. Nothing is acknowledged unless every named
/// stream has the group. `refs=keep` and `refs=delete` need the right to manage each stream.
#[utoipa::path(
    post,
    path = paths::MANY_ACK,
    tag = "work",
    params(("group" = String, Path, description = "The name of the groups"), AckParams),
    request_body(content((AckCall = "application/json"), (AckCall = "application/x-www-form-urlencoded"))),
    responses((status = 200, description = "What became of each", body = SettledAll), ManyWorkProblems),
)]
pub async fn ack_entries_of_many(
    PathGroup(group): PathGroup,
    caller: Caller,
    Query(params): Query<AckParams>,
    State(state): State<AppState>,
    Call(call): Call<AckCall>,
) -> Result<Json<SettledAll>, ApiError> {
    let delete = params.delete()?;
    let batch = Batch::of_many((&caller, &group), &call.ids, &call.receipts, |access| {
        permit(access, delete)
    })?;
    acknowledge(&state, &group, batch, delete).await
}

async fn acknowledge(
    state: &AppState,
    group: &crate::model::name::GroupName,
    batch: Batch,
    delete: Option<References>,
) -> Result<Json<SettledAll>, ApiError> {
    let ack = async |stream, items: Vec<_>| state.store.ack(&stream, group, &items, delete).await;
    let results = batch.settle(state, group, delete.is_some(), ack).await?;
    Ok(Json(SettledAll::new(
        results,
        &[Outcome::Acknowledged],
        delete.is_some(),
    )))
}
