//! What a group has handed out and not had acknowledged.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::http::error::ApiError;
use crate::http::error::problems::PendingProblems;
use crate::http::extract::access::{Consume, GroupAccess, consumer};
use crate::http::extract::names::{NameParam, NameSchema};
use crate::http::extract::params::{Wait, bounded, exclusive, redis_number};
use crate::http::extract::{Query, id};
use crate::http::groups::read::MAX_COUNT;
use crate::http::paths;
use crate::http::respond::json::Json;
use crate::http::state::AppState;
use crate::model::id::EntryId;
use crate::model::name::RawName;
use crate::model::range;
use crate::redis::PendingQuery;

const DEFAULT_PENDING: u64 = 100;

/// Which pending entries to list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PendingParams {
    /// Of this consumer only.
    #[param(value_type = Option<String>)]
    consumer: Option<NameParam>,
    /// Not delivered for at least this long.
    #[param(value_type = Option<String>, example = "30s")]
    min_idle: Option<Wait>,
    /// From this id on; `(id` leaves the id itself out.
    start: Option<String>,
    /// Up to this id; `(id` leaves the id itself out.
    end: Option<String>,
    /// At most so many: 100, at most 1000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u64>,
    /// The `next` of the page before.
    cursor: Option<String>,
}

/// What is pending in a group.
#[derive(Debug, Serialize, ToSchema)]
pub struct PendingPage {
    /// Of the whole group.
    summary: Summary,
    /// The entries asked for, by id.
    entries: Vec<PendingEntryOut>,
    /// The `cursor` of the next page; null at the end.
    #[schema(required)]
    next: Option<String>,
}

/// All that is pending, in short.
#[derive(Debug, Serialize, ToSchema)]
pub struct Summary {
    /// How many entries.
    count: u64,
    /// The lowest id.
    #[schema(required)]
    min_id: Option<String>,
    /// The greatest id.
    #[schema(required)]
    max_id: Option<String>,
    /// Consumers that hold any.
    consumers: Vec<ConsumerCount>,
}

/// How many entries a consumer holds.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConsumerCount {
    /// The consumer.
    #[schema(value_type = NameSchema)]
    name: RawName,
    /// How many.
    count: u64,
}

/// An entry that is pending.
#[derive(Debug, Serialize, ToSchema)]
pub struct PendingEntryOut {
    /// Its id; the entry itself may be gone from the stream.
    id: String,
    /// Who holds it; null when nobody does.
    #[schema(required, value_type = Option<NameSchema>)]
    consumer: Option<RawName>,
    /// Milliseconds since it was last delivered.
    idle_ms: u64,
    /// How often it was delivered.
    deliveries: u64,
}

/// List pending entries
///
/// Returns the entries that were delivered and not acknowledged: a summary of the group, and one
/// record per entry.
#[utoipa::path(
    get,
    path = paths::GROUP_PENDING,
    tag = "work",
    params(
        ("stream" = String, Path, description = "The stream"),
        ("group" = String, Path, description = "The group"),
        PendingParams,
    ),
    responses((status = 200, description = "What is pending", body = PendingPage), PendingProblems),
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
    // A bound that nothing lies within: an empty list, with the summary all the same.
    let (start, end) = start.zip(end).unwrap_or((EntryId::MAX, EntryId::MIN));
    let query = PendingQuery {
        consumer: params
            .consumer
            .as_ref()
            .map(|name| consumer(name.as_str()))
            .transpose()?,
        min_idle_ms: match params.min_idle {
            Some(Wait(idle)) => redis_number(
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
