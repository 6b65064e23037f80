//! The history of a consumer: its pending entries.

use deadpool_redis::redis::{Cmd, Value};

use crate::model::id::EntryId;
use crate::model::name::{ConsumerName, GroupName, StreamName};
use crate::redis::conn::send_options::RetryPolicy;
use crate::redis::decode::{fields, id, list, tuple, unsigned};
use crate::redis::group::leases::read::{GroupDelivery, Lease, micros};
use crate::redis::group::plain::write_read;
use crate::redis::script::{LuaScript, lua};
use crate::redis::{Delivery, GroupRead, Store, StoreError};

/// Returns the pending entries of a consumer without changing them; XREADGROUP would increment the
/// delivery count and set the delivery time. Returns false for a group without a policy.
static HISTORY: LuaScript = LuaScript::new(lua!["lib/life", "lib/leases", "history"]);

impl Store {
    pub(super) async fn read_history(
        &self,
        streams: &[StreamName],
        group: &GroupName,
        read: &GroupRead,
        after: EntryId,
        (share, portion): (usize, usize),
    ) -> Result<Vec<GroupDelivery>, StoreError> {
        let plainly = async || {
            // XREADGROUP has no byte limit: read as many as fit if all are as heavy as the
            // heaviest.
            let read = GroupRead {
                count: read.count.min(portion).max(1),
                ..read.clone()
            };
            let mut handed = self.read_plainly(streams, group, &read).await?;
            for one in &mut handed {
                cut(&mut one.entries, share);
            }
            Ok(handed)
        };
        let Some(from) = after.next() else {
            // No entry can follow the last id, which XREADGROUP would take for `>`.
            self.touch_consumer(streams, group, &read.consumer).await?;
            return Ok(vec![GroupDelivery::default(); streams.len()]);
        };
        let reply = self.run_script(&HISTORY, RetryPolicy::Safe, |command| {
            self.write_keys(command, streams, group);
            command
                .arg(read.consumer.as_bytes())
                .arg(from.to_string())
                .arg(read.count)
                .arg(share);
        });
        match reply.await? {
            Value::Nil => plainly().await,
            present => {
                let of_one = |entries| {
                    let entries = list(entries)?.into_iter().map(pending);
                    let entries = entries.collect::<Result<_, _>>()?;
                    Ok(GroupDelivery {
                        entries,
                        leased: true,
                        ..GroupDelivery::default()
                    })
                };
                list(present)?.into_iter().map(of_one).collect()
            }
        }
    }

    /// Creates a consumer in several groups if missing and resets its idle time, like a read that
    /// returns nothing.
    ///
    /// # Errors
    /// [`StoreError::GroupNotFound`], [`StoreError::NotAStream`], or an outage of Redis.
    /// # Cancel safety
    /// If dropped after the command was sent, the consumer may still be created.
    pub async fn touch_consumer(
        &self,
        streams: &[StreamName],
        group: &GroupName,
        consumer: &ConsumerName,
    ) -> Result<(), StoreError> {
        let (consumer, history) = (consumer.clone(), EntryId::MAX.previous());
        let read = GroupRead {
            consumer,
            count: 1,
            no_ack: false,
            history,
        };
        for places in self
            .nodes
            .by_slot(streams.iter().map(StreamName::redis_key))
        {
            let of_slot: Vec<_> = places.iter().map(|place| streams[*place].clone()).collect();
            let mut command = Cmd::new();
            write_read(&mut command, &of_slot, group, &read);
            self.write(&command).await?;
        }
        Ok(())
    }
}

/// Truncates a history to `bytes`, but keeps at least one entry. The other entries stay pending,
/// and the next read starts after the last entry kept.
fn cut(entries: &mut Vec<Delivery>, bytes: usize) {
    let mut left = bytes;
    let kept = entries.iter().position(|entry| {
        let size = entry.size();
        let over = size > left;
        left = left.saturating_sub(size);
        over
    });
    entries.truncate(kept.unwrap_or(entries.len()).max(1));
}

fn pending(value: Value) -> Result<Delivery, StoreError> {
    let [entry, found, count, score] = tuple(value)?;
    let found = match found {
        Value::Nil => None,
        present => Some(fields(present)?),
    };
    let lease = Some(Lease {
        deliveries: unsigned(&count)?,
        until_us: micros(score)?,
    });
    Ok(Delivery {
        id: id(entry)?,
        fields: found,
        lease,
    })
}
