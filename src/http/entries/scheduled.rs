//! Scheduled appends: list, read and cancel.

use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::http::error::problems::{CancelProblems, OneScheduledProblems, ScheduledProblems};
use crate::http::error::{ApiError, ErrorCode};
use crate::http::extract::access::{Access, Manage};
use crate::http::extract::params::bounded;
use crate::http::extract::{NoParams, Query, path_segment};
use crate::http::openapi::text::StreamNameText;
use crate::http::paths;
use crate::http::respond::json::Json;
use crate::http::state::AppState;
use crate::model::name::StreamName;
use crate::model::time::show_rfc3339;
use crate::redis::Scheduled;

/// Scheduled append.
#[derive(Debug, Serialize, ToSchema)]
pub struct ScheduledAppend {
    /// Stream that the entries will be appended to.
    #[schema(example = "orders")]
    stream: String,
    /// Token of the scheduled append.
    scheduled: String,
    /// Due time, by the clock of Redis.
    #[schema(example = "2026-11-21T17:00:00.000Z")]
    due: String,
    /// Number of entries.
    entries: u64,
}

/// A page of scheduled appends.
#[derive(Debug, Serialize, ToSchema)]
pub struct ScheduledAppends {
    /// Scheduled appends, soonest first.
    scheduled: Vec<ScheduledAppend>,
    /// The `cursor` of the next page; null on the last page.
    #[schema(required)]
    next: Option<String>,
}

/// Paging of scheduled appends.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ScheduledParams {
    /// Maximum number of scheduled appends to list: 1 to 1000, default 100.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u64>,
    /// The `next` of the previous page.
    cursor: Option<String>,
}

fn scheduled_append(stream: &StreamName, kept: &Scheduled) -> ScheduledAppend {
    ScheduledAppend {
        stream: stream.public_name().into_owned(),
        scheduled: kept.token.clone(),
        due: show_rfc3339(kept.due_ms),
        entries: kept.entries,
    }
}

/// Returns 202 for a scheduled append.
pub(in crate::http) fn accepted(stream: &StreamName, kept: &Scheduled) -> Response {
    let place = [(LOCATION, paths::scheduled(stream, &kept.token))];
    (
        StatusCode::ACCEPTED,
        place,
        Json(scheduled_append(stream, kept)),
    )
        .into_response()
}

/// Token in the path of a request.
pub struct PathToken(String);

impl FromRequestParts<AppState> for PathToken {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, ApiError> {
        path_segment(parts, "token").await.map(Self)
    }
}

fn not_scheduled() -> ApiError {
    ApiError::new(
        ErrorCode::EntryNotFound,
        "the scheduled append does not exist or is already appended",
    )
}

/// List scheduled appends
///
/// Returns the delayed appends of the stream that are not due yet, ordered by due time.
#[utoipa::path(
    get,
    path = paths::SCHEDULED,
    tag = "entries",
    params(("stream" = inline(StreamNameText), Path, description = "The stream"), ScheduledParams),
    responses((status = 200, description = "Scheduled appends", body = ScheduledAppends), ScheduledProblems),
)]
pub async fn list_scheduled(
    access: Access<Manage>,
    Query(params): Query<ScheduledParams>,
    State(state): State<AppState>,
) -> Result<Json<ScheduledAppends>, ApiError> {
    let (stream, limit) = (access.stream(), bounded("limit", params.limit, 100, 1000)?);
    let after = match &params.cursor {
        None => None,
        Some(cursor) => {
            let read = cursor
                .split_once('.')
                .and_then(|(due, token)| Some((due.parse().ok()?, token)));
            let invalid =
                || ApiError::invalid("`cursor` must be a page's `next`").at("cursor", "is invalid");
            Some(read.ok_or_else(invalid)?)
        }
    };
    let kept = state
        .store
        .scheduled(stream, after, limit)
        .await
        .map_err(ApiError::of_read)?;
    let next = kept.last().filter(|_| kept.len() == limit);
    let next = next.map(|last| format!("{}.{}", last.due_ms, last.token));
    Ok(Json(ScheduledAppends {
        scheduled: kept
            .iter()
            .map(|one| scheduled_append(stream, one))
            .collect(),
        next,
    }))
}

/// Read a scheduled append
///
/// Returns one delayed append that is not due yet. After the entries are appended, the response is
/// 404.
#[utoipa::path(
    get,
    path = paths::SCHEDULED_ONE,
    tag = "entries",
    params(
        ("stream" = inline(StreamNameText), Path, description = "The stream"),
        ("token" = String, Path, description = "The `scheduled` value from the response of the append"),
    ),
    responses((status = 200, description = "The scheduled append", body = ScheduledAppend), OneScheduledProblems),
)]
pub async fn read_scheduled(
    access: Access<Manage>,
    PathToken(token): PathToken,
    Query(NoParams {}): Query<NoParams>,
    State(state): State<AppState>,
) -> Result<Json<ScheduledAppend>, ApiError> {
    let found = state.store.find_scheduled(access.stream(), &token).await;
    let found = found
        .map_err(ApiError::of_read)?
        .ok_or_else(not_scheduled)?;
    Ok(Json(scheduled_append(access.stream(), &found)))
}

/// Cancel a scheduled append
///
/// Removes a delayed append before it is due. After the entries are appended, the response is 404.
#[utoipa::path(
    delete,
    path = paths::SCHEDULED_ONE,
    tag = "entries",
    params(
        ("stream" = inline(StreamNameText), Path, description = "The stream"),
        ("token" = String, Path, description = "The `scheduled` value from the response of the append"),
    ),
    responses((status = 204, description = "The append is cancelled"), CancelProblems),
)]
pub async fn cancel_scheduled(
    access: Access<Manage>,
    PathToken(token): PathToken,
    Query(NoParams {}): Query<NoParams>,
    State(state): State<AppState>,
) -> Result<StatusCode, ApiError> {
    match state
        .store
        .cancel_scheduled(access.stream(), &token)
        .await?
    {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(not_scheduled()),
    }
}
