//! Consumer groups: making, looking at, deleting.

pub(in crate::http) mod ack;
pub(in crate::http) mod claims;
pub(in crate::http) mod consumers;
pub(in crate::http) mod dead_letters;
pub(in crate::http) mod items;
pub(in crate::http) mod pending;
pub(in crate::http) mod policy;
pub(in crate::http) mod push;
pub(in crate::http) mod read;
pub(in crate::http) mod read_multi;
pub(in crate::http) mod settle;

use axum::extract::State;
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::http::error::problems::{
    CreateGroupProblems, DeleteGroupProblems, GroupProblems, PatchGroupProblems,
};
use crate::http::error::{ApiError, ErrorCode};
use crate::http::extract::access::{Access, Consume, GroupAccess, Manage, Right};
use crate::http::extract::names::NameSchema;
use crate::http::extract::params::{TimeParam, at_most_one, redis_number};
use crate::http::extract::single_header::only_new;
use crate::http::extract::{ACCEPT_PATCH, Call, NoParams, Query, id};
use crate::http::groups::consumers::{Consumer, MAX_CONSUMERS};
use crate::http::groups::policy::{Patch, PolicyCall, PolicyOut};
use crate::http::paths;
use crate::http::respond::json::Json;
use crate::http::state::AppState;
use crate::model::name::{RawName, StreamName};
use crate::model::policy::Policy;
use crate::model::position::{Position, Start};
use crate::model::time::Time;
use crate::redis::{GroupChange, GroupInfo, GroupStart, StoreError};

/// How to make a group.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewGroup {
    /// The group reads what comes after: `0` (unless given) everything retained, `$` only what is
    /// appended from now on, or a position.
    #[schema(example = "0")]
    start: Option<String>,
    /// In place of `start`: the group reads the entries of this time and later. RFC 3339, Unix
    /// milliseconds, or how long ago; where nothing was appended since, what comes from now on.
    #[schema(value_type = Option<String>)]
    since: Option<TimeParam>,
    /// Make an empty stream if there is none; true unless given.
    create_stream: Option<bool>,
    /// How many entries the stream had been given up to `start`, for the lag; taken from a
    /// position that carries it.
    entries_read: Option<u64>,
    /// With a policy entries are lent: handed out again when nothing is heard of them. `{}` is one as
    /// good as any; null is none. What the group has stays unless this is given.
    #[serde(default)]
    #[schema(value_type = Option<PolicyCall>)]
    policy: Patch<PolicyCall>,
}

/// A consumer group.
#[derive(Debug, Serialize, ToSchema)]
pub struct Group {
    /// The stream.
    stream: String,
    /// The group.
    #[schema(value_type = NameSchema)]
    group: RawName,
    /// The last id that was handed out.
    last_delivered_id: String,
    /// How many entries were read since the beginning of the stream; null where Redis cannot tell.
    #[schema(required)]
    entries_read: Option<u64>,
    /// How many entries are still to be read; null where the counters do not tell, and always exact or
    /// null in lists.
    #[schema(required)]
    lag: Option<u64>,
    /// How many entries were handed out and not acknowledged.
    pending: u64,
    /// How many consumers there are.
    consumer_count: u64,
    /// Its policy; null for a plain group.
    #[schema(required)]
    policy: Option<PolicyOut>,
}

/// A consumer group with its consumers.
#[derive(Debug, Serialize, ToSchema)]
pub struct GroupDetail {
    #[serde(flatten)]
    group: Group,
    /// Its consumers: the first 1000 by name.
    #[schema(max_items = 1000)]
    consumers: Vec<Consumer>,
}

/// The groups of a stream.
#[derive(Debug, Serialize, ToSchema)]
pub struct Groups {
    /// All of them.
    groups: Vec<Group>,
    /// Always null: there are no more pages.
    #[schema(required)]
    next: Option<String>,
}

fn group<P: Right>(access: &Access<P>, info: GroupInfo, policy: Option<Policy>) -> Group {
    Group {
        policy: policy.map(|policy| PolicyOut::new(policy, &access.principal().namespace)),
        stream: access.stream().shown().into_owned(),
        group: info.name,
        last_delivered_id: info.last_delivered.to_string(),
        entries_read: info.entries_read,
        lag: info.lag,
        pending: info.pending,
        consumer_count: info.consumers,
    }
}

/// The group as it is now.
async fn detail<P: Right>(
    state: &AppState,
    GroupAccess {
        access,
        group: name,
    }: &GroupAccess<P>,
) -> Result<GroupDetail, ApiError> {
    let stream = access.stream();
    let (info, consumers) = state
        .store
        .group(stream, name)
        .await
        .map_err(ApiError::of_read)?;
    let policy = state
        .store
        .policy(stream, name)
        .await
        .map_err(ApiError::of_read)?;
    let consumers = consumers
        .iter()
        .take(MAX_CONSUMERS)
        .map(Consumer::from)
        .collect();
    Ok(GroupDetail {
        group: group(access, info, policy),
        consumers,
    })
}

