//! Dead letters of a group: endpoints to list, read and delete them.

use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{IntoParams, PartialSchema, ToSchema};

use crate::http::error::problems::{DeadLetterProblems, LeaseProblems};
use crate::http::error::{ApiError, ErrorCode};
use crate::http::extract::access::{Consume, GroupAccess, Manage};
use crate::http::extract::params::bounded;
use crate::http::extract::{NoParams, Query, id, path_segment};
use crate::http::openapi::text::{EntryIdText, GroupNameText, StreamNameText};
use crate::http::paths;
use crate::http::respond::json::Json;
use crate::http::respond::schema::DeadLetterSchema;
use crate::http::state::AppState;
use crate::model::entry_json::serialize_fields;
use crate::model::id::EntryId;
use crate::model::name::{GroupName, StreamName};
use crate::model::time::show_rfc3339;
use crate::redis::DeadLetter;

/// Maximum number of dead letters per request.
pub(in crate::http) const AT_ONCE: usize = 1000;
/// Maximum number of pages to count for `remaining`.
const COUNTED_PAGES: usize = 10;

/// The dead letter id in the path.
pub struct PathDeadLetterId(EntryId);

impl FromRequestParts<AppState> for PathDeadLetterId {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, ApiError> {
        id("id", &path_segment(parts, "id").await?, str::parse).map(Self)
    }
}

/// An entry that the group gave up on.
pub struct DeadLetterOut(DeadLetter);

impl Serialize for DeadLetterOut {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(letter) = self;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &format_args!("{}", letter.id))?;
        match letter.fields.is_empty() {
            true => map.serialize_entry("fields", &None::<()>)?,
            false => serialize_fields(&mut map, &letter.fields, false)?,
        }
        map.serialize_entry("entry", &format_args!("{}", letter.entry))?;
        map.serialize_entry("consumer", &letter.consumer)?;
        map.serialize_entry("deliveries", &letter.deliveries)?;
        map.serialize_entry("reason", &letter.reason)?;
        map.serialize_entry("time", &show_rfc3339(letter.time_ms))?;
        map.end()
    }
}

impl PartialSchema for DeadLetterOut {
    fn schema() -> RefOr<Schema> {
        DeadLetterSchema::schema()
    }
}

impl ToSchema for DeadLetterOut {
    fn name() -> std::borrow::Cow<'static, str> {
        "DeadLetter".into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        DeadLetterSchema::schemas(schemas);
    }
}

/// A page of dead letters of a group.
#[derive(Serialize, ToSchema)]
pub struct DeadLettersPage {
    /// The stream that holds the dead letters.
    stream: String,
    /// The dead letters in the order of their ids, oldest first.
    dead_letters: Vec<DeadLetterOut>,
    /// The `cursor` of the next page; null at the end. If groups share a dead letter stream, a page
    /// may be short although more pages follow.
    #[schema(required)]
    next: Option<String>,
}

/// Query parameters for a list of dead letters.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct DeadLettersParams {
    /// Maximum number of dead letters: 100 by default, at most 1000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u64>,
    /// The `next` of the previous page.
    cursor: Option<String>,
}

/// List the dead letters of a group
///
/// Returns the entries that the group gave up on, oldest first.
#[utoipa::path(
    get,
    path = paths::DEAD_LETTERS,
    tag = "dead letters",
    params(
        ("stream" = inline(StreamNameText), Path, description = "The stream"),
        ("group" = inline(GroupNameText), Path, description = "The group"),
        DeadLettersParams,
    ),
    responses((status = 200, description = "A page of dead letters", body = DeadLettersPage), LeaseProblems),
)]
pub async fn list_dead_letters(
    access: GroupAccess<Consume>,
    Query(params): Query<DeadLettersParams>,
    State(state): State<AppState>,
) -> Result<Json<DeadLettersPage>, ApiError> {
    let limit = bounded("limit", params.limit, 100, AT_ONCE as u64)?;
    let start = params
        .cursor
        .as_deref()
        .map(|text| id("cursor", text, str::parse));
    let start = start.transpose()?.unwrap_or(EntryId::MIN);
    let (stream, group) = (access.stream(), &access.group);
    let policy = state
        .store
        .needed_policy(stream, group)
        .await
        .map_err(ApiError::of_read)?;
    let page = state
        .store
        .dead_letters(stream, group, &policy, start, limit)
        .await;
    let page = page.map_err(ApiError::of_read)?;
    Ok(Json(DeadLettersPage {
        stream: access
            .access
            .principal()
            .namespace
            .public_name_of(&policy.dead_letter)
            .into_owned(),
        dead_letters: page.letters.into_iter().map(DeadLetterOut).collect(),
        next: page.next.map(|id| id.to_string()),
    }))
}

