//! Reads of groups, which can wait for entries without holding a Redis connection.
//!
//! A reader reads at once if nobody waits for the group. If there is nothing, it waits in a fair queue
//! (`fair_queue.rs`), where only the first one tries to read. An entry therefore wakes one reader
//! instead of all, and readers are served in order of arrival. This order holds within one process; a
//! native consumer blocked in XREADGROUP is always served earlier.
//!
//! The first reader tries, and then sleeps until its stream has news, a message reports freed
//! entries (`wake_subscriber.rs`), a lease is due, or a few seconds have passed. A reader of several streams
//! waits in the queue of each, and reads those in which it is first.

use std::future::pending;
use std::slice;
use std::time::Duration;

use futures_util::future::{join, select_all, try_join_all};
use tokio::time::Instant;

use crate::live::context::JoinError;
use crate::live::group::detached::Detached;
use crate::live::group::fair_queue::QueueTicket;
use crate::live::group::wake_subscriber::{WakeMessage, WakeReceiver};
use crate::live::hub::Hub;
use crate::live::long_poll::RETRY;
use crate::live::tail::Awaited;
use crate::model::name::{GroupName, StreamName};
use crate::redis::{
    ConsumerRead, Delivery, GroupDelivery, Item, LeaseOperation, Store, StoreError, StreamDelivery,
};

/// Maximum time between two attempts. Some changes that make entries readable cause no wake-up.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// The outcome of an attempt to read.
#[derive(Default)]
struct Tried {
    of_all: Vec<StreamDelivery>,
    /// The time until a lease is due.
    due_in: Option<Duration>,
}

impl Tried {
    fn has_entries(&self) -> bool {
        self.of_all
            .iter()
            .flatten()
            .any(|entries| !entries.is_empty())
    }
}

/// A followed stream in whose queue the reader is first, by index.
struct Turn {
    stream: usize,
    following: Awaited,
    hearing: WakeReceiver,
}

impl Hub {
    /// Reads a stream for a consumer, over the connections of `store`. If there are no entries,
    /// waits up to `wait` for one, in the order in which readers began to wait.
    ///
    /// # Errors
    /// Same as [`Hub::wait_for_groups`].
    /// # Cancel safety
    /// Same as [`Hub::wait_for_groups`].
    pub async fn read_group_or_wait(
        &self,
        store: &Store,
        stream: &StreamName,
        group: &GroupName,
        work: &ConsumerRead,
        wait: Duration,
    ) -> Result<Vec<Delivery>, JoinError> {
        let streams = slice::from_ref(stream);
        let at_once = self.read_groups_at_once(store, streams, group, work, wait);
        let mut of_all = match at_once.await? {
            Some(of_all) => of_all,
            None => {
                self.wait_for_groups(store, streams, group, work, wait)
                    .await?
            }
        };
        Ok(of_all.pop().transpose()?.unwrap_or_default())
    }

