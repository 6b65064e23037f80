//! Deletion of entries by id, and trimming.

use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::http::entries::entry::PathId;
use crate::http::error::problems::{DeleteEntriesProblems, DeleteEntryProblems, TrimProblems};
use crate::http::error::{ApiError, ErrorCode};
use crate::http::extract::access::{ExistingAccess, Manage};
use crate::http::extract::params::{DurationParam, entry_ids, redis_number};
use crate::http::extract::{JsonOrForm, NoParams, Query, id};
use crate::http::openapi::text::{DurationText, EntryIdText, ShortIdText, StreamNameText};
use crate::http::paths;
use crate::http::respond::gap::require_stream;
use crate::http::respond::json::Json;
use crate::http::state::AppState;
use crate::model::id::EntryId;
use crate::model::time::Time;
use crate::redis::{Deletion, Lane, ReferencePolicy, Trim, Trimming};

/// `refs=`: handling of groups that still refer to an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RefsParam {
    /// Groups keep their pending records of the deleted entry.
    Keep,
    /// The pending records are removed, too.
    Delete,
    /// The entry is deleted only once every group has read and acknowledged it.
    Acked,
}

impl From<RefsParam> for ReferencePolicy {
    fn from(refs: RefsParam) -> Self {
        match refs {
            RefsParam::Keep => Self::Keep,
            RefsParam::Delete => Self::Delete,
            RefsParam::Acked => Self::Acked,
        }
    }
}

/// Query parameters of a deletion.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct DeleteParams {
    /// Entry ids, at most 1000. Repeat the parameter for each id.
    #[serde(default)]
    #[param(required = true, example = json!(["1795232709004-0"]), value_type = Vec<EntryIdText>, inline, min_items = 1, max_items = 1000)]
    id: Vec<String>,
    /// Handling of groups that still refer to an entry: `keep` (the default), `delete` or `acked`.
    #[param(inline)]
    refs: Option<RefsParam>,
}

/// The results of a deletion.
#[derive(Debug, Serialize, ToSchema)]
pub struct Deletions {
    /// The results in the order of the request.
    results: Vec<DeletionResult>,
    /// The number of deleted entries.
    deleted: u64,
}

/// The result for one entry.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeletionResult {
    /// The id of the entry.
    id: String,
    /// The outcome for the entry.
    outcome: DeletionOutcome,
}

/// The outcome for an entry.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DeletionOutcome {
    /// The entry was deleted.
    Deleted,
    /// The entry did not exist.
    NotFound,
    /// With `refs=acked`: the entry was kept, because a group has not read or not acknowledged it.
    Referenced,
}

/// Delete entries
///
/// Deletes up to 1000 entries and returns an outcome for each. An entry that does not exist does
/// not fail the request.
#[utoipa::path(
    delete,
    path = paths::ENTRIES,
    tag = "entries",
    params(("stream" = inline(StreamNameText), Path, description = "The stream"), DeleteParams),
    responses((status = 200, description = "The result for each entry", body = Deletions), DeleteEntriesProblems),
)]
pub async fn delete_entries(
    ExistingAccess(access): ExistingAccess<Manage>,
    Query(params): Query<DeleteParams>,
    State(state): State<AppState>,
) -> Result<Json<Deletions>, ApiError> {
    let ids = entry_ids(&params.id, "id", |_| "id".to_owned())?;
    let refs = params
        .refs
        .map_or(ReferencePolicy::Keep, ReferencePolicy::from);
    let deletions = state
        .store
        .delete_entries(access.stream(), &ids, refs)
        .await?;
    let deleted = deletions
        .iter()
        .filter(|deletion| **deletion == Deletion::Deleted)
        .count();
    let result = |(id, deletion): (&EntryId, Deletion)| DeletionResult {
        id: id.to_string(),
        outcome: match deletion {
            Deletion::Deleted => DeletionOutcome::Deleted,
            Deletion::NotFound => DeletionOutcome::NotFound,
            Deletion::Referenced => DeletionOutcome::Referenced,
        },
    };
    let results = ids.iter().zip(deletions).map(result).collect();
    Ok(Json(Deletions {
        results,
        deleted: deleted as u64,
    }))
}

