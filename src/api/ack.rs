//! Acknowledging entries: of one stream, of several.

use axum::Json;
use axum::extract::State;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::access::{Access, Consume, GroupAccess, Manage, PathGroup};
use super::deletion::RefsParam;
use super::error::ApiError;
use super::extract::{Call, Query, id};
use super::params::{at_most_streams, entry_ids, some_ids};
use super::paths;
use super::problems::{ManyWorkProblems, WorkProblems};
use crate::model::id::EntryId;
use crate::model::name::StreamName;
use crate::state::AppState;
use crate::store::{Acked, References, StoreError};

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
        Ok(self.delete.then(|| self.refs.map_or(References::Acked, References::from)))
    }
}

/// Deleting what other groups are not done with is more than working in one.
fn permit(access: &Access<Consume>, delete: Option<References>) -> Result<(), ApiError> {
    if let Some(References::Keep | References::Delete) = delete {
        access.also::<Manage>()?;
    }
    Ok(())
}

/// What to acknowledge.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AckCall {
    /// Ids of entries, at most 1000. In a form, `ids` is given once for each.
    #[serde(default)]
    #[schema(required, min_items = 1, max_items = 1000, example = json!(["1795232709004-0"]))]
    ids: Vec<String>,
}

/// What to acknowledge.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AckManyCall {
    /// Entries as `STREAM@ID`, at most 1000, of at most 256 streams. In a form, `ids` is given once
    /// for each.
    #[serde(default)]
    #[schema(required, min_items = 1, max_items = 1000, example = json!(["orders@1795232709004-0", "payments@1795232709011-0"]))]
    ids: Vec<String>,
}

/// What became of one entry.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was pending, and is no more.
    Acknowledged,
    /// It was not pending.
    NotPending,
}

/// What became of one entry.
#[derive(Debug, Serialize, ToSchema)]
pub struct AckResult {
    /// Its stream, where several could be named.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    stream: Option<String>,
    /// Its id.
    id: String,
    /// What became of it.
    outcome: Outcome,
    /// With `delete`: whether this call deleted it. An entry that was not pending is left alone;
    /// one that another group needs stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    deleted: Option<bool>,
}

impl AckResult {
    fn new(id: EntryId, acked: Acked, delete: Option<References>) -> Self {
        let outcome = match acked {
            Acked::NotPending => Outcome::NotPending,
            Acked::Acknowledged | Acked::Deleted => Outcome::Acknowledged,
        };
        let deleted = delete.map(|_| acked == Acked::Deleted);
        Self { stream: None, id: id.to_string(), outcome, deleted }
    }
}

/// What became of each entry.
#[derive(Debug, Serialize, ToSchema)]
pub struct AckResults {
    /// In the order asked.
    results: Vec<AckResult>,
    /// How many were acknowledged.
    acknowledged: u64,
    /// With `delete`: how many of them were deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    deleted: Option<u64>,
}

impl AckResults {
    fn new(results: Vec<AckResult>, delete: Option<References>) -> Self {
        let acked = results.iter().filter(|one| matches!(one.outcome, Outcome::Acknowledged));
        let deleted = results.iter().filter(|one| one.deleted == Some(true)).count() as u64;
        let deleted = delete.map(|_| deleted);
        Self { acknowledged: acked.count() as u64, deleted, results }
    }
}

/// Acknowledge entries
///
/// An entry that is not pending is an outcome, not an error. `refs=keep` and `refs=delete` need the
/// right to manage the stream, for they decide for its other groups, too.
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
    responses((status = 200, description = "What became of each", body = AckResults), WorkProblems),
)]
pub async fn ack_entries(
    access: GroupAccess<Consume>,
    Query(params): Query<AckParams>,
    State(state): State<AppState>,
    Call(call): Call<AckCall>,
) -> Result<Json<AckResults>, ApiError> {
    let delete = params.delete()?;
    permit(&access.access, delete)?;
    let ids = entry_ids(&call.ids, "/ids", |index| format!("/ids/{index}"))?;
    let acked = state.store.ack(access.stream(), &access.group, &ids, delete).await?;
    let result = |(id, acked): (&EntryId, Acked)| AckResult::new(*id, acked, delete);
    Ok(Json(AckResults::new(ids.iter().zip(acked).map(result).collect(), delete)))
}

