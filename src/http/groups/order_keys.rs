//! Keys of a group with `order_by`: which are in flight, which wait for a dead letter.

use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::http::error::problems::KeyProblems;
use crate::http::error::{ApiError, ErrorCode};
use crate::http::extract::access::{Consume, GroupAccess, Manage};
use crate::http::extract::names::NameSchema;
use crate::http::extract::params::bounded;
use crate::http::extract::{NoParams, Query, path_segment};
use crate::http::openapi::text::{GroupNameText, StreamNameText};
use crate::http::paths;
use crate::http::respond::json::Json;
use crate::http::state::AppState;
use crate::model::name::RawName;
use crate::model::policy_options::OrderBy;
use crate::redis::{KeyName, OrderState, OrderedKey};

/// Maximum number of keys per request.
const MAX_KEYS: u64 = 1000;

/// State of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum KeyState {
    /// An entry of the key is handed out, delayed, or due.
    InFlight,
    /// The key waits for a dead letter.
    Blocked,
    /// Entries of the key were read ahead, and none is handed out yet.
    Waiting,
}

/// A key with unfinished entries.
#[derive(Debug, Serialize, ToSchema)]
pub struct KeyOut {
    /// The value of the field; null if the entries of the key were deleted.
    #[schema(required, value_type = Option<NameSchema>)]
    key: Option<RawName>,
    /// Hash of the value, for keys that a path cannot carry.
    hash: String,
    /// State of the key.
    state: KeyState,
    /// Number of entries that are handed out, delayed, or due.
    in_flight: u64,
    /// Number of entries that were read ahead and wait.
    waiting: u64,
    /// The first entry that is handed out, delayed, or due; null if none is.
    #[schema(required)]
    entry: Option<String>,
    /// The first entry whose dead letter blocks the key; null if none does.
    #[schema(required)]
    blocked_by: Option<String>,
}

impl From<OrderedKey> for KeyOut {
    fn from(key: OrderedKey) -> Self {
        let state = match (key.blocking, key.in_flight) {
            (1.., _) => KeyState::Blocked,
            (0, 1..) => KeyState::InFlight,
            (0, 0) => KeyState::Waiting,
        };
        Self {
            key: key.value.map(RawName::from),
            hash: key.hash,
            state,
            in_flight: key.in_flight,
            waiting: key.waiting,
            entry: key.first.map(|id| id.to_string()),
            blocked_by: key.blocked_by.map(|id| id.to_string()),
        }
    }
}

/// Numbers of entries of a group by the state of their keys.
#[derive(Debug, Serialize, ToSchema)]
pub struct KeyCounts {
    /// The number of entries with a key that are handed out, delayed, or due.
    in_flight: u64,
    /// The number of entries whose dead letters block their keys.
    blocked: u64,
    /// The oldest of them; null if there are none.
    #[schema(required)]
    oldest_blocked: Option<String>,
    /// Its age by its id, in milliseconds; null if there is none.
    #[schema(required)]
    oldest_blocked_age_ms: Option<u64>,
    /// The number of entries that were read ahead and wait.
    waiting: u64,
    /// True if nothing new is read, because as many entries wait as may be read ahead.
    read_ahead_full: bool,
}

impl KeyCounts {
    /// Returns the numbers of an order.
    #[must_use]
    pub fn new(counts: OrderState, order: &OrderBy) -> Self {
        Self {
            in_flight: counts.in_flight,
            blocked: counts.blocked,
            oldest_blocked: counts.oldest_blocked.map(|(id, _)| id.to_string()),
            oldest_blocked_age_ms: counts.oldest_blocked.map(|(_, age_ms)| age_ms),
            waiting: counts.waiting,
            read_ahead_full: counts.waiting >= u64::from(order.read_ahead),
        }
    }
}

/// A page of keys.
#[derive(Debug, Serialize, ToSchema)]
pub struct KeysPage {
    /// The keys in the order of their hashes.
    keys: Vec<KeyOut>,
    /// The `cursor` of the next page; null at the end.
    #[schema(required)]
    next: Option<String>,
}

/// Query parameters for a list of keys.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct KeysParams {
    /// Maximum number of keys: 100 by default, at most 1000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u64>,
    /// The `next` of the previous page.
    cursor: Option<String>,
}

