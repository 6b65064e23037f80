//! XINFO STREAM FULL: a stream with its first entries, groups and pending entries in one reply.

use deadpool_redis::redis::{Cmd, Pipeline, Value};

use crate::model::entry::Entry;
use crate::model::id::EntryId;
use crate::model::lag::{GroupCursor, Lag};
use crate::model::name::{RawName, StreamName};
use crate::redis::decode::{Properties, entries, id, list, name, optional, since, tuple, unsigned};
use crate::redis::group::lag::ends;
use crate::redis::group::leases::is_nobody;
use crate::redis::stream::info::{StreamInfo, stream_info};
use crate::redis::{Lane, Store, StoreError};

/// The first entries and the groups of a stream.
#[derive(Clone, Debug)]
pub struct FullStream {
    /// The oldest entries.
    pub entries: Vec<Entry>,
    /// All groups.
    pub groups: Vec<FullGroup>,
}

/// A group with its pending entries.
#[derive(Clone, Debug)]
pub struct FullGroup {
    /// Name of the group.
    pub name: RawName,
    /// Last delivered id.
    pub last_delivered: EntryId,
    /// Number of entries read since the start of the stream.
    pub entries_read: Option<u64>,
    /// Number of entries not yet read.
    pub lag: Option<u64>,
    /// Number of pending entries.
    pub pending: u64,
    /// First pending entries, by id.
    pub pending_entries: Vec<FullPending>,
    /// All consumers.
    pub consumers: Vec<FullConsumer>,
}

/// A consumer with its pending entries.
#[derive(Clone, Debug)]
pub struct FullConsumer {
    /// Name of the consumer.
    pub name: RawName,
    /// Time of the last attempt to read, in Unix milliseconds.
    pub seen_ms: u64,
    /// Time of the last successful read, in Unix milliseconds; `None` if there was none, or before
    /// Redis 7.2.
    pub active_ms: Option<u64>,
    /// Number of pending entries.
    pub pending: u64,
    /// First pending entries, by id.
    pub pending_entries: Vec<FullPending>,
}

/// A pending entry.
#[derive(Clone, Debug)]
pub struct FullPending {
    /// Id of the entry; the entry itself may have been deleted from the stream.
    pub id: EntryId,
    /// Consumer that holds the entry; `None` if the entry was returned to the group, and in the
    /// list of a single consumer.
    pub consumer: Option<RawName>,
    /// Time of the last delivery, in Unix milliseconds.
    pub delivered_ms: u64,
    /// Number of deliveries.
    pub deliveries: u64,
}

impl Store {
    /// Returns a stream with its entries, groups and pending entries, at most `count` of each list
    /// and fewer if the entries are large. `count` must not be 0. Returns `None` if the stream does
    /// not exist.
    ///
    /// # Errors
    /// [`StoreError::NotAStream`], or an outage of Redis.
    /// # Cancel safety
    /// Cancel safe: only reads.
    pub async fn full_stream(
        &self,
        stream: &StreamName,
        count: usize,
    ) -> Result<Option<(StreamInfo, FullStream)>, StoreError> {
        // Allows for the first and the last entry, which the replies repeat.
        let (count, _permit) = self.portion(stream, count + 4).await?;
        let count = count.saturating_sub(4).max(1);
        let xinfo = || {
            let mut command = Cmd::new();
            command.arg("XINFO").arg("STREAM").arg(stream.redis_key());
            command
        };
        let mut full = xinfo();
        full.arg("FULL").arg("COUNT").arg(count);
        // No transaction: a Redis that is out of memory rejects it, and operators need this data
        // then. No script either: Lua numbers are exact only up to 2^53.
        let mut pipeline = Pipeline::new();
        pipeline.add_command(xinfo()).add_command(full);
        let mut replies = match self.read_pipeline(&Lane::Shared, &pipeline).await {
            Err(StoreError::StreamNotFound) => return Ok(None),
            replies => replies?.into_iter(),
        };
        let info = stream_info(replies.next().unwrap_or_default())?;
        let mut full = Properties::new(replies.next().unwrap_or_default())?;
        let ends = ends(&info);
        let groups = list(full.take("groups"))?.into_iter().map(|value| {
            let mut group = group(value)?;
            let (last_delivered, entries_read) = (group.last_delivered, group.entries_read);
            let place = GroupCursor {
                last_delivered,
                entries_read,
                lag: group.lag,
            };
            group.lag = Lag::of(&ends, &place).uncounted();
            Ok(group)
        });
        let groups = groups.collect::<Result<_, StoreError>>()?;
        Ok(Some((
            info,
            FullStream {
                entries: entries(full.take("entries"))?,
                groups,
            },
        )))
    }
}

fn group(value: Value) -> Result<FullGroup, StoreError> {
    let mut info = Properties::new(value)?;
    let pending = |value| {
        let [entry, consumer, delivered, deliveries] = tuple(value)?;
        Ok(FullPending {
            id: id(entry)?,
            consumer: Some(name(consumer)?).filter(|name| !is_nobody(name) && !name.is_empty()),
            delivered_ms: unsigned(&delivered)?,
            deliveries: unsigned(&deliveries)?,
        })
    };
    let mut consumers = each(info.take("consumers"), consumer)?;
    consumers.retain(|consumer| !is_nobody(&consumer.name));
    Ok(FullGroup {
        name: name(info.take("name"))?,
        last_delivered: id(info.take("last-delivered-id"))?,
        entries_read: optional(&info.take("entries-read"))?,
        lag: optional(&info.take("lag"))?,
        pending: unsigned(&info.take("pel-count"))?,
        pending_entries: each(info.take("pending"), pending)?,
        consumers,
    })
}

fn consumer(value: Value) -> Result<FullConsumer, StoreError> {
    let mut info = Properties::new(value)?;
    let pending = |value| {
        let [entry, delivered, deliveries] = tuple(value)?;
        Ok(FullPending {
            id: id(entry)?,
            consumer: None,
            delivered_ms: unsigned(&delivered)?,
            deliveries: unsigned(&deliveries)?,
        })
    };
    Ok(FullConsumer {
        name: name(info.take("name"))?,
        seen_ms: unsigned(&info.take("seen-time"))?,
        active_ms: since(&info.take("active-time")),
        pending: unsigned(&info.take("pel-count"))?,
        pending_entries: each(info.take("pending"), pending)?,
    })
}

fn each<T>(
    value: Value,
    read: impl Fn(Value) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    list(value)?.into_iter().map(read).collect()
}
