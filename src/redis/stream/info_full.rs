//! XINFO STREAM FULL: a stream with its first entries, its groups and all they hold, in one reply.

use deadpool_redis::redis::{Cmd, Pipeline, Value};

use crate::model::entry::Entry;
use crate::model::id::EntryId;
use crate::model::lag::{GroupPlace, Lag};
use crate::model::name::{RawName, StreamName};
use crate::redis::decode::{Properties, entries, id, list, name, optional, since, tuple, unsigned};
use crate::redis::group::lag::ends;
use crate::redis::group::leases::is_nobody;
use crate::redis::stream::info::{StreamInfo, stream_info};
use crate::redis::{Lane, Store, StoreError};

/// What lies in a stream and beside it, up to a count of each.
#[derive(Clone, Debug)]
pub struct FullStream {
    /// The oldest entries.
    pub entries: Vec<Entry>,
    /// Every group.
    pub groups: Vec<FullGroup>,
}

/// A group, with what is pending in it.
#[derive(Clone, Debug)]
pub struct FullGroup {
    /// Its name.
    pub name: RawName,
    /// The last id handed out.
    pub last_delivered: EntryId,
    /// Entries read since the beginning of the stream.
    pub entries_read: Option<u64>,
    /// Entries still to be read.
    pub lag: Option<u64>,
    /// How many entries are pending.
    pub pending: u64,
    /// The first of them, by id.
    pub pending_entries: Vec<FullPending>,
    /// Every consumer.
    pub consumers: Vec<FullConsumer>,
}

/// A consumer, with what it holds.
#[derive(Clone, Debug)]
pub struct FullConsumer {
    /// Its name.
    pub name: RawName,
    /// When it last tried to read, in Unix milliseconds.
    pub seen_ms: u64,
    /// When it last got anything; `None` if it never did, or before Redis 7.2.
    pub active_ms: Option<u64>,
    /// How many entries it holds.
    pub pending: u64,
    /// The first of them, by id.
    pub pending_entries: Vec<FullPending>,
}

/// An entry that is pending.
#[derive(Clone, Debug)]
pub struct FullPending {
    /// Its id; the entry itself may be gone from the stream.
    pub id: EntryId,
    /// Who holds it; nobody where it was handed back, and in the list of one consumer.
    pub consumer: Option<RawName>,
    /// When it was last delivered, in Unix milliseconds.
    pub delivered_ms: u64,
    /// How often it was delivered.
    pub deliveries: u64,
}

impl Store {
    /// A stream with all that is in it and beside it, at most `count` (not 0) of each kind of
    /// entry, fewer if they are large; `None` if there is none.
    ///
    /// # Errors
    /// [`StoreError::NotAStream`], or that Redis is away.
    /// # Cancel safety
    /// Reads only.
    pub async fn full_stream(
        &self,
        stream: &StreamName,
        count: usize,
    ) -> Result<Option<(StreamInfo, FullStream)>, StoreError> {
        // With the first and the last entry once more.
        let (count, _room) = self.portion(stream, count + 4).await?;
        let count = count.saturating_sub(4).max(1);
        let xinfo = || {
            let mut command = Cmd::new();
            command.arg("XINFO").arg("STREAM").arg(stream.as_str());
            command
        };
        let mut full = xinfo();
        full.arg("FULL").arg("COUNT").arg(count);
        // No transaction: a Redis that is full takes none, and that is when one looks. No script
        // either: numbers of Lua end at 2^53.
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
            let place = GroupPlace {
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
