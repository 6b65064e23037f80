//! `GET /v1/streams/{stream}/entries/{id}`: read one entry.

use std::sync::Arc;

use axum::extract::{FromRequestParts, State};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::http::error::problems::EntryProblems;
use crate::http::error::{ApiError, ErrorCode};
use crate::http::extract::access::{Access, Subscribe};
use crate::http::extract::{Query, path_id};
use crate::http::openapi::text::{EntryIdText, StreamNameText};
use crate::http::paths;
use crate::http::respond::json::Json;
use crate::http::respond::schema::{CloudEvent, EntryOut};
use crate::http::respond::view;
use crate::http::state::AppState;
use crate::model::cloudevent_out::EventJson;
use crate::model::entry::AsEvent;
use crate::model::id::EntryId;
use crate::model::range::Order;
use crate::redis::{IdRangePage, StoreError};

/// The entry id in the path.
pub struct PathId(pub EntryId);

impl FromRequestParts<AppState> for PathId {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, ApiError> {
        path_id(parts).await.map(Self)
    }
}

/// Query parameters for the format of an entry.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ViewParams {
    /// Show the entry as `{"id","payload"}`, with the value of this field as the payload.
    payload: Option<String>,
    /// Show the payload (field `data` by default) as JSON. A payload that is not valid JSON stays
    /// text and is marked with `"json":false`.
    #[serde(default)]
    #[param(required = false)]
    json: bool,
    /// Show fields as `pairs`.
    #[serde(default)]
    #[param(required = false)]
    pairs: bool,
}

/// Read one entry
///
/// Answers 410 if the entry may have existed and was removed, and 404 if it never existed.
#[utoipa::path(
    get,
    path = paths::ENTRY,
    tag = "entries",
    params(
        ("stream" = inline(StreamNameText), Path, description = "The stream"),
        ("id" = inline(EntryIdText), Path, description = "The id of the entry", example = "1795232709004-0"),
        ViewParams,
    ),
    responses(
        (status = 200, description = "The entry", content(
            (EntryOut = "application/json"),
            (CloudEvent = "application/cloudevents+json"),
        )),
        EntryProblems,
    ),
)]
pub async fn read_entry(
    access: Access<Subscribe>,
    PathId(id): PathId,
    Query(params): Query<ViewParams>,
    State(state): State<AppState>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let event = view::wants_event(&headers).then_some(AsEvent::Alone);
    let view = view::view(params.payload.as_deref(), params.json, params.pairs, event)?;
    let read = state
        .store
        .read_between(access.stream(), Order::Asc, (id, id), 1, usize::MAX)
        .await;
    let IdRangePage { entries, facts, .. } = read.map_err(ApiError::of_read)?;
    if let Some(entry) = entries.into_iter().next() {
        if event.is_some() {
            let name = access.stream().public_name();
            return Ok(view::respond(view::EVENT, &EventJson::new(&name, &entry)));
        }
        return Ok(Json(EntryOut {
            entry,
            view: Arc::new(view),
        })
        .into_response());
    }
    if !facts.exists {
        return Err(StoreError::StreamNotFound.into());
    }
    let below = facts
        .oldest
        .map_or(id <= facts.last_id, |oldest| id < oldest);
    let removed = facts
        .entries_added
        .is_some_and(|added| added > facts.length);
    if below && removed {
        return Err(ApiError::new(
            ErrorCode::EntriesTrimmed,
            "entries this old have been removed",
        )
        .with("oldest", facts.oldest.map(|id| id.to_string())));
    }
    Err(ApiError::new(
        ErrorCode::EntryNotFound,
        "the stream has no entry with this id",
    ))
}
