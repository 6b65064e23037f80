//! Plain consumer groups: XGROUP, XREADGROUP, XACK and XINFO.

use deadpool_redis::redis::{Cmd, Value};
use futures_util::future::join_all;

use crate::model::entry::Fields;
use crate::model::id::EntryId;
use crate::model::name::{ConsumerName, GroupName, RawName, StreamName};
use crate::model::position::Start;
use crate::redis::decode::{
    Properties, bytes, delivery, list, name, optional, since, tuple, unsigned,
};
use crate::redis::{Lease, Store, StoreError};

/// An entry delivered to a consumer.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Id of the entry.
    pub id: EntryId,
    /// Fields of the entry; `None` if it is still pending but deleted from the stream.
    pub fields: Option<Fields>,
    /// Lease of the entry, in a group with a policy.
    pub lease: Option<Lease>,
}

impl Delivery {
    /// Returns the bytes of names and values of the entry.
    pub(in crate::redis) fn size(&self) -> usize {
        let fields = self.fields.iter().flatten();
        fields.map(|(name, value)| name.len() + value.len()).sum()
    }
}

/// The parameters of a non-blocking XREADGROUP.
#[derive(Clone, Debug)]
pub struct GroupRead {
    /// Consumer that reads; created on first use.
    pub consumer: ConsumerName,
    /// Maximum number of entries.
    pub count: usize,
    /// Whether to deliver entries without making them pending.
    pub no_ack: bool,
    /// Reads the consumer's pending entries after this id, instead of new entries.
    pub history: Option<EntryId>,
}

/// A group as XINFO GROUPS reports it. Values the server does not know are `None`.
#[derive(Clone, Debug)]
pub struct GroupInfo {
    /// Name of the group.
    pub name: RawName,
    /// Number of consumers.
    pub consumers: u64,
    /// Number of entries delivered but not acknowledged.
    pub pending: u64,
    /// Last delivered id.
    pub last_delivered: EntryId,
    /// Number of entries read since the start of the stream.
    pub entries_read: Option<u64>,
    /// Number of entries not yet read. This is Redis' own count until [`Store::groups`] verifies
    /// it.
    pub lag: Option<u64>,
}

/// A consumer as XINFO CONSUMERS reports it.
#[derive(Clone, Debug)]
pub struct ConsumerInfo {
    /// Name of the consumer.
    pub name: RawName,
    /// Number of entries delivered to the consumer but not acknowledged.
    pub pending: u64,
    /// Milliseconds since the last attempt to read.
    pub idle_ms: u64,
    /// Milliseconds since the last successful read; unknown before Redis 7.2.
    pub inactive_ms: Option<u64>,
}

impl Store {
    /// Returns all groups of a stream, with their lags if known without counting.
    ///
    /// # Errors
    /// [`StoreError::StreamNotFound`], [`StoreError::NotAStream`], or an outage of Redis.
    /// # Cancel safety
    /// Cancel safe: only reads.
    pub async fn groups(&self, stream: &StreamName) -> Result<Vec<GroupInfo>, StoreError> {
        let groups = self.groups_with_lags(stream).await?;
        Ok(groups.into_iter().map(|(group, _)| group).collect())
    }

    async fn named_groups(&self, stream: &StreamName) -> Result<Vec<GroupInfo>, StoreError> {
        list(self.read(&xinfo_groups(stream)).await?)?
            .into_iter()
            .map(group_info)
            .collect()
    }

