//! Plain consumer groups: XGROUP, XREADGROUP, XACK, and what XINFO says of them.

use deadpool_redis::redis::{Cmd, Value};
use futures_util::future::join_all;

use super::decode::{Properties, bytes, delivery, list, name, optional, since, tuple, unsigned};
use super::{Lease, Store, StoreError};
use crate::model::entry::Fields;
use crate::model::id::EntryId;
use crate::model::name::{ConsumerName, GroupName, RawName, StreamName};
use crate::model::position::Start;

/// An entry handed to a consumer.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Its id.
    pub id: EntryId,
    /// `None` when the entry is still pending but gone from the stream.
    pub fields: Option<Fields>,
    /// What it was lent for, in a group with a policy.
    pub lease: Option<Lease>,
}

/// One XREADGROUP, which never blocks.
#[derive(Clone, Debug)]
pub struct GroupRead {
    /// Who reads; made on first use.
    pub consumer: ConsumerName,
    /// At most so many entries.
    pub count: usize,
    /// Deliver without keeping the entries pending.
    pub no_ack: bool,
    /// What this consumer has pending after this id, instead of new entries.
    pub history: Option<EntryId>,
}

/// A group as XINFO GROUPS shows it. What the server does not know is `None`.
#[derive(Clone, Debug)]
pub struct GroupInfo {
    /// Its name.
    pub name: RawName,
    /// How many consumers it has.
    pub consumers: u64,
    /// Entries delivered and not acknowledged.
    pub pending: u64,
    /// The last id handed out.
    pub last_delivered: EntryId,
    /// Entries read since the beginning of the stream.
    pub entries_read: Option<u64>,
    /// Entries still to be read; as Redis counts them until [`Store::groups`] has judged that.
    pub lag: Option<u64>,
}

/// A consumer as XINFO CONSUMERS shows it.
#[derive(Clone, Debug)]
pub struct ConsumerInfo {
    /// Its name.
    pub name: RawName,
    /// Entries it was given and has not acknowledged.
    pub pending: u64,
    /// Milliseconds since it last tried to read.
    pub idle_ms: u64,
    /// Milliseconds since it last got anything; unknown before Redis 7.2.
    pub inactive_ms: Option<u64>,
}

impl Store {
    /// Every group of a stream, with its lag where that is told without counting.
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

    /// The first of several streams that has no group of this name, as its index, with what is
    /// wrong there: [`StoreError::GroupNotFound`] or [`StoreError::NotAStream`].
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

pub(super) fn xinfo_groups(stream: &StreamName) -> Cmd {
    let mut command = Cmd::new();
    command.arg("XINFO").arg("GROUPS").arg(stream.as_str());
    command
}

/// XREADGROUP.
pub(super) fn write_read(
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
        command.arg(stream.as_str());
    }
    let from = read
        .history
        .map_or_else(|| ">".to_owned(), |after| after.to_string());
    for _ in streams {
        command.arg(from.as_str());
    }
}

/// What XREADGROUP answers: a list for each stream.
pub(super) fn read_of(
    reply: Value,
    streams: &[StreamName],
) -> Result<Vec<Vec<Delivery>>, StoreError> {
    let mut of_all = vec![Vec::new(); streams.len()];
    let reply = match reply {
        Value::Nil => return Ok(of_all),
        // Those without anything new are left out.
        present => list(present)?,
    };
    for of_stream in reply {
        let [stream, entries] = tuple(of_stream)?;
        let name = bytes(stream)?;
        let index = streams
            .iter()
            .position(|stream| stream.as_str().as_bytes() == name);
        let index =
            index.ok_or_else(|| StoreError::Unexpected("a stream nobody asked for".to_owned()))?;
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

/// The word XGROUP takes for where a group is to stand; answers the count that goes with it.
pub(super) fn write_start(command: &mut Cmd, start: Start) -> Option<u64> {
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

pub(super) fn group_info(value: Value) -> Result<GroupInfo, StoreError> {
    let mut info = Properties::new(value)?;
    Ok(GroupInfo {
        name: name(info.take("name"))?,
        consumers: unsigned(&info.take("consumers"))?,
        pending: unsigned(&info.take("pending"))?,
        last_delivered: super::decode::id(info.take("last-delivered-id"))?,
        entries_read: optional(&info.take("entries-read"))?,
        lag: optional(&info.take("lag"))?,
    })
}

pub(super) fn consumer_info(value: Value) -> Result<ConsumerInfo, StoreError> {
    let mut info = Properties::new(value)?;
    Ok(ConsumerInfo {
        name: name(info.take("name"))?,
        pending: unsigned(&info.take("pending"))?,
        idle_ms: unsigned(&info.take("idle"))?,
        // -1 before Redis 7.2.1 for a consumer that never got anything.
        inactive_ms: since(&info.take("inactive")),
    })
}
