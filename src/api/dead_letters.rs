//! Dead letters of a group: endpoints to list, read, delete and redrive them.

use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{IntoParams, PartialSchema, ToSchema};

use super::access::{Access, Consume, GroupAccess, Manage, Publish};
use super::error::{ApiError, ErrorCode};
use super::extract::{Call, NoParams, Query, id, path_segment};
use super::json::Json;
use super::params::{at_most_one, bounded, entry_ids};
use super::paths;
use super::problems::{DeadLetterProblems, LeaseProblems};
use super::schema::DeadLetterSchema;
use crate::model::entry_json::serialize_fields;
use crate::model::id::EntryId;
use crate::model::name::{GroupName, StreamName};
use crate::model::time::show_rfc3339;
use crate::state::AppState;
use crate::store::{DeadLetter, Redrive, Redriven};

/// Maximum number of dead letters per request.
const AT_ONCE: usize = 1000;
/// Maximum number of pages to count for `remaining`.
const COUNTED_PAGES: usize = 10;

/// The dead letter id in the path.
pub struct PathLetter(EntryId);

impl FromRequestParts<AppState> for PathLetter {
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
        ("stream" = String, Path, description = "The stream"),
        ("group" = String, Path, description = "The group"),
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
            .show(&policy.dead_letter)
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
        ("stream" = String, Path, description = "The stream"),
        ("group" = String, Path, description = "The group"),
        ("id" = String, Path, description = "The id of the dead letter"),
    ),
    responses((status = 200, description = "The dead letter", body = DeadLetterOut), DeadLetterProblems),
)]
pub async fn read_dead_letter(
    access: GroupAccess<Consume>,
    PathLetter(letter): PathLetter,
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
        ("stream" = String, Path, description = "The stream"),
        ("group" = String, Path, description = "The group"),
        ("id" = String, Path, description = "The id of the dead letter"),
    ),
    responses((status = 204, description = "Deleted"), DeadLetterProblems),
)]
pub async fn delete_dead_letter(
    access: GroupAccess<Manage>,
    PathLetter(letter): PathLetter,
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
    state.store.delete_dead_letters(&policy, &[letter]).await?;
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
        ("stream" = String, Path, description = "The stream"),
        ("group" = String, Path, description = "The group"),
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
    let deleted = state.store.delete_dead_letters(&policy, &ids).await?;
    Ok(Json(PurgedOut {
        deleted,
        remaining: remaining(&state, stream, group).await?,
    }))
}

/// The dead letters to redrive, as `ids` or `all`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RedriveCall {
    /// Ids of dead letters, at most 1000. In a form, repeat `ids` for each id.
    #[serde(default)]
    #[schema(required = false, max_items = 1000, example = json!(["1795232709004-0"]))]
    ids: Vec<String>,
    /// Whether to redrive the oldest 1000 dead letters.
    #[serde(default)]
    #[schema(required = false)]
    all: bool,
    /// With `all`: the dead letter to start at, from `next` of the previous response.
    start: Option<String>,
    /// Whether to append a copy to the stream if the original entry no longer exists. All groups of
    /// the stream receive the copy.
    #[serde(default)]
    #[schema(required = false)]
    copy: bool,
    /// Append copies to this stream instead of redriving the original entries. The stream must have
    /// the same hash tag. Requires the right to publish to it.
    to: Option<String>,
}

/// The outcome for a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RedriveOutcome {
    /// The original entry was returned to its group.
    Redriven,
    /// A copy was appended.
    Copied,
    /// The original entry no longer exists; the dead letter was kept.
    Gone,
    /// The original entry is already pending in the group; the dead letter was kept.
    Pending,
    /// The group has no such dead letter.
    NotFound,
}

/// The result for one dead letter.
#[derive(Debug, Serialize, ToSchema)]
pub struct RedriveResult {
    /// The id of the dead letter.
    id: String,
    /// The outcome for the dead letter.
    outcome: RedriveOutcome,
    /// The id of the copy.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    copy: Option<String>,
}

