//! Consumer reads in groups that may have a policy.

use std::collections::HashSet;
use std::time::Duration;

use deadpool_redis::redis::{Cmd, Pipeline, Value};

use crate::model::name::{GroupName, StreamName};
use crate::redis::conn::send_options::RetryPolicy;
use crate::redis::decode::{delivery, id, list, text, tuple, unsigned};
use crate::redis::group::leases::first_use::FirstUse;
use crate::redis::group::leases::hand_out::READ;
use crate::redis::group::plain::write_read;
use crate::redis::keys;
use crate::redis::script::{LuaScript, lua};
use crate::redis::stream::read_budget::{ANSWER, LARGE, heaviest_handed};
use crate::redis::{Delivery, GroupRead, Store, StoreError};

/// A lease on one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Number of deliveries of the entry, including this one.
    pub deliveries: u64,
    /// End of the lease in Unix microseconds, by the clock of Redis; `None` if the entry is pending
    /// without a lease.
    pub until_us: Option<u64>,
}

/// The parameters of a read in groups that may have a policy.
#[derive(Clone, Debug)]
pub struct ConsumerRead {
    /// Consumer, count and kind of the read.
    pub read: GroupRead,
    /// Duration of the leases, instead of that of the policy.
    pub lease: Option<Duration>,
    /// Maximum bytes of names and values over all streams; at least one entry is delivered.
    pub max_bytes: Option<usize>,
    /// Groups to create if they do not exist.
    pub first_use: FirstUse,
}

/// The result of a read in one group.
#[derive(Clone, Debug, Default)]
pub struct GroupDelivery {
    /// Entries delivered to the consumer.
    pub entries: Vec<Delivery>,
    /// Whether the group has a policy.
    pub leased: bool,
    /// Time until the next entry is due, if nothing was delivered.
    pub due_in: Option<Duration>,
    /// Counts of entries moved to the dead letters by this read.
    pub dead: DeadLetterCounts,
    /// The reason why the slot of the stream was not read, although others were.
    pub failed: Option<StoreError>,
    /// Whether nothing new was read, because as many entries wait for their keys as may.
    pub is_full: bool,
    /// Whether the script has more to look at.
    pub(super) unfinished: bool,
}

/// The entries that a read of several streams delivered of one stream, or the reason why its slot of
/// the cluster was not read. The reason is there only if others were read.
pub type StreamDelivery = Result<Vec<Delivery>, StoreError>;

impl GroupDelivery {
    /// Returns the entries, or the reason why the stream was not read.
    pub fn into_result(self) -> StreamDelivery {
        match self.failed {
            Some(error) => Err(error),
            None => Ok(self.entries),
        }
    }
}

/// Counts of due entries that could not be delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeadLetterCounts {
    /// Entries with the maximum number of deliveries.
    pub exhausted: u64,
    /// Pending entries that had been deleted from the stream.
    pub gone: u64,
    /// Entries that could not become dead letters, because the dead-letter key holds another type.
    pub stuck: u64,
}

/// Adds leases to entries that were just read as if their group had no policy. Returns the end of the
/// leases and the entries that the consumer keeps; others wait for their key.
static LEND: LuaScript = LuaScript::new(lua!["lib/life", "lib/leases", "lib/order", "add_leases"]);

impl Store {
    /// Delivers entries of several distinct streams to a consumer, from the groups of one name.
    /// Does not block; callers wait elsewhere, without a connection. Entries of a group with a
    /// policy get leases. `plain` tells that no group had a policy at the last read, which may be
    /// outdated. All groups are checked before anything is read; streams of several slots of a cluster
    /// are read slot by slot. If a group is missing
    /// and `work` creates groups, creates it and reads again.
    ///
    /// # Errors
    /// [`StoreError::GroupNotFound`] and [`StoreError::NotAStream`] if any stream causes them
    /// ([`Store::lacks_group`] returns which), [`StoreError::GroupHasNoPolicy`] if a lease is
    /// requested and any group has no policy, [`StoreError::Crowded`], or an outage of Redis.
    /// # Cancel safety
    /// Not cancel safe: if dropped after the command was sent, the entries are pending with the
    /// consumer and appear in its history. Run the future where it is not dropped.
    pub async fn read_work(
        &self,
        streams: &[StreamName],
        group: &GroupName,
        work: &ConsumerRead,
        plain: bool,
    ) -> Result<Vec<GroupDelivery>, StoreError> {
        let read = async || {
            let parts = self
                .nodes
                .by_slot(streams.iter().map(StreamName::redis_key));
            if parts.len() > 1 {
                let read = self.read_by_slot(streams, group, work, plain, parts);
                return Box::pin(read).await;
            }
            self.read_existing(streams, group, work, plain).await
        };
        let done = read().await;
        if !work.first_use.creates() || !matches!(done, Err(StoreError::GroupNotFound)) {
            return done;
        }
        self.create_missing(streams, group, &work.first_use).await?;
        read().await
    }

