//! What `GET /v1/streams/{stream}?full=true` adds: all that XINFO STREAM FULL shows.

use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;

use crate::http::extract::names::NameSchema;
use crate::http::respond::schema::EntryOut;
use crate::model::entry::View;
use crate::model::name::RawName;
use crate::redis::{FullConsumer, FullGroup, FullPending, FullStream};

/// What lies in a stream and beside it.
#[derive(Serialize, ToSchema)]
pub struct StreamContent {
    /// The oldest entries, at most `count`.
    entries: Vec<EntryOut>,
    /// All groups.
    groups: Vec<GroupContent>,
}

/// A consumer group, with what is pending in it.
#[derive(Debug, Serialize, ToSchema)]
pub struct GroupContent {
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
    /// The first of them by id, at most `count`.
    pending_entries: Vec<GroupPending>,
    /// All consumers.
    consumers: Vec<ConsumerContent>,
}

/// An entry that is pending in a group.
#[derive(Debug, Serialize, ToSchema)]
pub struct GroupPending {
    /// Its id; the entry itself may be gone from the stream.
    id: String,
    /// Who holds it; null when nobody does.
    #[schema(required, value_type = Option<NameSchema>)]
    consumer: Option<RawName>,
    /// When it was last delivered, in Unix milliseconds.
    delivery_time: u64,
    /// How often it was delivered.
    deliveries: u64,
}

/// A consumer, with what it holds.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConsumerContent {
    /// Its name.
    #[schema(value_type = NameSchema)]
    consumer: RawName,
    /// When it last tried to read, in Unix milliseconds.
    seen_time: u64,
    /// When it last got an entry, in Unix milliseconds; null if it never did, or where Redis cannot
    /// tell.
    #[schema(required)]
    active_time: Option<u64>,
    /// How many entries it was given and has not acknowledged.
    pending: u64,
    /// The first of them by id, at most `count`.
    pending_entries: Vec<ConsumerPending>,
}

/// An entry that a consumer holds.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConsumerPending {
    /// Its id; the entry itself may be gone from the stream.
    id: String,
    /// When it was last delivered, in Unix milliseconds.
    delivery_time: u64,
    /// How often it was delivered.
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