/// The results of a redrive.
#[derive(Debug, Serialize, ToSchema)]
pub struct RedriveResults {
    /// The results in the order of the request.
    results: Vec<RedriveResult>,
    /// The number of dead letters redriven or copied.
    redriven: u64,
    /// The number of remaining dead letters of the group; null if there are too many to count in
    /// one request.
    #[schema(required)]
    remaining: Option<u64>,
    /// With `all`: the `start` of the next request; null at the end.
    #[schema(required)]
    next: Option<String>,
}

/// Redrive dead letters
///
/// Returns the original entries to this group as if they had never been delivered. Its readers
/// receive them at once. A dead letter whose original entry no longer exists is kept, unless `copy`
/// or `to` is given.
#[utoipa::path(
    post,
    path = paths::REDRIVE,
    tag = "dead letters",
    params(
        ("stream" = String, Path, description = "The stream"),
        ("group" = String, Path, description = "The group"),
    ),
    request_body(content((RedriveCall = "application/json"), (RedriveCall = "application/x-www-form-urlencoded"))),
    responses((status = 200, description = "The result for each dead letter", body = RedriveResults), LeaseProblems),
)]
pub async fn redrive_dead_letters(
    access: GroupAccess<Manage>,
    Query(NoParams {}): Query<NoParams>,
    State(state): State<AppState>,
    Call(call): Call<RedriveCall>,
) -> Result<Json<RedriveResults>, ApiError> {
    at_most_one(&[("/ids", !call.ids.is_empty()), ("/all", call.all)])?;
    at_most_one(&[("/copy", call.copy), ("/to", call.to.is_some())])?;
    let (stream, group) = (access.stream(), &access.group);
    let how = how(&call, &access.access)?;
    let policy = state
        .store
        .needed_policy(stream, group)
        .await
        .map_err(ApiError::of_read)?;
    let (ids, next) = if call.all {
        let start = call
            .start
            .as_deref()
            .map(|text| id("/start", text, str::parse));
        let start = start.transpose()?.unwrap_or(EntryId::MIN);
        let page = state
            .store
            .dead_letters(stream, group, &policy, start, AT_ONCE)
            .await;
        let page = page.map_err(ApiError::of_read)?;
        (
            page.letters.iter().map(|letter| letter.id).collect(),
            page.next,
        )
    } else {
        (
            entry_ids(&call.ids, "/ids", |index| format!("/ids/{index}"))?,
            None,
        )
    };
    let done = state.store.redrive(stream, group, &ids, &how).await?;
    let results: Vec<_> = ids
        .iter()
        .zip(done)
        .map(|(id, done)| result(*id, done))
        .collect();
    let is_done = |one: &&RedriveResult| {
        matches!(
            one.outcome,
            RedriveOutcome::Redriven | RedriveOutcome::Copied
        )
    };
    Ok(Json(RedriveResults {
        redriven: results.iter().filter(is_done).count() as u64,
        results,
        remaining: remaining(&state, stream, group).await?,
        next: next.map(|id| id.to_string()),
    }))
}

fn how(call: &RedriveCall, access: &Access<Manage>) -> Result<Redrive, ApiError> {
    let Some(name) = &call.to else {
        return Ok(if call.copy {
            Redrive::OrCopy
        } else {
            Redrive::Original
        });
    };
    let to = access
        .other::<Publish>(name)
        .map_err(|error| error.at("/to", "invalid stream name or missing right"))?
        .into_stream();
    if to.tag() != access.stream().tag() {
        let detail = "`to` must have the same hash tag as the stream, because copies are appended in one step";
        return Err(ApiError::invalid(detail).at("/to", detail));
    }
    Ok(Redrive::To(to))
}

fn result(id: EntryId, done: Redriven) -> RedriveResult {
    let (outcome, copy) = match done {
        Redriven::Redriven => (RedriveOutcome::Redriven, None),
        Redriven::Copied(copy) => (RedriveOutcome::Copied, Some(copy.to_string())),
        Redriven::Gone => (RedriveOutcome::Gone, None),
        Redriven::Pending => (RedriveOutcome::Pending, None),
        Redriven::NotFound => (RedriveOutcome::NotFound, None),
    };
    RedriveResult {
        id: id.to_string(),
        outcome,
        copy,
    }
}

/// Counts the remaining dead letters of the group. Returns `None` if there are too many to count in
/// one request.
async fn remaining(
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
