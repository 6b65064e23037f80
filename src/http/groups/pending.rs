//! `GET …/groups/{group}/pending`: entries that were delivered and are not acknowledged yet.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::http::error::ApiError;
use crate::http::error::problems::PendingProblems;
use crate::http::extract::access::{Consume, GroupAccess, consumer};
use crate::http::extract::names::{NameParam, NameSchema};
use crate::http::extract::params::{DurationParam, bounded, exclusive, redis_number};
use crate::http::extract::{Query, id};
use crate::http::groups::read::MAX_COUNT;
use crate::http::openapi::text::{
    BoundText, ConsumerNameText, DurationText, GroupNameText, StreamNameText,
};
use crate::http::paths;
use crate::http::respond::json::Json;
use crate::http::state::AppState;
use crate::model::id::EntryId;
use crate::model::name::RawName;
use crate::model::range;
use crate::redis::PendingQuery;

const DEFAULT_PENDING: u64 = 100;

/// Filters and paging of pending entries.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PendingParams {
    /// Returns only entries of this consumer.
    #[param(value_type = Option<ConsumerNameText>, inline)]
    consumer: Option<NameParam>,
    /// Minimum time since the last delivery.
    #[param(value_type = Option<DurationText>, example = "30s", inline)]
    min_idle: Option<DurationParam>,
    /// First id to list; `(id` excludes the id.
    #[param(value_type = Option<BoundText>, inline)]
    start: Option<String>,
    /// Last id to list; `(id` excludes the id.
    #[param(value_type = Option<BoundText>, inline)]
    end: Option<String>,
    /// Maximum number of entries to list: 1 to 1000, default 100.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u64>,
    /// The `next` of the previous page.
    cursor: Option<String>,
}

/// A page of the pending entries of a group.
#[derive(Debug, Serialize, ToSchema)]
pub struct PendingPage {
    /// Summary of the whole group.
    summary: Summary,
    /// Pending entries, by ascending id.
    entries: Vec<PendingEntryOut>,
    /// The `cursor` of the next page; null on the last page.
    #[schema(required)]
    next: Option<String>,
}

/// Summary of all pending entries of a group.
#[derive(Debug, Serialize, ToSchema)]
pub struct Summary {
    /// Number of pending entries.
    count: u64,
    /// Lowest pending id; null if nothing is pending.
    #[schema(required)]
    min_id: Option<String>,
    /// Highest pending id; null if nothing is pending.
    #[schema(required)]
    max_id: Option<String>,
    /// Consumers with pending entries.
    consumers: Vec<ConsumerCount>,
}

/// Number of entries a consumer holds.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConsumerCount {
    /// Name of the consumer.
    #[schema(value_type = NameSchema)]
    name: RawName,
    /// Number of pending entries.
    count: u64,
}

/// A pending entry.
#[derive(Debug, Serialize, ToSchema)]
pub struct PendingEntryOut {
    /// Id of the entry. The stream may no longer have the entry.
    id: String,
    /// Consumer that holds the entry; null if none does.
    #[schema(required, value_type = Option<NameSchema>)]
    consumer: Option<RawName>,
    /// Milliseconds since the last delivery.
    idle_ms: u64,
    /// Number of deliveries.
    deliveries: u64,
}

/// List pending entries
///
/// Returns the entries that were delivered and are not acknowledged: a summary of the group, and
/// one record per entry.
#[utoipa::path(
    get,
    path = paths::GROUP_PENDING,
    tag = "work",
    params(
        ("stream" = inline(StreamNameText), Path, description = "The stream"),
        ("group" = inline(GroupNameText), Path, description = "The group"),
        PendingParams,
    ),
    responses((status = 200, description = "Pending entries", body = PendingPage), PendingProblems),
)]
pub async fn list_pending(
    access: GroupAccess<Consume>,
    Query(params): Query<PendingParams>,
    State(state): State<AppState>,
) -> Result<Json<PendingPage>, ApiError> {
    let limit = bounded("limit", params.limit, DEFAULT_PENDING, MAX_COUNT)?;
    if params.cursor.is_some() && params.start.is_some() {
        return Err(exclusive("cursor", "start"));
    }
    let start = match (&params.cursor, &params.start) {
        (Some(cursor), _) => Some(id("cursor", cursor, str::parse)?),
        (None, Some(start)) => id("start", start, range::lower)?,
        (None, None) => Some(EntryId::MIN),
    };
    let end = match &params.end {
        Some(end) => id("end", end, range::upper)?,
        None => Some(EntryId::MAX),
    };
    // Bounds that contain no id yield an empty list, but still the summary.
    let (start, end) = start.zip(end).unwrap_or((EntryId::MAX, EntryId::MIN));
    let query = PendingQuery {
        consumer: params
            .consumer
            .as_ref()
            .map(|name| consumer("consumer", name.as_str()))
            .transpose()?,
        min_idle_ms: match params.min_idle {
            Some(DurationParam(idle)) => redis_number(
                "min_idle",
                u64::try_from(idle.as_millis()).unwrap_or(u64::MAX),
            )?,
            None => 0,
        },
        start,
        end,
        limit,
    };
    let pending = state
        .store
        .pending(access.stream(), &access.group, &query)
        .await;
    let pending = pending.map_err(ApiError::of_read)?;
    let last = pending
        .entries
        .last()
        .filter(|_| pending.entries.len() == limit);
    let next = last
        .and_then(|last| last.id.next())
        .map(|id| id.to_string());
    let entry = |entry: crate::redis::PendingEntry| PendingEntryOut {
        id: entry.id.to_string(),
        consumer: entry.consumer,
        idle_ms: entry.idle_ms,
        deliveries: entry.deliveries,
    };
    let of = pending.summary;
    let count = |(name, count)| ConsumerCount { name, count };
    Ok(Json(PendingPage {
        summary: Summary {
            count: of.count,
            min_id: of.min_id.map(|id| id.to_string()),
            max_id: of.max_id.map(|id| id.to_string()),
            consumers: of.consumers.into_iter().map(count).collect(),
        },
        entries: pending.entries.into_iter().map(entry).collect(),
        next,
    }))
}