/// Read a dead letter
///
/// Returns one entry that the group gave up on, with the reason.
#[utoipa::path(
    get,
    path = paths::DEAD_LETTER,
    tag = "dead letters",
    params(
        ("stream" = inline(StreamNameText), Path, description = "The stream"),
        ("group" = inline(GroupNameText), Path, description = "The group"),
        ("id" = inline(EntryIdText), Path, description = "The id of the dead letter"),
    ),
    responses((status = 200, description = "The dead letter", body = DeadLetterOut), DeadLetterProblems),
)]
pub async fn read_dead_letter(
    access: GroupAccess<Consume>,
    PathDeadLetterId(letter): PathDeadLetterId,
    Query(NoParams {}): Query<NoParams>,
    State(state): State<AppState>,
) -> Result<Json<DeadLetterOut>, ApiError> {
    let (stream, group) = (access.stream(), &access.group);
    let policy = state
        .store
        .needed_policy(stream, group)
        .await
        .map_err(ApiError::of_read)?;
    let found = state
        .store
        .dead_letter(stream, group, &policy, letter)
        .await;
    found
        .map_err(ApiError::of_read)?
        .map(|found| Json(DeadLetterOut(found)))
        .ok_or_else(not_found)
}

fn not_found() -> ApiError {
    ApiError::new(
        ErrorCode::EntryNotFound,
        "the group has no dead letter with this id",
    )
}

/// Delete a dead letter
///
/// Deletes one dead letter permanently. The original entry stays in its stream.
#[utoipa::path(
    delete,
    path = paths::DEAD_LETTER,
    tag = "dead letters",
    params(
        ("stream" = inline(StreamNameText), Path, description = "The stream"),
        ("group" = inline(GroupNameText), Path, description = "The group"),
        ("id" = inline(EntryIdText), Path, description = "The id of the dead letter"),
    ),
    responses((status = 204, description = "Deleted"), DeadLetterProblems),
)]
pub async fn delete_dead_letter(
    access: GroupAccess<Manage>,
    PathDeadLetterId(letter): PathDeadLetterId,
    Query(NoParams {}): Query<NoParams>,
    State(state): State<AppState>,
) -> Result<StatusCode, ApiError> {
    let (stream, group) = (access.stream(), &access.group);
    let policy = state
        .store
        .needed_policy(stream, group)
        .await
        .map_err(ApiError::of_read)?;
    let found = state
        .store
        .dead_letter(stream, group, &policy, letter)
        .await;
    found.map_err(ApiError::of_read)?.ok_or_else(not_found)?;
    let of = (stream, group);
    state
        .store
        .delete_dead_letters(of, &policy, &[letter])
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The result of a deletion of dead letters.
#[derive(Debug, Serialize, ToSchema)]
pub struct PurgedOut {
    /// The number of deleted dead letters.
    deleted: u64,
    /// The number of remaining dead letters of the group; null if there are too many to count in
    /// one request.
    #[schema(required)]
    remaining: Option<u64>,
}

/// Delete the dead letters of a group
///
/// Deletes the oldest 1000 dead letters. Repeat the request while `remaining` is not 0.
#[utoipa::path(
    delete,
    path = paths::DEAD_LETTERS,
    tag = "dead letters",
    params(
        ("stream" = inline(StreamNameText), Path, description = "The stream"),
        ("group" = inline(GroupNameText), Path, description = "The group"),
    ),
    responses((status = 200, description = "Deleted", body = PurgedOut), LeaseProblems),
)]
pub async fn purge_dead_letters(
    access: GroupAccess<Manage>,
    Query(NoParams {}): Query<NoParams>,
    State(state): State<AppState>,
) -> Result<Json<PurgedOut>, ApiError> {
    let (stream, group) = (access.stream(), &access.group);
    let policy = state
        .store
        .needed_policy(stream, group)
        .await
        .map_err(ApiError::of_read)?;
    let page = state
        .store
        .dead_letters(stream, group, &policy, EntryId::MIN, AT_ONCE)
        .await;
    let ids: Vec<EntryId> = page
        .map_err(ApiError::of_read)?
        .letters
        .iter()
        .map(|letter| letter.id)
        .collect();
    let deleted = state
        .store
        .delete_dead_letters((stream, group), &policy, &ids)
        .await?;
    Ok(Json(PurgedOut {
        deleted,
        remaining: remaining(&state, stream, group).await?,
    }))
}

/// Counts the remaining dead letters of the group. Returns `None` if there are too many to count in
/// one request.
pub(in crate::http) async fn remaining(
    state: &AppState,
    stream: &StreamName,
    group: &GroupName,
) -> Result<Option<u64>, ApiError> {
    let (mut count, mut start) = (0, EntryId::MIN);
    let policy = state.store.needed_policy(stream, group).await?;
    for _ in 0..COUNTED_PAGES {
        let page = state
            .store
            .dead_letters(stream, group, &policy, start, AT_ONCE)
            .await?;
        count += page.letters.len() as u64;
        match page.next {
            Some(next) => start = next,
            None => return Ok(Some(count)),
        }
    }
    Ok(None)
}
