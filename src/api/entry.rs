//! `GET /v1/streams/{stream}/entries/{id}`: one entry.

use std::sync::Arc;

use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use serde::Deserialize;
use utoipa::IntoParams;

use super::access::{Access, Subscribe};
use super::error::{ApiError, ErrorCode};
use super::extract::{Query, path_id};
use super::json::Json;
use super::paths;
use super::problems::EntryProblems;
use super::schema::EntryOut;
use crate::model::entry::View;
use crate::model::id::EntryId;
use crate::model::range::Order;
use crate::state::AppState;
use crate::store::{Between, StoreError};

/// The id in the path.
pub struct PathId(pub EntryId);

impl FromRequestParts<AppState> for PathId {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, ApiError> {
        path_id(parts).await.map(Self)
    }
}

/// How to show an entry.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ViewParams {
    /// Show the entry as `{"id","payload"}`, with the value of this field.
    payload: Option<String>,
    /// Show fields as `pairs`.
    #[serde(default)]
    #[param(required = false)]
    pairs: bool,
}

/// Read one entry
///
/// 410 when the entry may have been there and is gone, 404 when it was never there.
#[utoipa::path(
    get,
    path = paths::ENTRY,
    tag = "entries",
    params(
        ("stream" = String, Path, description = "The stream"),
        ("id" = String, Path, description = "The id of the entry", example = "1795232709004-0"),
        ViewParams,
    ),
    responses((status = 200, description = "The entry", body = EntryOut), EntryProblems),
)]
pub async fn read_entry(
    access: Access<Subscribe>,
    PathId(id): PathId,
    Query(params): Query<ViewParams>,
    State(state): State<AppState>,
) -> Result<Json<EntryOut>, ApiError> {
    let read = state.store.read_between(access.stream(), Order::Asc, (id, id), 1, usize::MAX).await;
    let Between { entries, facts, .. } = read.map_err(ApiError::of_read)?;
    if let Some(entry) = entries.into_iter().next() {
        let view = Arc::new(View { payload: params.payload, pairs: params.pairs });
        return Ok(Json(EntryOut { entry, view }));
    }
    if !facts.exists {
        return Err(StoreError::StreamNotFound.into());
    }
    let below = facts.oldest.map_or(id <= facts.last_id, |oldest| id < oldest);
    let removed = facts.entries_added.is_some_and(|added| added > facts.length);
    if below && removed {
        return Err(ApiError::new(ErrorCode::EntriesTrimmed, "entries as old as this are gone")
            .with("oldest", facts.oldest.map(|id| id.to_string())));
    }
    Err(ApiError::new(ErrorCode::EntryNotFound, "the stream has no entry with this id"))
}