/// Acknowledge entries of several streams
///
/// In the groups of one name. Nothing is acknowledged unless every stream named has such a group. With
/// `refs=keep` and `refs=delete`, as for one stream, the right to manage each is needed.
#[utoipa::path(
    post,
    path = paths::MANY_ACK,
    tag = "work",
    params(("group" = String, Path, description = "The name of the groups"), AckParams),
    request_body(content((AckManyCall = "application/json"), (AckManyCall = "application/x-www-form-urlencoded"))),
    responses((status = 200, description = "What became of each", body = AckResults), ManyWorkProblems),
)]
pub async fn ack_entries_of_many(
    PathGroup(group): PathGroup,
    Query(params): Query<AckParams>,
    State(state): State<AppState>,
    Call(call): Call<AckManyCall>,
) -> Result<Json<AckResults>, ApiError> {
    let delete = params.delete()?;
    let of_each = by_stream(&call.ids, delete)?;
    let streams: Vec<_> = of_each.iter().map(|one| one.stream.clone()).collect();
    let lacking = state.store.lacks_group(&streams, &group).await.map_err(ApiError::of_read)?;
    if let Some((index, error)) = lacking {
        return Err(ApiError::from(error).in_stream(&streams[index]));
    }
    let acks = of_each.iter().map(|one| state.store.ack(&one.stream, &group, &one.ids, delete));
    let results = in_order(&of_each, join_all(acks).await, delete)?;
    Ok(Json(AckResults::new(results, delete)))
}

/// The results of all streams, in the order asked.
fn in_order(
    of_each: &[OfStream],
    acks: Vec<Result<Vec<Acked>, StoreError>>,
    delete: Option<References>,
) -> Result<Vec<AckResult>, ApiError> {
    let mut results = Vec::new();
    for (one, acked) in of_each.iter().zip(acks) {
        let outcomes = acked.map_err(|error| {
            let error = ApiError::from(error).in_stream(&one.stream);
            if of_each.len() > 1 { error.after_others() } else { error }
        })?;
        for ((place, id), acked) in one.places.iter().zip(&one.ids).zip(outcomes) {
            let stream = Some(one.stream.to_string());
            results.push((*place, AckResult { stream, ..AckResult::new(*id, acked, delete) }));
        }
    }
    results.sort_unstable_by_key(|(place, _)| *place);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}

/// What was asked of one of several streams.
struct OfStream {
    stream: StreamName,
    ids: Vec<EntryId>,
    /// Where each stood in the call.
    places: Vec<usize>,
}

fn by_stream(texts: &[String], delete: Option<References>) -> Result<Vec<OfStream>, ApiError> {
    some_ids(texts.len(), "/ids")?;
    let mut all: Vec<OfStream> = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let at = format!("/ids/{index}");
        let Some((name, entry)) = text.rsplit_once('@') else {
            let detail = "an entry of one of several streams is named `STREAM@ID`";
            return Err(ApiError::invalid(detail).at(at, detail));
        };
        let entry = id(&at, entry, str::parse)?;
        if let Some(one) = all.iter_mut().find(|one| one.stream.as_str() == name) {
            one.ids.push(entry);
            one.places.push(index);
        } else {
            let access = Access::<Consume>::named(name)
                .map_err(|error| error.at(at, "the name of the stream"))?;
            permit(&access, delete)?;
            let stream = access.into_stream();
            all.push(OfStream { stream, ids: vec![entry], places: vec![index] });
        }
    }
    at_most_streams(all.len())?;
    Ok(all)
}
