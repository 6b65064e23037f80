//! Consumer groups: endpoints to create, list, read and delete them.

pub(in crate::http) mod ack;
pub(in crate::http) mod ack_publish;
pub(in crate::http) mod claims;
pub(in crate::http) mod consumers;
pub(in crate::http) mod dead_letters;
pub(in crate::http) mod first_use;
pub(in crate::http) mod items;
pub(in crate::http) mod order_keys;
pub(in crate::http) mod patch;
pub(in crate::http) mod pending;
pub(in crate::http) mod policy;
pub(in crate::http) mod push;
pub(in crate::http) mod read;
pub(in crate::http) mod read_multi;
pub(in crate::http) mod redrive;
pub(in crate::http) mod settle;

use axum::extract::State;
use axum::http::header::LOCATION;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::http::error::problems::{CreateGroupProblems, DeleteGroupProblems, GroupProblems};
use crate::http::error::{ApiError, ErrorCode};
use crate::http::extract::access::{Access, Consume, GroupAccess, Manage, RequiredRight};
use crate::http::extract::names::NameSchema;
use crate::http::extract::params::{TimeParam, at_most_one, redis_number};
use crate::http::extract::single_header::only_new;
use crate::http::extract::{JsonOrForm, NoParams, Query, id};
use crate::http::groups::consumers::{Consumer, MAX_CONSUMERS};
use crate::http::groups::order_keys::KeyCounts;
use crate::http::groups::policy::{Patch, PolicyCall, PolicyOut};
use crate::http::openapi::text::{
    AnyTagText, GroupNameText, GroupStartText, StreamNameText, TimeText,
};
use crate::http::paths;
use crate::http::respond::json::Json;
use crate::http::state::AppState;
use crate::model::name::{RawName, StreamName};
use crate::model::policy::Policy;
use crate::model::position::{Position, Start};
use crate::model::time::Time;
use crate::redis::{GroupInfo, GroupStart, StoreError};

/// Options of a new group.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewGroup {
    /// The position after which the group reads: `0` (the default) for all retained entries, `$`
    /// for new entries only, or a position.
    #[schema(value_type = Option<GroupStartText>, inline)]
    start: Option<String>,
    /// Instead of `start`: read entries from this time on. RFC 3339, Unix milliseconds, or a
    /// duration before now. If no entry was appended since then, the group reads new entries only.
    #[schema(value_type = Option<TimeText>, inline)]
    since: Option<TimeParam>,
    /// Whether to create an empty stream if it does not exist; true by default.
    create_stream: Option<bool>,
    /// The number of entries ever added to the stream up to `start`, used to compute the lag. A
    /// position that contains this number provides it.
    #[schema(maximum = 9_223_372_036_854_775_807_u64)]
    entries_read: Option<u64>,
    /// The policy of the group. With a policy, entries are leased and delivered again if the lease
    /// expires. `{}` is a policy with default values; null means no policy. If absent, an existing
    /// group keeps its policy.
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
    /// The last delivered id.
    last_delivered_id: String,
    /// The number of entries read since the stream was created; null if Redis does not know.
    #[schema(required)]
    entries_read: Option<u64>,
    /// The number of entries that the group has not read yet; null if the counters cannot tell. In
    /// lists, the number is always exact or null.
    #[schema(required)]
    lag: Option<u64>,
    /// The number of entries delivered and not acknowledged.
    pending: u64,
    /// The number of consumers.
    consumer_count: u64,
    /// The policy of the group; null if it has none.
    #[schema(required)]
    policy: Option<PolicyOut>,
}

/// A consumer group with its consumers.
#[derive(Debug, Serialize, ToSchema)]
pub struct GroupDetail {
    #[serde(flatten)]
    group: Group,
    /// The first 1000 consumers of the group by name.
    #[schema(max_items = 1000)]
    consumers: Vec<Consumer>,
    /// The keys of a group with `order_by`; absent without an order.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    keys: Option<KeyCounts>,
}

/// The groups of a stream.
#[derive(Debug, Serialize, ToSchema)]
pub struct Groups {
    /// All groups of the stream.
    groups: Vec<Group>,
    /// Always null: there are no further pages.
    #[schema(required)]
    next: Option<String>,
}