/// Where a group is to stand.
enum Place {
    After(Start),
    Since(Time),
}

fn place(
    (pointer, after): (&str, Option<&str>),
    since: Option<TimeParam>,
) -> Result<Option<Place>, ApiError> {
    at_most_one(&[(pointer, after.is_some()), ("/since", since.is_some())])?;
    let Some(text) = after else {
        return Ok(since.map(|TimeParam(time)| Place::Since(time)));
    };
    match id(pointer, text, str::parse)? {
        Start::LastEntry => {
            let detail = "a group stands at `0`, `$` or a position";
            Err(ApiError::new(ErrorCode::InvalidId, detail).at(pointer, "is `+`"))
        }
        start => Ok(Some(Place::After(start))),
    }
}

impl Place {
    async fn find(self, state: &AppState, stream: &StreamName) -> Result<Start, ApiError> {
        match self {
            Self::After(start) => Ok(start),
            Self::Since(time) => {
                let found = state.store.before_time(stream, time).await;
                found
                    .map(|(position, _)| Start::After(position))
                    .map_err(ApiError::of_read)
            }
        }
    }
}

/// Create a group
///
/// Answers 201 when the group was created and 200 when it existed. An existing group keeps its
/// position. With `If-None-Match: *` an existing group is 412.
#[utoipa::path(
    put,
    path = paths::GROUP,
    tag = "groups",
    params(
        ("stream" = String, Path, description = "The stream"),
        ("group" = String, Path, description = "The group"),
        ("If-None-Match" = Option<String>, Header, description = "`*`: fail if the group is there"),
    ),
    request_body(content((Option<NewGroup> = "application/json"), (NewGroup = "application/x-www-form-urlencoded"))),
    responses(
        (status = 200, description = "It was there", body = GroupDetail),
        (status = 201, description = "Made", body = GroupDetail, headers(("Location" = String, description = "The group"))),
        CreateGroupProblems,
    ),
)]
pub async fn create_group(
    access: GroupAccess<Manage>,
    Query(NoParams {}): Query<NoParams>,
    State(state): State<AppState>,
    headers: HeaderMap,
    Call(new): Call<NewGroup>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<GroupDetail>), ApiError> {
    let place = place(("/start", new.start.as_deref()), new.since)?;
    let only_new = only_new(&headers)?;
    let read = new
        .entries_read
        .map(|read| redis_number("/entries_read", read))
        .transpose()?;
    let (stream, name) = (access.stream(), &access.group);
    let create_stream = new.create_stream.unwrap_or(true);
    let start = match place {
        Some(place) => place.find(&state, stream).await?,
        None => Start::After(Position::OLDEST),
    };
    let policy = match &new.policy {
        Patch::To(policy) => Some(Some(policy.merge(&access.access, None)?)),
        Patch::Null => Some(None),
        Patch::Absent => None,
    };
    let new = GroupStart {
        start,
        entries_read: read,
        create_stream,
        only_new,
        policy,
    };
    let made = state.store.create_group(stream, name, &new).await?;
    if !made && only_new {
        return Err(ApiError::new(
            ErrorCode::PreconditionFailed,
            "the group is there already",
        ));
    }
    let status = if made {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    let location = [(LOCATION, paths::group(stream, &name.to_string()))];
    Ok((status, location, Json(detail(&state, &access).await?)))
}

/// How to move a group, or change its policy.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupPatch {
    /// What the group reads next comes after this: `0`, `$`, or a position.
    #[schema(example = "0")]
    last_delivered_id: Option<String>,
    /// In place of `last_delivered_id`: what the group reads next are the entries of this time and
    /// later. RFC 3339, Unix milliseconds, or how long ago.
    #[schema(value_type = Option<String>)]
    since: Option<TimeParam>,
    /// How many entries the stream had been given up to there, for the lag; taken from a position
    /// that carries it.
    entries_read: Option<u64>,
    /// What of the policy is to be another; a plain group gets one. Null takes the policy away, and
    /// the leases with it: what is pending stays pending.
    #[serde(default)]
    #[schema(value_type = Option<PolicyCall>)]
    policy: Patch<PolicyCall>,
}

/// How often a change of a policy is tried while others change it, too.
const TRIES: usize = 5;

