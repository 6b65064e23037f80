//! Reads that wait for entries, of streams or of a group, without holding a Redis connection.
//!
//! They try, then sleep until a stream is fed. Readers of one group queue for their turn
//! (`turns.rs`): only the first of them tries, so a new entry wakes one and not all, and who came
//! first is served first (within this process; a native consumer blocked in XREADGROUP is always
//! served before). Readers of several streams stand in the queue of each, and read those whose turn
//! they have.

use std::future::pending;
use std::slice;
use std::time::Duration;

use futures_util::future::{select_all, try_join_all};
use tokio::time::Instant;

use super::hub::{Hub, JoinError};
use super::tail::Awaited;
use super::turns::Place;
use crate::model::id::EntryId;
use crate::model::name::{GroupName, StreamName};
use crate::model::position::Position;
use crate::store::{Delivery, GroupRead, Lane, Store, StoreError, Stretch};

/// Entries become readable by more than appends (a group set back, say): look again this often.
const TRY_AGAIN: Duration = Duration::from_secs(5);
/// While Redis is away.
const RETRY: Duration = Duration::from_millis(200);

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
            tokio::select! {
                () = self.0.stop.cancelled() => {}
                () = tokio::time::sleep_until(pause) => {}
                () = self.heard(following.iter_mut()) => {}
            }
        }
    }

    /// Reads a stream for a consumer; if nothing is there, waits up to `wait` for an entry, in the
    /// order readers came.
    ///
    /// # Errors
    /// As [`Hub::read_groups_or_wait`].
    /// # Cancel safety
    /// As [`Hub::read_groups_or_wait`].
    pub async fn read_group_or_wait(
        &self,
        stream: &StreamName,
        group: &GroupName,
        read: &GroupRead,
        wait: Duration,
    ) -> Result<Vec<Delivery>, JoinError> {
        let mut of_all =
            self.read_groups_or_wait(slice::from_ref(stream), group, read, wait).await?;
        Ok(of_all.pop().unwrap_or_default())
    }

    /// Reads several streams, each named once, for a consumer of the groups of one name; if
    /// nothing is there in any, waits up to `wait` for an entry in one of them, in the order
    /// readers came to each. Answers a list for each stream.
    ///
    /// A stream whose turn has not come is not looked at: someone else waits there, and would have
    /// been told if it had no such group.
    ///
    /// # Errors
    /// [`JoinError`], whose [`StoreError::GroupNotFound`] also ends a wait; nothing is read then.
    /// While Redis cannot be reached this waits on; when it broke off in the middle of a read the
    /// caller is told at once, for entries may have become pending.
    /// # Cancel safety
    /// What is read for a caller who is gone stays pending with its consumer, and is counted.
    pub async fn read_groups_or_wait(
        &self,
        streams: &[StreamName],
        group: &GroupName,
        read: &GroupRead,
        wait: Duration,
    ) -> Result<Vec<Vec<Delivery>>, JoinError> {
        if wait.is_zero() || read.history.is_some() {
            return Ok(self.read_group(streams, group, read).await?);
        }
        let deadline = Instant::now() + wait;
        let place = self.0.turns.stand(streams, group);
        let mut turns = Vec::new();
        loop {
            let pause = match self.read_in_turn(&place, &mut turns, streams, group, read).await {
                Ok(all) if !all.iter().all(Vec::is_empty) || self.is_over(deadline) => {
                    return Ok(all);
                }
                Ok(_) => deadline.min(Instant::now() + TRY_AGAIN),
                // Without a turn yet it is the first attempt to follow that failed.
                Err(JoinError::Store(StoreError::Unreachable(_) | StoreError::Loading))
                    if !turns.is_empty() && !self.is_over(deadline) =>
                {
                    deadline.min(Instant::now() + RETRY)
                }
                Err(error) => return Err(error),
            };
            tokio::select! {
                () = self.0.stop.cancelled() => return Ok(vec![Vec::new(); streams.len()]),
                () = tokio::time::sleep_until(pause) => {}
                () = place.called() => {}
                () = self.heard(turns.iter_mut().map(|turn| &mut turn.following)) => {}
            }
        }
    }

    /// Reads the streams whose turn has come, following each before it is read for the first time.
    async fn read_in_turn(
        &self,
        place: &Place<'_>,
        turns: &mut Vec<Turn>,
        streams: &[StreamName],
        group: &GroupName,
        read: &GroupRead,
    ) -> Result<Vec<Vec<Delivery>>, JoinError> {
        let mut new = place.first_in();
        new.retain(|index| !turns.iter().any(|turn| turn.stream == *index));
        let join = async |stream: usize| {
            self.join(&streams[stream]).await.map(|following| Turn { stream, following })
        };
        turns.extend(try_join_all(new.into_iter().map(join)).await?);
        let mut of_all = vec![Vec::new(); streams.len()];
        if turns.is_empty() {
            return Ok(of_all);
        }
        let ours: Vec<_> = turns.iter().map(|turn| streams[turn.stream].clone()).collect();
        let entries = self.read_group(&ours, group, read).await?;
        for (turn, entries) in turns.iter().zip(entries) {
            of_all[turn.stream] = entries;
        }
        Ok(of_all)
    }

    /// Until something happens in one of the streams.
    async fn heard<'a>(&self, following: impl Iterator<Item = &'a mut Awaited>) {
        let next: Vec<_> = following.map(|following| Box::pin(following.next())).collect();
        if next.is_empty() {
            pending::<()>().await;
        } else {
            select_all(next).await;
        }
    }

    fn is_over(&self, deadline: Instant) -> bool {
        Instant::now() >= deadline || self.0.stop.is_cancelled()
    }

    /// One XREADGROUP in a task of its own, so that it is never dropped half-way.
    async fn read_group(
        &self,
        streams: &[StreamName],
        group: &GroupName,
        read: &GroupRead,
    ) -> Result<Vec<Vec<Delivery>>, StoreError> {
        let (answer, answered) = tokio::sync::oneshot::channel();
        let (store, metrics): (Store, _) = (self.0.store.clone(), self.0.metrics.clone());
        let (streams, group, read) = (streams.to_vec(), group.clone(), read.clone());
        self.0.background.spawn(async move {
            let result = store.read_group(&streams, &group, &read).await;
            if let Err(Ok(of_all)) = answer.send(result)
                && read.history.is_none()
                && !read.no_ack
            {
                metrics.undelivered.inc_by(of_all.iter().map(Vec::len).sum::<usize>() as u64);
            }
        });
        answered
            .await
            .unwrap_or_else(|_| Err(StoreError::Unexpected("a read was dropped".to_owned())))
    }
}

/// A stream that a reader has the turn of, as its index, and follows.
struct Turn {
    stream: usize,
    following: Awaited,
}
