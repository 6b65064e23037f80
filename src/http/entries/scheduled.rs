//! What is to be appended later: looking at it, taking it back.

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
use crate::http::paths;
use crate::http::respond::json::Json;
use crate::http::state::AppState;
use crate::model::name::StreamName;
use crate::model::time::show_rfc3339;
use crate::redis::Scheduled;

/// An append that is to come.
#[derive(Debug, Serialize, ToSchema)]
pub struct ScheduledAppend {
    /// The stream it will be appended to.
    #[schema(example = "orders")]
    stream: String,
    /// Its name.
    scheduled: String,
    /// When, by the clock of Redis.
    #[schema(example = "2026-11-21T17:00:00.000Z")]
    due: String,
    /// How many entries it is.
    entries: u64,
}

/// Appends that are to come.
#[derive(Debug, Serialize, ToSchema)]
pub struct ScheduledAppends {
    /// Soonest first.
    scheduled: Vec<ScheduledAppend>,
    /// The `cursor` of the next page; null at the end.
    #[schema(required)]
    next: Option<String>,
}

/// Which to list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ScheduledParams {
    /// At most so many: 100 unless given, at most 1000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u64>,
    /// The `next` of the page before.
    cursor: Option<String>,
}

fn show(stream: &StreamName, kept: &Scheduled) -> ScheduledAppend {
    ScheduledAppend {
        stream: stream.shown().into_owned(),
        scheduled: kept.token.clone(),
        due: show_rfc3339(kept.due_ms),
        entries: kept.entries,
    }
}

/// 202 for what was kept.
pub(in crate::http) fn accepted(stream: &StreamName, kept: &Scheduled) -> Response {
    let place = [(LOCATION, paths::scheduled(stream, &kept.token))];
    (StatusCode::ACCEPTED, place, Json(show(stream, kept))).into_response()
}

/// The token of the path.
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
        "this is not scheduled, or was appended already",
    )
}

/// List scheduled appends
///
/// Returns the delayed appends of the stream that are not due yet, in the order of their due times.
#[utoipa::path(
    get,
    path = paths::SCHEDULED,
    tag = "entries",
    params(("stream" = String, Path, description = "The stream"), ScheduledParams),
    responses((status = 200, description = "What is scheduled", body = ScheduledAppends), ScheduledProblems),
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
                || ApiError::invalid("`cursor` is the `next` of a page").at("cursor", "is none");
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
        scheduled: kept.iter().map(|one| show(stream, one)).collect(),
        next,
    }))
}

/// Read a scheduled append
///
/// Returns one delayed append that is not due yet. Once the entries are appended the answer is 404.
#[utoipa::path(
    get,
    path = paths::SCHEDULED_ONE,
    tag = "entries",
    params(
        ("stream" = String, Path, description = "The stream"),
        ("token" = String, Path, description = "What the append answered as `scheduled`"),
    ),
    responses((status = 200, description = "It is scheduled", body = ScheduledAppend), OneScheduledProblems),
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
    Ok(Json(show(access.stream(), &found)))
}

/// Cancel a scheduled append
///
/// Removes a delayed append before it is due. Once the entries are appended the answer is 404.
#[utoipa::path(
    delete,
    path = paths::SCHEDULED_ONE,
    tag = "entries",
    params(
        ("stream" = String, Path, description = "The stream"),
        ("token" = String, Path, description = "What the append answered as `scheduled`"),
    ),
    responses((status = 204, description = "It will not be appended"), CancelProblems),
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