/// Move a group or change its policy
///
/// Moves the group back to read entries again, or forward to skip entries. Pending entries stay
/// pending. A policy is merged into the existing one and holds for every gateway from the answer
/// on; current leases keep their end.
#[utoipa::path(
    patch,
    path = paths::GROUP,
    tag = "groups",
    params(
        ("stream" = String, Path, description = "The stream"),
        ("group" = String, Path, description = "The group"),
    ),
    request_body(content(
        (GroupPatch = "application/json"),
        (GroupPatch = "application/merge-patch+json"),
        (GroupPatch = "application/x-www-form-urlencoded"),
    )),
    responses(
        (status = 200, description = "Changed", body = GroupDetail, headers(
            ("Accept-Patch" = String, description = "Media types that PATCH takes"),
        )),
        PatchGroupProblems,
    ),
)]
pub async fn move_group(
    access: GroupAccess<Manage>,
    Query(NoParams {}): Query<NoParams>,
    State(state): State<AppState>,
    Call(patch): Call<GroupPatch>,
) -> Result<([(&'static str, &'static str); 1], Json<GroupDetail>), ApiError> {
    let place = place(
        ("/last_delivered_id", patch.last_delivered_id.as_deref()),
        patch.since,
    )?;
    if place.is_none() && matches!(patch.policy, Patch::Absent) {
        return Err(ApiError::invalid(
            "say where to, as `last_delivered_id` or `since`, or change the `policy`",
        )
        .at("/last_delivered_id", "is missing"));
    }
    let entries_read = patch
        .entries_read
        .map(|read| redis_number("/entries_read", read));
    let (stream, name) = (access.stream(), &access.group);
    let to = match place {
        Some(place) => Some(place.find(&state, stream).await?),
        None => None,
    };
    let mut change = GroupChange {
        to,
        entries_read: entries_read.transpose()?,
        policy: None,
    };
    let mut tries = 0..TRIES;
    loop {
        let seen = match patch.policy {
            Patch::Absent => None,
            _ => state
                .store
                .policy(stream, name)
                .await
                .map_err(ApiError::of_read)?,
        };
        change.policy = match &patch.policy {
            Patch::Absent => None,
            Patch::Null => Some((seen, None)),
            Patch::To(policy) => {
                let merged = policy.merge(&access.access, seen.as_ref())?;
                Some((seen, Some(merged)))
            }
        };
        match state.store.change_group(stream, name, &change).await {
            Err(StoreError::Changed) if tries.next().is_some() => {}
            changed => break changed?,
        }
    }
    Ok(([ACCEPT_PATCH], Json(detail(&state, &access).await?)))
}

/// List the groups of a stream
///
/// Returns every consumer group of the stream with its position, its lag and its number of pending
/// entries.
#[utoipa::path(
    get,
    path = paths::GROUPS,
    tag = "groups",
    params(("stream" = String, Path, description = "The stream")),
    responses((status = 200, description = "Its groups", body = Groups), GroupProblems),
)]
pub async fn list_groups(
    access: Access<Consume>,
    Query(NoParams {}): Query<NoParams>,
    State(state): State<AppState>,
) -> Result<Json<Groups>, ApiError> {
    let stream = access.stream();
    let infos = state
        .store
        .groups(stream)
        .await
        .map_err(ApiError::of_read)?;
    let names: Vec<&[u8]> = infos.iter().map(|info| info.name.as_bytes()).collect();
    let policies = state
        .store
        .policies(stream, &names)
        .await
        .map_err(ApiError::of_read)?;
    let groups = infos.into_iter().zip(policies);
    let groups = groups.map(|(mut info, (policy, own))| {
        info.consumers = info.consumers.saturating_sub(own);
        group(&access, info, policy)
    });
    let groups = groups.collect();
    Ok(Json(Groups { groups, next: None }))
}

/// Read a group
///
/// Returns the position, the lag, the number of pending entries and the policy of one consumer
/// group.
#[utoipa::path(
    get,
    path = paths::GROUP,
    tag = "groups",
    params(
        ("stream" = String, Path, description = "The stream"),
        ("group" = String, Path, description = "The group"),
    ),
    responses((status = 200, description = "The group and its consumers", body = GroupDetail), GroupProblems),
)]
pub async fn read_group(
    access: GroupAccess<Consume>,
    Query(NoParams {}): Query<NoParams>,
    State(state): State<AppState>,
) -> Result<Json<GroupDetail>, ApiError> {
    Ok(Json(detail(&state, &access).await?))
}

/// Delete a group
///
/// Deletes the group with its consumers and its pending entries.
#[utoipa::path(
    delete,
    path = paths::GROUP,
    tag = "groups",
    params(
        ("stream" = String, Path, description = "The stream"),
        ("group" = String, Path, description = "The group"),
    ),
    responses((status = 204, description = "Deleted"), DeleteGroupProblems),
)]
pub async fn delete_group(
    access: GroupAccess<Manage>,
    Query(NoParams {}): Query<NoParams>,
    State(state): State<AppState>,
) -> Result<StatusCode, ApiError> {
    if state
        .store
        .delete_group(access.stream(), &access.group)
        .await?
    {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(StoreError::GroupNotFound.into())
}