/// Delete one entry
///
/// Groups keep their pending records of the entry; `DELETE …/entries?id=…&refs=…` can remove the
/// records, too.
#[utoipa::path(
    delete,
    path = paths::ENTRY,
    tag = "entries",
    params(
        ("stream" = inline(StreamNameText), Path, description = "The stream"),
        ("id" = inline(EntryIdText), Path, description = "The id of the entry", example = "1795232709004-0"),
    ),
    responses((status = 204, description = "Deleted"), DeleteEntryProblems),
)]
pub async fn delete_entry(
    ExistingAccess(access): ExistingAccess<Manage>,
    PathId(id): PathId,
    Query(NoParams {}): Query<NoParams>,
    State(state): State<AppState>,
) -> Result<StatusCode, ApiError> {
    let deletions = state
        .store
        .delete_entries(access.stream(), &[id], ReferencePolicy::Keep)
        .await?;
    if deletions == [Deletion::Deleted] {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(ApiError::new(
        ErrorCode::EntryNotFound,
        "the stream has no entry with this id",
    ))
}

/// Trim options.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TrimCall {
    /// Keep this many of the newest entries.
    #[schema(example = 1000, maximum = 9_223_372_036_854_775_807_u64)]
    maxlen: Option<u64>,
    /// Remove entries below this id.
    #[schema(value_type = Option<ShortIdText>, inline)]
    minid: Option<String>,
    /// Remove entries older than this, by the clock of Redis.
    #[schema(value_type = Option<DurationText>, inline)]
    max_age: Option<DurationParam>,
    /// Trim exactly. By default Redis drops only whole nodes, which is much cheaper.
    exact: Option<bool>,
    /// Without `exact`: the maximum number of entries examined, or 0 for no limit.
    #[schema(maximum = 9_223_372_036_854_775_807_u64)]
    limit: Option<u64>,
    /// Handling of groups when trimming. `keep` (the default) keeps their pending records. `delete`
    /// removes these records. `acked` trims only entries that every group has read and
    /// acknowledged.
    refs: Option<RefsParam>,
}

/// The result of a trim.
#[derive(Debug, Serialize, ToSchema)]
pub struct Trimmed {
    /// The number of removed entries.
    trimmed: u64,
}

/// Trim a stream
///
/// Removes the oldest entries beyond a length, below an id or above an age.
#[utoipa::path(
    post,
    path = paths::TRIM,
    tag = "streams",
    params(("stream" = inline(StreamNameText), Path, description = "The stream")),
    request_body(content((TrimCall = "application/json"), (TrimCall = "application/x-www-form-urlencoded"))),
    responses((status = 200, description = "Trimmed", body = Trimmed), TrimProblems),
)]
pub async fn trim_stream(
    ExistingAccess(access): ExistingAccess<Manage>,
    Query(NoParams {}): Query<NoParams>,
    State(state): State<AppState>,
    JsonOrForm(call): JsonOrForm<TrimCall>,
) -> Result<Json<Trimmed>, ApiError> {
    let exact = call.exact.unwrap_or(false);
    if exact && call.limit.is_some() {
        return Err(ApiError::invalid("`limit` cannot be combined with `exact`")
            .at("/limit", "cannot be combined with `exact`"));
    }
    let limit = call
        .limit
        .map(|limit| redis_number("/limit", limit))
        .transpose()?;
    let trim = match (call.maxlen, &call.minid, call.max_age) {
        (Some(length), None, None) => Trim::MaxLen(redis_number("/maxlen", length)?),
        (None, Some(min), None) => {
            Trim::MinId(id("/minid", min, |text| EntryId::parse_with(text, 0))?)
        }
        (None, None, Some(DurationParam(age))) => {
            Trim::MinId(Time::Ago(age).first_id(state.store.now_ms().await?))
        }
        _ => {
            let detail = "exactly one of `maxlen`, `minid` and `max_age` is required";
            return Err(ApiError::invalid(detail).at("", detail));
        }
    };
    let references = call
        .refs
        .map_or(ReferencePolicy::Keep, ReferencePolicy::from);
    let trimming = Trimming {
        trim,
        exact,
        limit,
        references,
    };
    let trimmed = state.store.trim(access.stream(), &trimming).await?;
    if trimmed == 0 {
        // Redis also returns 0 for a stream that does not exist.
        require_stream(&state.store.facts(&Lane::Shared, access.stream()).await?)?;
    }
    Ok(Json(Trimmed { trimmed }))
}