    /// Reads streams that share a slot.
    pub(super) async fn read_existing(
        &self,
        streams: &[StreamName],
        group: &GroupName,
        work: &ConsumerRead,
        plain: bool,
    ) -> Result<Vec<GroupDelivery>, StoreError> {
        let read = &work.read;
        let heaviest = self.heaviest_of(streams).await?.max(1);
        let most = work.max_bytes.unwrap_or(ANSWER);
        let expected = read
            .count
            .saturating_mul(streams.len())
            .saturating_mul(heaviest);
        let _permit = self.large.permit(expected.min(most.max(heaviest))).await?;
        let handed = if let Some(after) = read.history {
            let share = most / streams.len();
            let share = (share, share.max(LARGE) / heaviest);
            self.read_history(streams, group, read, after, share)
                .await?
        } else {
            // A potentially large read examines the entries before it reads them. The default limit
            // has the same effect whether or not the caller gives it.
            let bound = work.max_bytes.filter(|bytes| *bytes < ANSWER);
            let bound = bound.or((expected > ANSWER).then_some(ANSWER));
            self.read_fresh(streams, group, work, plain, bound).await?
        };
        for (stream, one) in streams.iter().zip(&handed) {
            self.large
                .saw(stream.redis_key(), heaviest_handed(&one.entries));
        }
        Ok(handed)
    }

    async fn read_fresh(
        &self,
        streams: &[StreamName],
        group: &GroupName,
        work: &ConsumerRead,
        plain: bool,
        max_bytes: Option<usize>,
    ) -> Result<Vec<GroupDelivery>, StoreError> {
        let read = &work.read;
        let plainly = plain && work.lease.is_none();
        if !plainly || max_bytes.is_some() {
            return self
                .read_by_script(streams, group, work, read.count, max_bytes)
                .await;
        }
        let mut handed = self.read_plainly(streams, group, read).await?;
        for (stream, one) in streams.iter().zip(&mut handed) {
            let left = read.count.saturating_sub(one.entries.len());
            if one.leased && !read.no_ack && left > 0 {
                // The group has a policy now and may have due entries, unknown to XREADGROUP.
                let only = std::slice::from_ref(stream);
                let due = self
                    .read_by_script(only, group, work, left, None)
                    .await?
                    .pop();
                let due = due.unwrap_or_default();
                one.entries.extend(due.entries);
                (one.due_in, one.dead) = (due.due_in, due.dead);
            }
        }
        Ok(handed)
    }

    /// Reads with the script, at most `count` entries of each stream.
    async fn read_by_script(
        &self,
        streams: &[StreamName],
        group: &GroupName,
        work: &ConsumerRead,
        count: usize,
        max_bytes: Option<usize>,
    ) -> Result<Vec<GroupDelivery>, StoreError> {
        loop {
            let handed = self
                .read_once(streams, group, work, count, max_bytes)
                .await?;
            // The script looked at as many entries as it may, and none of them was free.
            let is_over = handed.iter().any(|one| !one.entries.is_empty());
            if is_over || !handed.iter().any(|one| one.unfinished) {
                return Ok(handed);
            }
        }
    }

    async fn read_once(
        &self,
        streams: &[StreamName],
        group: &GroupName,
        work: &ConsumerRead,
        count: usize,
        max_bytes: Option<usize>,
    ) -> Result<Vec<GroupDelivery>, StoreError> {
        let read = &work.read;
        let reply = self.run_script(&READ, RetryPolicy::Unsafe, |command| {
            self.write_keys(command, streams, group);
            command.arg(read.consumer.as_bytes()).arg(count);
            command.arg(
                work.lease
                    .map(|lease| lease.as_millis().to_string())
                    .unwrap_or_default(),
            );
            command.arg(max_bytes.map(|bytes| bytes.to_string()).unwrap_or_default());
            command.arg(u8::from(read.no_ack));
            for stream in streams {
                command.arg(keys::wake_channel(stream, group));
            }
        });
        list(reply.await?)?.into_iter().map(handed).collect()
    }