    /// Reads several distinct streams for a consumer, over the connections of `store`. The groups
    /// of all streams have the same name. Returns one result per stream, or `None` if the reader has
    /// to wait for entries. A worker with a backlog thus needs neither a turn nor to follow the
    /// streams.
    ///
    /// # Errors
    /// [`StoreError`], as for [`Store::read_work`].
    /// # Cancel safety
    /// Same as [`Hub::wait_for_groups`].
    pub async fn read_groups_at_once(
        &self,
        store: &Store,
        streams: &[StreamName],
        group: &GroupName,
        work: &ConsumerRead,
        wait: Duration,
    ) -> Result<Option<Vec<StreamDelivery>>, StoreError> {
        let may_wait = !wait.is_zero() && work.read.history.is_none();
        if may_wait && !self.0.fair_queues.are_open(streams, group) {
            return Ok(None);
        }
        match self.read_group(store, streams, group, work).await {
            Ok(tried) if tried.has_entries() || !may_wait => Ok(Some(tried.of_all)),
            Ok(_) => Ok(None),
            // A wait outlasts these states if the streams are followed already.
            Err(error) if may_wait && error.is_passing() && error.ran_nothing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Waits up to `wait` for an entry in any of several distinct streams, in the order in which
    /// readers began to wait, per stream. Returns one result per stream.
    ///
    /// A stream in whose queue the reader is not first is not read. Another reader waits there, and
    /// would have failed if the group did not exist.
    ///
    /// # Errors
    /// [`JoinError`]. Its [`StoreError::GroupNotFound`] also ends a wait, unless `work` creates
    /// groups; nothing is read then.
    ///
    /// The call keeps waiting while a temporary state prevents Redis from running the read. If the
    /// read may have run (a broken connection, a timeout), the call fails at once, because entries
    /// may be pending.
    /// # Cancel safety
    /// If the caller is dropped, its entries are handed back in a group with a policy. In a plain
    /// group they stay pending with the consumer. Both cases are counted.
    pub async fn wait_for_groups(
        &self,
        store: &Store,
        streams: &[StreamName],
        group: &GroupName,
        work: &ConsumerRead,
        wait: Duration,
    ) -> Result<Vec<StreamDelivery>, JoinError> {
        let deadline = Instant::now() + wait;
        let place = self.0.fair_queues.enqueue(streams, group);
        let mut turns = Vec::new();
        loop {
            let now = Instant::now();
            let pause = match self
                .read_in_turn(store, &place, &mut turns, streams, group, work)
                .await
            {
                Ok(tried) if tried.has_entries() || self.is_over(deadline) => {
                    if turns.is_empty() && !self.0.policy_cache.all_plain(streams, group) {
                        // Nothing was read for this consumer, but the request counts as activity
                        // for `consumer_expiry`.
                        let consumer = &work.read.consumer;
                        match store.touch_consumer(streams, group, consumer).await {
                            // The group was lost just now; the next read creates it.
                            Err(StoreError::GroupNotFound) if work.first_use.creates() => {}
                            touched => touched?,
                        }
                    }
                    return Ok(tried.of_all);
                }
                Ok(tried) => now + tried.due_in.unwrap_or(TRY_AGAIN).min(TRY_AGAIN),
                // With `turns` empty, the first attempt to follow a stream has failed.
                Err(JoinError::Store(error))
                    if error.is_passing()
                        && error.ran_nothing()
                        && !turns.is_empty()
                        && !self.is_over(deadline) =>
                {
                    now + RETRY
                }
                Err(error) => return Err(error),
            };
            self.until_worth_a_try(&place, &mut turns, pause.min(deadline))
                .await;
            if self.0.context.stop.is_cancelled() {
                return Ok(vec![Ok(Vec::new()); streams.len()]);
            }
        }
    }

    /// Sleeps until entries are likely to be readable, at most until `pause`.
    async fn until_worth_a_try(
        &self,
        place: &QueueTicket<'_>,
        turns: &mut [Turn],
        mut pause: Instant,
    ) {
        let (mut following, mut hearing) = (Vec::new(), Vec::new());
        for turn in turns {
            following.push(&mut turn.following);
            hearing.push(&mut turn.hearing);
        }
        let fed = self.heard(following.into_iter());
        tokio::pin!(fed);
        loop {
            tokio::select! {
                () = self.0.context.stop.cancelled() => return,
                () = tokio::time::sleep_until(pause) => return,
                () = place.called() => return,
                () = &mut fed => return,
                call = called(&mut hearing) => match call {
                    WakeMessage::Freed => return,
                    WakeMessage::Due(at) => pause = pause.min(at),
                },
            }
        }
    }

    /// Reads the streams in whose queues the reader is first. Follows each stream before its first
    /// read.
    async fn read_in_turn(
        &self,
        store: &Store,
        place: &QueueTicket<'_>,
        turns: &mut Vec<Turn>,
        streams: &[StreamName],
        group: &GroupName,
        work: &ConsumerRead,
    ) -> Result<Tried, JoinError> {
        let mut new = place.first_in();
        new.retain(|index| !turns.iter().any(|turn| turn.stream == *index));
        let take = async |stream: usize| {
            let name = &streams[stream];
            let (following, hearing) =
                join(self.join(name), self.0.wakes.subscribe(name, group)).await;
            following.map(|following| Turn {
                stream,
                following,
                hearing,
            })
        };
        turns.extend(try_join_all(new.into_iter().map(take)).await?);
        if turns.is_empty() {
            return Ok(Tried {
                of_all: vec![Ok(Vec::new()); streams.len()],
                due_in: None,
            });
        }
        let ours: Vec<_> = turns
            .iter()
            .map(|turn| streams[turn.stream].clone())
            .collect();
        let read = self.read_group(store, &ours, group, work).await?;
        let mut of_all = vec![Ok(Vec::new()); streams.len()];
        for (turn, entries) in turns.iter().zip(read.of_all) {
            of_all[turn.stream] = entries;
        }
        Ok(Tried {
            of_all,
            due_in: read.due_in,
        })
    }

    /// Runs one read, which completes even if the caller is dropped.
    async fn read_group(
        &self,
        store: &Store,
        streams: &[StreamName],
        group: &GroupName,
        work: &ConsumerRead,
    ) -> Result<Tried, StoreError> {
        let read = {
            let (inner, store) = (self.0.clone(), store.clone());
            let (streams, group, work) = (streams.to_vec(), group.clone(), work.clone());
            async move {
                let plain = inner.policy_cache.all_plain(&streams, &group);
                let result = store.read_work(&streams, &group, &work, plain).await;
                for (stream, handed) in streams.iter().zip(result.iter().flatten()) {
                    if work.read.history.is_none() {
                        let is_full = handed.entries.len() >= work.read.count;
                        inner.policy_cache.record(stream, &group, handed.leased);
                        inner.fair_queues.record(stream, &group, is_full);
                    }
                    inner
                        .context
                        .metrics
                        .count_dead_letters("max-deliveries", handed.dead.exhausted);
                    inner
                        .context
                        .metrics
                        .count_dead_letters("gone", handed.dead.gone);
                    inner.context.metrics.stuck.inc_by(handed.dead.stuck);
                    if handed.is_full {
                        inner.context.metrics.refuse("read_ahead");
                    }
                }
                result
            }
        };
        let left = {
            let (inner, keeps) = (
                self.0.clone(),
                work.read.history.is_none() && !work.read.no_ack,
            );
            let (streams, group) = (streams.to_vec(), group.clone());
            async move |result: Result<Vec<GroupDelivery>, StoreError>| {
                for (stream, handed) in streams.iter().zip(result.into_iter().flatten()) {
                    if keeps {
                        inner
                            .context
                            .metrics
                            .undelivered
                            .inc_by(handed.entries.len() as u64);
                        hand_back(&inner.context.store, stream, &group, &handed.entries).await;
                    }
                }
            }
        };
        let of_all = Detached::new(self.0.context.background.clone(), read, left).await?;
        let due_in = of_all.iter().filter_map(|handed| handed.due_in).min();
        Ok(Tried {
            of_all: of_all.into_iter().map(GroupDelivery::into_result).collect(),
            due_in,
        })
    }
}

/// Hands back leased entries that reached no client, as if they had never been delivered. If
/// this fails, their leases expire.
async fn hand_back(store: &Store, stream: &StreamName, group: &GroupName, entries: &[Delivery]) {
    let lent = entries.iter().filter_map(|entry| {
        let until_us = entry.lease?.until_us?;
        Some(Item {
            id: entry.id,
            until_us: Some(until_us),
        })
    });
    let lent: Vec<Item> = lent.collect();
    if lent.is_empty() {
        return;
    }
    if let Err(error) = store
        .settle_leases(stream, group, &lent, &LeaseOperation::HandBack)
        .await
    {
        tracing::debug!(%error, "cannot hand back undelivered entries; their leases will expire");
    }
}

/// Waits for the next wake-up message of any of several groups.
async fn called(hearing: &mut [&mut WakeReceiver]) -> WakeMessage {
    let next: Vec<_> = hearing
        .iter_mut()
        .map(|hearing| Box::pin(hearing.next()))
        .collect();
    match next.is_empty() {
        true => pending().await,
        false => select_all(next).await.0,
    }
}
