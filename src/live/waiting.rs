//! Reads that wait for entries, of a stream or of a group, without holding a Redis connection.
//!
//! They try, then sleep until the stream is fed. Readers of one group queue for their turn: only
//! the first of them tries, so a new entry wakes one and not all, and who came first is served
//! first (within this process; a native consumer blocked in XREADGROUP is always served before).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures_util::future::{select_all, try_join_all};
use tokio::sync::OwnedMutexGuard;
use tokio::time::{Instant, timeout_at};

use super::hub::{Hub, JoinError};
use super::tail::Heard;
use crate::model::id::EntryId;
use crate::model::name::{GroupName, StreamName};
use crate::model::position::Position;
use crate::store::{Delivery, GroupRead, Lane, Store, StoreError, Stretch};

/// Entries become readable by more than appends (a group set back, say): look again this often.
const TRY_AGAIN: Duration = Duration::from_secs(5);
/// While Redis is away.
const RETRY: Duration = Duration::from_millis(200);

/// The queues of waiting group readers.
#[derive(Default)]
pub(super) struct Turns(Mutex<HashMap<(StreamName, GroupName), Weak<Queue>>>);

/// First come, first served: that is what tokio's lock promises.
type Queue = tokio::sync::Mutex<()>;

impl Turns {
    fn queue(&self, stream: &StreamName, group: &GroupName) -> Arc<Queue> {
        let mut queues = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (stream.clone(), group.clone());
        if let Some(queue) = queues.get(&key).and_then(Weak::upgrade) {
            return queue;
        }
        queues.retain(|_, queue| queue.strong_count() > 0);
        let queue = Arc::new(Queue::new(()));
        queues.insert(key, Arc::downgrade(&queue));
        queue
    }
}

/// Ranges of one or more streams that may wait for the first entry in any of them.
pub struct RangeWait<'a> {
    /// Which streams, and after which positions; one may come twice.
    pub from: &'a [(StreamName, Position)],
    /// At most so many entries of each.
    pub limit: usize,
    /// At most so many bytes of each.
    pub max_bytes: usize,
}

impl Hub {
    /// Reads one or more streams upwards, in their order; if none has anything, waits up to `wait` for
    /// an entry in one of them. A stream that does not exist is an empty one.
    ///
    /// # Errors
    /// [`JoinError`]; while Redis is away this waits on, and fails only when the time is up.
    /// # Cancel safety
    /// Safe.
    pub async fn read_or_wait(
        &self,
        read: &RangeWait<'_>,
        wait: Duration,
    ) -> Result<Vec<Stretch>, JoinError> {
        let deadline = Instant::now() + wait;
        let mut following = Vec::new();
        if !wait.is_zero() {
            following = try_join_all(read.from.iter().map(|(stream, _)| self.join(stream))).await?;
        }
        loop {
            let reads = read.from.iter().map(|(stream, after)| {
                let (lane, end) = (&Lane::Shared, EntryId::MAX);
                self.0.store.read_after(lane, stream, *after, end, read.limit, read.max_bytes)
            });
            let pause = match try_join_all(reads).await {
                Ok(all) if !all.iter().all(Stretch::is_quiet) || self.is_over(deadline) => {
                    return Ok(all);
                }
                Ok(_) => deadline,
                Err(error) if !error.is_outage() || self.is_over(deadline) => {
                    return Err(error.into());
                }
                Err(_) => deadline.min(Instant::now() + RETRY),
            };
            let heard =
                select_all(following.iter_mut().map(|following| Box::pin(following.next())));
            tokio::select! {
                () = self.0.stop.cancelled() => {}
                () = tokio::time::sleep_until(pause) => {}
                (heard, ..) = heard => if matches!(heard, Heard::Closed) {
                    self.0.stop.cancelled().await;
                },
            }
        }
    }

    /// Reads for a consumer; if nothing is there, waits up to `wait` for an entry, in the order
    /// readers came.
    ///
    /// # Errors
    /// [`JoinError`], whose [`StoreError::GroupNotFound`] also ends a wait. While Redis cannot be
    /// reached this waits on; when it broke off in the middle of a read the caller is told at
    /// once, for entries may have become pending.
    /// # Cancel safety
    /// What is read for a caller who is gone stays pending with its consumer, and is counted.
    pub async fn read_group_or_wait(
        &self,
        stream: &StreamName,
        group: &GroupName,
        read: &GroupRead,
        wait: Duration,
    ) -> Result<Vec<Delivery>, JoinError> {
        if wait.is_zero() || read.history.is_some() {
            return Ok(self.read_group(stream, group, read).await?);
        }
        let deadline = Instant::now() + wait;
        let Some(_turn) = self.turn(stream, group, deadline).await else {
            return Ok(Vec::new());
        };
        let mut following = self.join(stream).await?;
        loop {
            let pause = match self.read_group(stream, group, read).await {
                Ok(entries) if !entries.is_empty() || self.is_over(deadline) => return Ok(entries),
                Ok(_) => deadline.min(Instant::now() + TRY_AGAIN),
                Err(StoreError::Unreachable(_) | StoreError::Loading)
                    if !self.is_over(deadline) =>
                {
                    deadline.min(Instant::now() + RETRY)
                }
                Err(error) => return Err(error.into()),
            };
            tokio::select! {
                () = self.0.stop.cancelled() => return Ok(Vec::new()),
                () = tokio::time::sleep_until(pause) => {}
                _ = following.next() => {}
            }
        }
    }

    /// The turn of a reader in its group's queue; `None` when it did not come in time.
    async fn turn(
        &self,
        stream: &StreamName,
        group: &GroupName,
        deadline: Instant,
    ) -> Option<OwnedMutexGuard<()>> {
        let queue = self.0.turns.queue(stream, group);
        tokio::select! {
            () = self.0.stop.cancelled() => None,
            turn = timeout_at(deadline, queue.lock_owned()) => turn.ok(),
        }
    }

    fn is_over(&self, deadline: Instant) -> bool {
        Instant::now() >= deadline || self.0.stop.is_cancelled()
    }

    /// One XREADGROUP in a task of its own, so that it is never dropped half-way.
    async fn read_group(
        &self,
        stream: &StreamName,
        group: &GroupName,
        read: &GroupRead,
    ) -> Result<Vec<Delivery>, StoreError> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        let (store, metrics): (Store, _) = (self.0.store.clone(), self.0.metrics.clone());
        let (stream, group, read) = (stream.clone(), group.clone(), read.clone());
        self.0.background.spawn(async move {
            let result = store.read_group(&stream, &group, &read).await;
            if let Err(Ok(entries)) = answer.send(result)
                && read.history.is_none()
                && !read.no_ack
            {
                metrics.undelivered.inc_by(entries.len() as u64);
            }
        });
        answered
            .await
            .unwrap_or_else(|_| Err(StoreError::Unexpected("a read was dropped".to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_that_nobody_stands_in_are_forgotten() {
        let turns = Turns::default();
        let name =
            |n: u32| (StreamName::new(&format!("s{n}")).unwrap(), GroupName::new("g").unwrap());
        for n in 0..100 {
            let (stream, group) = name(n);
            drop(turns.queue(&stream, &group));
        }
        assert_eq!(turns.0.lock().unwrap().len(), 1);
    }
}
