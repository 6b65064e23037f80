//! Pending entries of a group: both forms of XPENDING.

use deadpool_redis::redis::{Cmd, Pipeline, Value};

use crate::model::id::EntryId;
use crate::model::name::{ConsumerName, GroupName, RawName, StreamName};
use crate::redis::decode::{id, list, name, optional_id, text, tuple, unsigned};
use crate::redis::group::leases::is_nobody;
use crate::redis::{Lane, Store, StoreError};

/// The filter for listing pending entries.
#[derive(Clone, Debug)]
pub struct PendingQuery {
    /// Consumer to filter by, if any.
    pub consumer: Option<ConsumerName>,
    /// Minimum idle time in milliseconds.
    pub min_idle_ms: u64,
    /// First id, inclusive.
    pub start: EntryId,
    /// Last id, inclusive.
    pub end: EntryId,
    /// Maximum number of entries.
    pub limit: usize,
}

/// A pending entry.
#[derive(Clone, Debug)]
pub struct PendingEntry {
    /// Id of the entry; the entry itself may have been deleted from the stream.
    pub id: EntryId,
    /// Consumer that holds the entry; `None` if it was returned to the group.
    pub consumer: Option<RawName>,
    /// Milliseconds since the last delivery.
    pub idle_ms: u64,
    /// Number of deliveries.
    pub deliveries: u64,
}

/// A summary of all pending entries of a group.
#[derive(Clone, Debug)]
pub struct PendingSummary {
    /// Number of entries.
    pub count: u64,
    /// Lowest id.
    pub min_id: Option<EntryId>,
    /// Greatest id.
    pub max_id: Option<EntryId>,
    /// Consumers with pending entries, and their number.
    pub consumers: Vec<(RawName, u64)>,
}

/// Pending entries of a group: the summary and a list.
#[derive(Clone, Debug)]
pub struct Pending {
    /// Summary of the whole group, independent of the query.
    pub summary: PendingSummary,
    /// Entries that match the query, by id.
    pub entries: Vec<PendingEntry>,
}

impl Store {
    /// Returns the pending entries of a group.
    ///
    /// # Errors
    /// [`StoreError::GroupNotFound`], [`StoreError::NotAStream`], or an outage of Redis.
    /// # Cancel safety
    /// Cancel safe: only reads.
    pub async fn pending(
        &self,
        stream: &StreamName,
        group: &GroupName,
        query: &PendingQuery,
    ) -> Result<Pending, StoreError> {
        let xpending = || {
            let mut command = Cmd::new();
            command
                .arg("XPENDING")
                .arg(stream.redis_key())
                .arg(group.as_bytes());
            command
        };
        let mut entries = xpending();
        if query.min_idle_ms > 0 {
            entries.arg("IDLE").arg(query.min_idle_ms);
        }
        entries
            .arg(query.start.to_string())
            .arg(query.end.to_string())
            .arg(query.limit);
        if let Some(consumer) = &query.consumer {
            entries.arg(consumer.as_bytes());
        }
        let mut pipeline = Pipeline::new();
        pipeline.add_command(xpending()).add_command(entries);
        let mut replies = self
            .read_pipeline(&Lane::Shared, &pipeline)
            .await?
            .into_iter();
        let summary = summary(replies.next().unwrap_or_default())?;
        let entries = list(replies.next().unwrap_or_default())?
            .into_iter()
            .map(entry);
        Ok(Pending {
            summary,
            entries: entries.collect::<Result<_, _>>()?,
        })
    }
}

pub(in crate::redis) fn summary(value: Value) -> Result<PendingSummary, StoreError> {
    let [count, min_id, max_id, consumers] = tuple(value)?;
    let consumer = |value| {
        let [holder, count] = tuple(value)?;
        let count = text(count)?
            .parse()
            .map_err(|_| StoreError::Unexpected("an invalid count in XPENDING".to_owned()))?;
        Ok((name(holder)?, count))
    };
    let consumers = match consumers {
        Value::Nil => Vec::new(),
        present => list(present)?
            .into_iter()
            .map(consumer)
            .collect::<Result<_, StoreError>>()?,
    };
    let mut consumers: Vec<(RawName, u64)> = consumers;
    consumers.retain(|(name, _)| !is_nobody(name));
    Ok(PendingSummary {
        count: unsigned(&count)?,
        min_id: optional_id(min_id)?,
        max_id: optional_id(max_id)?,
        consumers,
    })
}

fn entry(value: Value) -> Result<PendingEntry, StoreError> {
    let [entry_id, consumer, idle, deliveries] = tuple(value)?;
    Ok(PendingEntry {
        id: id(entry_id)?,
        consumer: Some(name(consumer)?).filter(|name| !is_nobody(name) && !name.is_empty()),
        idle_ms: unsigned(&idle)?,
        deliveries: unsigned(&deliveries)?,
    })
}