fn group<P: RequiredRight>(access: &Access<P>, info: GroupInfo, policy: Option<Policy>) -> Group {
    Group {
        policy: policy.map(|policy| PolicyOut::new(policy, &access.principal().namespace)),
        stream: access.stream().public_name().into_owned(),
        group: info.name,
        last_delivered_id: info.last_delivered.to_string(),
        entries_read: info.entries_read,
        lag: info.lag,
        pending: info.pending,
        consumer_count: info.consumers,
    }
}

/// Returns the current state of the group.
pub(super) async fn detail<P: RequiredRight>(
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
    let keys = match policy.as_ref().and_then(|policy| policy.order.as_ref()) {
        Some(order) => state
            .store
            .order_state(stream, name)
            .await
            .map_err(ApiError::of_read)?
            .map(|counts| KeyCounts::new(counts, order)),
        None => None,
    };
    Ok(GroupDetail {
        group: group(access, info, policy),
        consumers,
        keys,
    })
}

/// A requested position of a group.
pub(super) enum GroupPosition {
    After(Start),
    Since(Time),
}

/// Parses the requested position of a group.
pub(super) fn parse_position(
    (pointer, after): (&str, Option<&str>),
    since: Option<TimeParam>,
) -> Result<Option<GroupPosition>, ApiError> {
    at_most_one(&[(pointer, after.is_some()), ("/since", since.is_some())])?;
    let Some(text) = after else {
        return Ok(since.map(|TimeParam(time)| GroupPosition::Since(time)));
    };
    match id(pointer, text, str::parse)? {
        Start::LastEntry => {
            let detail = "the start of a group must be `0`, `$` or a position";
            Err(ApiError::new(ErrorCode::InvalidId, detail).at(pointer, "must not be `+`"))
        }
        start => Ok(Some(GroupPosition::After(start))),
    }
}

impl GroupPosition {
    /// Finds the position in the stream.
    pub(super) async fn find(
        self,
        state: &AppState,
        stream: &StreamName,
    ) -> Result<Start, ApiError> {
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
/// Answers 201 if the group was created and 200 if it already existed. An existing group keeps its
/// position. With `If-None-Match: *`, an existing group results in 412.
#[utoipa::path(
    put,
    path = paths::GROUP,
    tag = "groups",
    params(
        ("stream" = inline(StreamNameText), Path, description = "The stream"),
        ("group" = inline(GroupNameText), Path, description = "The group"),
        ("If-None-Match" = inline(Option<AnyTagText>), Header, description = "`*`: fail if the group exists"),
    ),
    request_body(content((Option<NewGroup> = "application/json"), (NewGroup = "application/x-www-form-urlencoded"))),
    responses(
        (status = 200, description = "The group already exists", body = GroupDetail),
        (status = 201, description = "Created", body = GroupDetail, headers(("Location" = String, description = "The path of the group"))),
        CreateGroupProblems,
    ),
)]
pub async fn create_group(
    access: GroupAccess<Manage>,
    Query(NoParams {}): Query<NoParams>,
    State(state): State<AppState>,
    headers: HeaderMap,
    JsonOrForm(new): JsonOrForm<NewGroup>,
) -> Result<(StatusCode, [(HeaderName, String); 1], Json<GroupDetail>), ApiError> {
    access.access.creatable()?;
    let place = parse_position(("/start", new.start.as_deref()), new.since)?;
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
            "the group already exists",
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

/// List the groups of a stream
///
/// Returns all consumer groups of the stream, each with its position, its lag and its number of
/// pending entries.
#[utoipa::path(
    get,
    path = paths::GROUPS,
    tag = "groups",
    params(("stream" = inline(StreamNameText), Path, description = "The stream")),
    responses((status = 200, description = "The groups of the stream", body = Groups), GroupProblems),
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
        ("stream" = inline(StreamNameText), Path, description = "The stream"),
        ("group" = inline(GroupNameText), Path, description = "The group"),
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
        ("stream" = inline(StreamNameText), Path, description = "The stream"),
        ("group" = inline(GroupNameText), Path, description = "The group"),
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
