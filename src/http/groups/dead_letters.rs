//! Dead letters of a group: looking at them, deleting them, giving them back.

use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{IntoParams, PartialSchema, ToSchema};

use crate::http::error::problems::{DeadLetterProblems, LeaseProblems};
use crate::http::error::{ApiError, ErrorCode};
use crate::http::extract::access::{Access, Consume, GroupAccess, Manage, Publish};
use crate::http::extract::params::{at_most_one, bounded, entry_ids};
use crate::http::extract::{Call, NoParams, Query, id, path_segment};
use crate::http::paths;
use crate::http::respond::json::Json;
use crate::http::respond::schema::DeadLetterSchema;
use crate::http::state::AppState;
use crate::model::entry_json::serialize_fields;
use crate::model::id::EntryId;
use crate::model::name::{GroupName, StreamName};
use crate::model::time::show_rfc3339;
use crate::redis::{DeadLetter, Redrive, Redriven};

/// The most dead letters one call takes.
const AT_ONCE: usize = 1000;
/// Pages of dead letters counted after a call.
const COUNTED_PAGES: usize = 10;

/// The id of a dead letter in the path.
pub struct PathLetter(EntryId);

impl FromRequestParts<AppState> for PathLetter {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, ApiError> {
        id("id", &path_segment(parts, "id").await?, str::parse).map(Self)
    }
}

/// An entry that nobody could work off.
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

/// Dead letters of a group.
#[derive(Serialize, ToSchema)]
pub struct DeadLettersPage {
    /// The stream they lie in.
    stream: String,
    /// By id, which is the order they came in.
    dead_letters: Vec<DeadLetterOut>,
    /// The `cursor` of the next page; null at the end. A page may be short though there are more,
    /// where groups share a stream for dead letters.
    #[schema(required)]
    next: Option<String>,
}

/// Which dead letters to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct DeadLettersParams {
    /// At most so many: 100, at most 1000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u64>,
    /// The `next` of the page before.
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
    responses((status = 200, description = "Dead letters", body = DeadLettersPage), LeaseProblems),
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
        ("id" = String, Path, description = "Its id among the dead letters"),
    ),
    responses((status = 200, description = "It", body = DeadLetterOut), DeadLetterProblems),
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
        "the group has no dead letter of this id",
    )
}

/// Delete a dead letter
///
/// Deletes one dead letter for good. The original entry stays in its stream.
#[utoipa::path(
    delete,
    path = paths::DEAD_LETTER,
    tag = "dead letters",
    params(
        ("stream" = String, Path, description = "The stream"),
        ("group" = String, Path, description = "The group"),
        ("id" = String, Path, description = "Its id among the dead letters"),
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

/// What was deleted.
#[derive(Debug, Serialize, ToSchema)]
pub struct PurgedOut {
    /// How many.
    deleted: u64,
    /// How many the group has left; null if those are too many to count in one call.
    #[schema(required)]
    remaining: Option<u64>,
}

/// Delete the dead letters of a group
///
/// Deletes the oldest 1000 dead letters. Call again while `remaining` is not 0.
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

/// What to redrive: `ids`, or `all`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RedriveCall {
    /// Ids of dead letters, at most 1000. In a form, `ids` is given once for each.
    #[serde(default)]
    #[schema(required = false, max_items = 1000, example = json!(["1795232709004-0"]))]
    ids: Vec<String>,
    /// The oldest 1000.
    #[serde(default)]
    #[schema(required = false)]
    all: bool,
    /// With `all`: from this dead letter on; the `next` of the call before.
    start: Option<String>,
    /// Where the original is gone, append a copy to the stream, for all its groups.
    #[serde(default)]
    #[schema(required = false)]
    copy: bool,
    /// Append copies to this stream in place of giving originals back. It has the same hash tag; the
    /// right to publish there is needed.
    to: Option<String>,
}

/// What became of a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RedriveOutcome {
    /// The original is with its group again.
    Redriven,
    /// A copy was appended.
    Copied,
    /// The original is gone; the dead letter stays.
    Gone,
    /// The original is pending in the group already; the dead letter stays.
    Pending,
    /// The group has no such dead letter.
    NotFound,
}

/// What became of a dead letter.
#[derive(Debug, Serialize, ToSchema)]
pub struct RedriveResult {
    /// Its id.
    id: String,
    /// What became of it.
    outcome: RedriveOutcome,
    /// The id of the copy.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    copy: Option<String>,
}

/// What became of dead letters.
#[derive(Debug, Serialize, ToSchema)]
pub struct RedriveResults {
    /// In the order asked.
    results: Vec<RedriveResult>,
    /// How many are no dead letters any more.
    redriven: u64,
    /// How many the group has left; null if those are too many to count in one call.
    #[schema(required)]
    remaining: Option<u64>,
    /// With `all`: the `start` of the next call; null at the end.
    #[schema(required)]
    next: Option<String>,
}

/// Redrive dead letters
///
/// Returns the original entries to this group as if they had never been delivered; its readers get
/// them at once. A dead letter whose original entry is gone stays, unless `copy` or `to` is given.
#[utoipa::path(
    post,
    path = paths::REDRIVE,
    tag = "dead letters",
    params(
        ("stream" = String, Path, description = "The stream"),
        ("group" = String, Path, description = "The group"),
    ),
    request_body(content((RedriveCall = "application/json"), (RedriveCall = "application/x-www-form-urlencoded"))),
    responses((status = 200, description = "What became of each", body = RedriveResults), LeaseProblems),
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
        .map_err(|error| error.at("/to", "this stream"))?
        .into_stream();
    if to.tag() != access.stream().tag() {
        let detail = "copies are appended in one step: the stream must have the same hash tag";
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

/// How many dead letters the group has left, if that can be counted in a few steps.
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
