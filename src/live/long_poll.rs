//! Waiting reads of streams. They hold no Redis connection: they try to read, then sleep until a
//! stream has news.

use std::future::pending;
use std::time::Duration;

use futures_util::future::{select_all, try_join_all};
use tokio::time::Instant;

use crate::live::context::JoinError;
use crate::live::hub::Hub;
use crate::live::tail::Awaited;
use crate::model::id::EntryId;
use crate::model::name::StreamName;
use crate::model::position::Position;
use crate::redis::{Lane, RangePage, ReadPermit, StoreError};

/// Retry delay while Redis is unreachable.
pub(super) const RETRY: Duration = Duration::from_millis(200);

/// A read of one or more streams that can wait for the first entry in any of them.
pub struct RangeWait<'a> {
    /// The streams and the positions to read after. A stream may occur more than once.
    pub from: &'a [(StreamName, Position)],
    /// Maximum number of entries per stream.
    pub limit: usize,
    /// Maximum size of the entries per stream, in bytes.
    pub max_bytes: usize,
}

impl Hub {
    /// Reads one or more streams upwards, and returns the results in the same order. If no stream
    /// has entries, waits up to `wait` for one in any of them. A missing stream counts as empty.
    ///
    /// # Errors
    /// [`JoinError`]. While Redis is unreachable, the call keeps waiting and fails only after
    /// `wait`.
    /// # Cancel safety
    /// Safe.
    pub async fn read_or_wait(
        &self,
        read: &RangeWait<'_>,
        wait: Duration,
    ) -> Result<Vec<RangePage>, JoinError> {
        let deadline = Instant::now() + wait;
        let mut following = Vec::new();
        let alone = read.from.len() == 1;
        if !wait.is_zero() {
            following = try_join_all(read.from.iter().map(|(stream, _)| self.join(stream))).await?;
        }
        loop {
            let known: Vec<_> = following
                .iter_mut()
                .map(|awaited| awaited.following.mark_seen())
                .collect();
            let reads = read.from.iter().map(async |(stream, after)| {
                let (store, limit, bytes) = (&self.0.context.store, read.limit, read.max_bytes);
                let lane = &Lane::Shared;
                let mut read = store
                    .read_after(lane, stream, *after, EntryId::MAX, limit, bytes)
                    .await?;
                if !alone {
                    // Release the read budget before waiting for another read: callers that hold
                    // budget while waiting for more could deadlock.
                    read.permit = ReadPermit::default();
                }
                Ok::<_, StoreError>(read)
            });
            let reads = try_join_all(reads).await;
            for ((awaited, known), read) in following.iter().zip(known).zip(reads.iter().flatten())
            {
                self.compare(&awaited.following, known, &read.facts);
            }
            let pause = match reads {
                Ok(all) if !all.iter().all(RangePage::is_quiet) || self.is_over(deadline) => {
                    return Ok(all);
                }
                Ok(quiet) => {
                    // Release the read budget before the wait.
                    drop(quiet);
                    deadline
                }
                Err(error) if !error.is_passing() || self.is_over(deadline) => {
                    return Err(error.into());
                }
                Err(_) => deadline.min(Instant::now() + RETRY),
            };
            tokio::select! {
                () = self.0.context.stop.cancelled() => {}
                () = tokio::time::sleep_until(pause) => {}
                () = self.heard(following.iter_mut()) => {}
            }
        }
    }

    /// Waits for news of any of the streams.
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
        Instant::now() >= deadline || self.0.context.stop.is_cancelled()
    }
}
