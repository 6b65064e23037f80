//! Reads of streams that wait for entries without holding a Redis connection: they try, then sleep
//! until a stream is fed.

use std::future::pending;
use std::time::Duration;

use futures_util::future::{select_all, try_join_all};
use tokio::time::Instant;

use super::hub::{Hub, JoinError};
use super::tail::Awaited;
use crate::model::id::EntryId;
use crate::model::name::StreamName;
use crate::model::position::Position;
use crate::store::{Lane, Room, StoreError, Stretch};

/// While Redis is away.
pub(super) const RETRY: Duration = Duration::from_millis(200);

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
    /// Reads one or more streams upwards, in their order; if none has anything, waits up to `wait`
    /// for an entry in one of them. A stream that does not exist is an empty one.
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
        let alone = read.from.len() == 1;
        if !wait.is_zero() {
            following = try_join_all(read.from.iter().map(|(stream, _)| self.join(stream))).await?;
        }
        loop {
            let known: Vec<_> = following
                .iter_mut()
                .map(|awaited| awaited.following.looks())
                .collect();
            let reads = read.from.iter().map(async |(stream, after)| {
                let (store, limit, bytes) = (&self.0.store, read.limit, read.max_bytes);
                let lane = &Lane::Shared;
                let mut read = store
                    .read_after(lane, stream, *after, EntryId::MAX, limit, bytes)
                    .await?;
                if !alone {
                    // Who held room while waiting for more might wait for those who do the same.
                    read.room = Room::default();
                }
                Ok::<_, StoreError>(read)
            });
            let reads = try_join_all(reads).await;
            for ((awaited, known), read) in following.iter().zip(known).zip(reads.iter().flatten())
            {
                awaited.following.compare(known, &read.facts, &self.0);
            }
            let pause = match reads {
                Ok(all) if !all.iter().all(Stretch::is_quiet) || self.is_over(deadline) => {
                    return Ok(all);
                }
                Ok(_) => deadline,
                Err(error) if !error.is_passing() || self.is_over(deadline) => {
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

    /// Until something happens in one of the streams.
    pub(super) async fn heard<'a>(&self, following: impl Iterator<Item = &'a mut Awaited>) {
        let next: Vec<_> = following
            .map(|following| Box::pin(following.next()))
            .collect();
        if next.is_empty() {
            pending::<()>().await;
        } else {
            select_all(next).await;
        }
    }

    pub(super) fn is_over(&self, deadline: Instant) -> bool {
        Instant::now() >= deadline || self.0.stop.is_cancelled()
    }
}