    /// Reads as if no group had a policy, and checks in the same round trip whether one has. If so,
    /// adds leases to its entries before returning them. Plain groups thus avoid the cost of a
    /// script.
    pub(super) async fn read_plainly(
        &self,
        streams: &[StreamName],
        group: &GroupName,
        read: &GroupRead,
    ) -> Result<Vec<GroupDelivery>, StoreError> {
        let mut pipeline = Pipeline::with_capacity(1 + streams.len());
        let mut command = Cmd::with_capacity(10 + 2 * streams.len(), 128 * (1 + streams.len()));
        write_read(&mut command, streams, group, read);
        pipeline.add_command(command);
        for stream in streams {
            let mut command = Cmd::with_capacity(3, 128);
            command
                .arg("HEXISTS")
                .arg(keys::policies(stream))
                .arg(group.as_bytes());
            pipeline.add_command(command);
        }
        let mut replies = self.write_pipeline(&pipeline).await?.into_iter();
        let of_all =
            crate::redis::group::plain::read_of(replies.next().unwrap_or_default(), streams)?;
        let mut handed = Vec::with_capacity(streams.len());
        for (stream, (entries, has)) in streams.iter().zip(of_all.into_iter().zip(replies)) {
            let leased = unsigned(&has)? == 1;
            let mut one = GroupDelivery {
                entries,
                leased,
                ..GroupDelivery::default()
            };
            if leased && !read.no_ack && !one.entries.is_empty() {
                self.lease_entries(stream, group, &mut one.entries).await?;
            }
            handed.push(one);
        }
        Ok(handed)
    }

    async fn lease_entries(
        &self,
        stream: &StreamName,
        group: &GroupName,
        entries: &mut Vec<Delivery>,
    ) -> Result<(), StoreError> {
        let reply = self.run_script(&LEND, RetryPolicy::Unsafe, |command| {
            self.begin(command, stream, group);
            for entry in entries.iter() {
                command.arg(entry.id.to_string());
            }
        });
        let [until_us, kept] = tuple(reply.await?)?;
        let until_us = micros(until_us)?;
        let kept = list(kept)?.into_iter().map(id);
        let kept = kept.collect::<Result<HashSet<_>, _>>()?;
        entries.retain(|entry| kept.contains(&entry.id));
        for entry in entries {
            entry.lease = until_us.map(|end| Lease {
                deliveries: 1,
                until_us: Some(end),
            });
        }
        Ok(())
    }
}

/// Decodes the end of a lease as the scripts return it; empty text is `None`.
pub(super) fn micros(value: Value) -> Result<Option<u64>, StoreError> {
    let text = text(value)?;
    if text.is_empty() {
        return Ok(None);
    }
    text.parse()
        .map(Some)
        .map_err(|_| StoreError::Unexpected("an invalid end of a lease".to_owned()))
}

fn handed(value: Value) -> Result<GroupDelivery, StoreError> {
    let [
        until_us,
        taken,
        counts,
        fresh,
        due_in,
        exhausted,
        gone,
        stuck,
        more,
    ] = tuple(value)?;
    let until_us = micros(until_us)?;
    let lease = |deliveries| {
        until_us.map(|end| Lease {
            deliveries,
            until_us: Some(end),
        })
    };
    let mut entries = Vec::new();
    for (value, count) in list(taken)?.into_iter().zip(list(counts)?) {
        let (id, fields) = delivery(value)?;
        entries.push(Delivery {
            id,
            fields,
            lease: lease(unsigned(&count)?),
        });
    }
    for value in list(fresh)? {
        let (id, fields) = delivery(value)?;
        entries.push(Delivery {
            id,
            fields,
            lease: lease(1),
        });
    }
    Ok(GroupDelivery {
        failed: None,
        entries,
        leased: until_us.is_some(),
        due_in: micros(due_in)?.map(Duration::from_micros),
        dead: DeadLetterCounts {
            exhausted: unsigned(&exhausted)?,
            gone: unsigned(&gone)?,
            stuck: unsigned(&stuck)?,
        },
        is_full: unsigned(&more)? == 2,
        unfinished: unsigned(&more)? == 1,
    })
}