    /// Returns the index of the first stream without this group, and the reason:
    /// [`StoreError::GroupNotFound`] or [`StoreError::NotAStream`].
    ///
    /// # Errors
    /// An outage of Redis.
    /// # Cancel safety
    /// Cancel safe: only reads.
    pub async fn lacks_group(
        &self,
        streams: &[StreamName],
        group: &GroupName,
    ) -> Result<Option<(usize, StoreError)>, StoreError> {
        let looks = join_all(streams.iter().map(|stream| self.named_groups(stream))).await;
        for (index, look) in looks.into_iter().enumerate() {
            match look {
                Ok(groups)
                    if groups
                        .iter()
                        .any(|info| info.name.as_bytes() == group.as_bytes()) => {}
                Ok(_) | Err(StoreError::StreamNotFound) => {
                    return Ok(Some((index, StoreError::GroupNotFound)));
                }
                Err(StoreError::NotAStream) => return Ok(Some((index, StoreError::NotAStream))),
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

pub(in crate::redis) fn xinfo_groups(stream: &StreamName) -> Cmd {
    let mut command = Cmd::new();
    command.arg("XINFO").arg("GROUPS").arg(stream.redis_key());
    command
}

/// Appends an XREADGROUP to the command.
pub(in crate::redis) fn write_read(
    command: &mut Cmd,
    streams: &[StreamName],
    group: &GroupName,
    read: &GroupRead,
) {
    command
        .arg("XREADGROUP")
        .arg("GROUP")
        .arg(group.as_bytes())
        .arg(read.consumer.as_bytes());
    command.arg("COUNT").arg(read.count);
    if read.no_ack {
        command.arg("NOACK");
    }
    command.arg("STREAMS");
    for stream in streams {
        command.arg(stream.redis_key());
    }
    let from = read
        .history
        .map_or_else(|| ">".to_owned(), |after| after.to_string());
    for _ in streams {
        command.arg(from.as_str());
    }
}

/// Decodes the reply of XREADGROUP into a list per stream.
pub(in crate::redis) fn read_of(
    reply: Value,
    streams: &[StreamName],
) -> Result<Vec<Vec<Delivery>>, StoreError> {
    let mut of_all = vec![Vec::new(); streams.len()];
    let reply = match reply {
        Value::Nil => return Ok(of_all),
        // The reply omits streams without new entries.
        present => list(present)?,
    };
    for of_stream in reply {
        let [stream, entries] = tuple(of_stream)?;
        let name = bytes(stream)?;
        let index = streams
            .iter()
            .position(|stream| stream.redis_key().as_bytes() == name);
        let index = index
            .ok_or_else(|| StoreError::Unexpected("a stream not in the request".to_owned()))?;
        let deliveries = list(entries)?.into_iter().map(delivery);
        let deliveries = deliveries.map(|read| {
            read.map(|(id, fields)| Delivery {
                id,
                fields,
                lease: None,
            })
        });
        of_all[index] = deliveries.collect::<Result<_, _>>()?;
    }
    Ok(of_all)
}

/// Appends the id that XGROUP takes as the start of a group. Returns the entry count of that start.
pub(in crate::redis) fn write_start(command: &mut Cmd, start: Start) -> Option<u64> {
    match start {
        Start::After(position) => {
            command.arg(position.id.to_string());
            position.n
        }
        Start::Tail | Start::LastEntry => {
            command.arg("$");
            None
        }
    }
}

pub(in crate::redis) fn group_info(value: Value) -> Result<GroupInfo, StoreError> {
    let mut info = Properties::new(value)?;
    Ok(GroupInfo {
        name: name(info.take("name"))?,
        consumers: unsigned(&info.take("consumers"))?,
        pending: unsigned(&info.take("pending"))?,
        last_delivered: crate::redis::decode::id(info.take("last-delivered-id"))?,
        entries_read: optional(&info.take("entries-read"))?,
        lag: optional(&info.take("lag"))?,
    })
}

pub(in crate::redis) fn consumer_info(value: Value) -> Result<ConsumerInfo, StoreError> {
    let mut info = Properties::new(value)?;
    Ok(ConsumerInfo {
        name: name(info.take("name"))?,
        pending: unsigned(&info.take("pending"))?,
        idle_ms: unsigned(&info.take("idle"))?,
        // -1 before Redis 7.2.1 for a consumer without a successful read.
        inactive_ms: since(&info.take("inactive")),
    })
}