/// The key in the path: `HASH` after `hash:`, or the value.
pub struct PathKey(KeyName);

impl FromRequestParts<AppState> for PathKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, ApiError> {
        let text = path_segment(parts, "key").await?;
        Ok(Self(match text.strip_prefix("hash:") {
            Some(hash) if is_hash(hash) => KeyName::Hash(hash.to_owned()),
            _ => KeyName::Value(text.into_bytes()),
        }))
    }
}

fn is_hash(text: &str) -> bool {
    text.len() == 16
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// List the keys of a group
///
/// Returns the keys of a group with `order_by` that have unfinished entries: in flight, or blocked by a
/// dead letter. A key without unfinished entries is not listed.
#[utoipa::path(
    get,
    path = paths::GROUP_KEYS,
    tag = "work",
    params(
        ("stream" = inline(StreamNameText), Path, description = "The stream"),
        ("group" = inline(GroupNameText), Path, description = "The group"),
        KeysParams,
    ),
    responses((status = 200, description = "A page of keys", body = KeysPage), KeyProblems),
)]
pub async fn list_keys(
    access: GroupAccess<Consume>,
    Query(params): Query<KeysParams>,
    State(state): State<AppState>,
) -> Result<Json<KeysPage>, ApiError> {
    let limit = bounded("limit", params.limit, 100, MAX_KEYS)?;
    let from = params.cursor.unwrap_or_default();
    if !from.is_empty() && !is_hash(from.trim_end_matches('~')) {
        let detail = "`cursor` must be the `next` of a previous page";
        return Err(ApiError::invalid(detail).at("cursor", detail));
    }
    let page = state
        .store
        .ordered_keys(access.stream(), &access.group, &from, limit)
        .await
        .map_err(ApiError::of_read)?;
    Ok(Json(KeysPage {
        keys: page.keys.into_iter().map(KeyOut::from).collect(),
        next: page.next,
    }))
}

/// Read a key of a group
///
/// Returns the state of one key of a group with `order_by`.
#[utoipa::path(
    get,
    path = paths::GROUP_KEY,
    tag = "work",
    params(
        ("stream" = inline(StreamNameText), Path, description = "The stream"),
        ("group" = inline(GroupNameText), Path, description = "The group"),
        ("key" = String, Path, description = "The key, or `hash:` and its hash"),
    ),
    responses((status = 200, description = "The key", body = KeyOut), KeyProblems),
)]
pub async fn read_key(
    access: GroupAccess<Consume>,
    PathKey(key): PathKey,
    Query(NoParams {}): Query<NoParams>,
    State(state): State<AppState>,
) -> Result<Json<KeyOut>, ApiError> {
    let found = state
        .store
        .key_in_order(access.stream(), &access.group, &key)
        .await
        .map_err(ApiError::of_read)?;
    found.map(|key| Json(key.into())).ok_or_else(not_found)
}

/// The result of freeing a key.
#[derive(Debug, Serialize, ToSchema)]
pub struct FreedKey {
    /// The number of entries that the key no longer waits for.
    freed: u64,
}

/// Free a key of a group
///
/// Lets a key go on that waits for dead letters. The dead letters stay. An entry that a worker holds
/// stays with the worker, and its key waits for it.
#[utoipa::path(
    delete,
    path = paths::GROUP_KEY,
    tag = "work",
    params(
        ("stream" = inline(StreamNameText), Path, description = "The stream"),
        ("group" = inline(GroupNameText), Path, description = "The group"),
        ("key" = String, Path, description = "The key, or `hash:` and its hash"),
    ),
    responses((status = 200, description = "Freed", body = FreedKey), KeyProblems),
)]
pub async fn free_key(
    access: GroupAccess<Manage>,
    PathKey(key): PathKey,
    Query(NoParams {}): Query<NoParams>,
    State(state): State<AppState>,
) -> Result<Json<FreedKey>, ApiError> {
    let freed = state
        .store
        .free_key(access.stream(), &access.group, &key)
        .await?;
    freed
        .map(|freed| Json(FreedKey { freed }))
        .ok_or_else(not_found)
}

fn not_found() -> ApiError {
    ApiError::new(
        ErrorCode::KeyNotFound,
        "the group has no unfinished entry with this key",
    )
}
