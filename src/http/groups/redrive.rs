//! Redriving of dead letters: returns entries to their group or appends copies of them.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::http::error::ApiError;
use crate::http::error::problems::LeaseProblems;
use crate::http::extract::access::{Access, GroupAccess, Manage, Publish};
use crate::http::extract::params::{at_most_one, entry_ids};
use crate::http::extract::{JsonOrForm, NoParams, Query, id};
use crate::http::groups::dead_letters::{AT_ONCE, remaining};
use crate::http::openapi::text::{EntryIdText, GroupNameText, StreamNameText};
use crate::http::paths;
use crate::http::respond::json::Json;
use crate::http::state::AppState;
use crate::model::id::EntryId;
use crate::redis::{Redrive, Redriven};

/// The dead letters to redrive, as `ids` or `all`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RedriveCall {
    /// Ids of dead letters, at most 1000. In a form, repeat `ids` for each id.
    #[serde(default)]
    #[schema(required = false, max_items = 1000, example = json!(["1795232709004-0"]), value_type = Vec<EntryIdText>, inline)]
    ids: Vec<String>,
    /// Whether to redrive the oldest 1000 dead letters.
    #[serde(default)]
    #[schema(required = false)]
    all: bool,
    /// With `all`: the dead letter to start at, from `next` of the previous response.
    #[schema(value_type = Option<EntryIdText>, inline)]
    start: Option<String>,
    /// Whether to append a copy to the stream if the original entry no longer exists. All groups of
    /// the stream receive the copy.
    #[serde(default)]
    #[schema(required = false)]
    copy: bool,
    /// Append copies to this stream instead of redriving the original entries. The stream must have
    /// the same hash tag. Requires the right to publish to it.
    #[schema(value_type = Option<StreamNameText>, inline)]
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
        ("stream" = inline(StreamNameText), Path, description = "The stream"),
        ("group" = inline(GroupNameText), Path, description = "The group"),
    ),
    request_body(content((RedriveCall = "application/json"), (RedriveCall = "application/x-www-form-urlencoded"))),
    responses((status = 200, description = "The result for each dead letter", body = RedriveResults), LeaseProblems),
)]
pub async fn redrive_dead_letters(
    access: GroupAccess<Manage>,
    Query(NoParams {}): Query<NoParams>,
    State(state): State<AppState>,
    JsonOrForm(call): JsonOrForm<RedriveCall>,
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
