//! The `full` member of `GET /v1/streams/{stream}?full=true`: the data of `XINFO STREAM FULL`.

use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;

use crate::http::extract::names::NameSchema;
use crate::http::respond::schema::EntryOut;
use crate::model::entry::View;
use crate::model::name::RawName;
use crate::redis::{FullConsumer, FullGroup, FullPending, FullStream};

/// Entries and groups of a stream.
#[derive(Serialize, ToSchema)]
pub struct StreamContent {
    /// The oldest entries, at most `count`.
    entries: Vec<EntryOut>,
    /// All consumer groups of the stream.
    groups: Vec<GroupContent>,
}

/// A consumer group with its pending entries.
#[derive(Debug, Serialize, ToSchema)]
pub struct GroupContent {
    /// Name of the group.
    #[schema(value_type = NameSchema)]
    group: RawName,
    /// Last id that was delivered.
    last_delivered_id: String,
    /// Number of entries read since the beginning of the stream; null if Redis does not report it.
    #[schema(required)]
    entries_read: Option<u64>,
    /// Number of entries not read yet; null if the counters do not determine it. In lists, the
    /// value is always exact or null.
    #[schema(required)]
    lag: Option<u64>,
    /// Number of entries that were delivered and are not acknowledged.
    pending: u64,
    /// Pending entries with the lowest ids, at most `count`.
    pending_entries: Vec<GroupPending>,
    /// All consumers of the group.
    consumers: Vec<ConsumerContent>,
}

/// A pending entry of a group.
#[derive(Debug, Serialize, ToSchema)]
pub struct GroupPending {
    /// Id of the entry. The stream may no longer have the entry.
    id: String,
    /// Consumer that holds the entry; null if none does.
    #[schema(required, value_type = Option<NameSchema>)]
    consumer: Option<RawName>,
    /// Time of the last delivery, in Unix milliseconds.
    delivery_time: u64,
    /// Number of deliveries.
    deliveries: u64,
}

/// A consumer with its pending entries.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConsumerContent {
    /// Name of the consumer.
    #[schema(value_type = NameSchema)]
    consumer: RawName,
    /// Time of the last attempt to read, in Unix milliseconds.
    seen_time: u64,
    /// Time at which the consumer last received an entry, in Unix milliseconds; null if it never
    /// did or if Redis does not report it.
    #[schema(required)]
    active_time: Option<u64>,
    /// Number of entries that were delivered to the consumer and are not acknowledged.
    pending: u64,
    /// Pending entries with the lowest ids, at most `count`.
    pending_entries: Vec<ConsumerPending>,
}

/// A pending entry of a consumer.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConsumerPending {
    /// Id of the entry. The stream may no longer have the entry.
    id: String,
    /// Time of the last delivery, in Unix milliseconds.
    delivery_time: u64,
    /// Number of deliveries.
    deliveries: u64,
}

impl From<FullStream> for StreamContent {
    fn from(full: FullStream) -> Self {
        let view = Arc::new(View::default());
        let entry = |entry| EntryOut {
            entry,
            view: view.clone(),
        };
        Self {
            entries: full.entries.into_iter().map(entry).collect(),
            groups: full.groups.into_iter().map(GroupContent::from).collect(),
        }
    }
}

impl From<FullGroup> for GroupContent {
    fn from(group: FullGroup) -> Self {
        let pending = |entry: FullPending| GroupPending {
            id: entry.id.to_string(),
            consumer: entry.consumer,
            delivery_time: entry.delivered_ms,
            deliveries: entry.deliveries,
        };
        Self {
            group: group.name,
            last_delivered_id: group.last_delivered.to_string(),
            entries_read: group.entries_read,
            lag: group.lag,
            pending: group.pending,
            pending_entries: group.pending_entries.into_iter().map(pending).collect(),
            consumers: group
                .consumers
                .into_iter()
                .map(ConsumerContent::from)
                .collect(),
        }
    }
}

impl From<FullConsumer> for ConsumerContent {
    fn from(consumer: FullConsumer) -> Self {
        let pending = |entry: FullPending| ConsumerPending {
            id: entry.id.to_string(),
            delivery_time: entry.delivered_ms,
            deliveries: entry.deliveries,
        };
        Self {
            consumer: consumer.name,
            seen_time: consumer.seen_ms,
            active_time: consumer.active_ms,
            pending: consumer.pending,
            pending_entries: consumer.pending_entries.into_iter().map(pending).collect(),
        }
    }
}
