//! Settlement of entries that consumers hold: ack, nack, reject and extend, over any number of
//! streams.

use futures_util::future::join_all;

use crate::model::name::{GroupName, StreamName};
use crate::redis::{
    AckPublish, AckPublished, Item, LeaseOperation, LeaseOutcome, ReferencePolicy, StoreError,
};
use crate::service::Services;

/// Entries of one stream.
#[derive(Clone, Debug)]
pub struct StreamItems {
    /// The stream.
    pub stream: StreamName,
    /// The entries; not empty.
    pub items: Vec<Item>,
}

/// The change to make to each entry.
#[derive(Debug)]
pub enum Settlement {
    /// Acknowledges, and deletes what is acknowledged if there is a policy for other groups.
    Ack(Option<ReferencePolicy>),
    /// Changes the lease.
    Lease(LeaseOperation),
}

/// The reason why entries were not settled.
#[derive(Debug)]
pub enum SettleError {
    /// Redis failed before anything was changed.
    NotStarted(StoreError),
    /// The group of one stream is missing. Nothing was changed.
    GroupMissing {
        /// The index of the stream.
        stream: usize,
        /// [`StoreError::GroupNotFound`] or [`StoreError::NotAStream`].
        error: StoreError,
    },
    /// An error of Redis for one stream. Entries of other streams may be settled.
    Failed {
        /// The index of the stream.
        stream: usize,
        /// The error.
        error: StoreError,
    },
}

impl Services {
    /// Appends entries and acknowledges others in one step, or does nothing.
    ///
    /// # Errors
    /// Same as [`Store::ack_and_publish`](crate::redis::Store::ack_and_publish).
    /// # Cancel safety
    /// If dropped, the step may be done.
    pub async fn ack_and_publish(
        &self,
        stream: &StreamName,
        group: &GroupName,
        step: &AckPublish,
    ) -> Result<AckPublished, StoreError> {
        let done = self.store.ack_and_publish(stream, group, step).await?;
        if let AckPublished::Done(outcomes) = &done {
            let mut new: Vec<(&StreamName, u64)> = Vec::new();
            for ((to, _), _) in step
                .entries
                .iter()
                .zip(outcomes)
                .filter(|(_, outcome)| !outcome.replayed)
            {
                match new.iter_mut().find(|(known, _)| *known == to) {
                    Some((_, count)) => *count += 1,
                    None => new.push((to, 1)),
                }
            }
            for (to, count) in new {
                self.metrics.published.inc_by(count);
                self.hub.appended(to);
                let retention = &self.jobs.retention;
                retention.after_append(&self.store, to, count).await;
            }
        }
        Ok(done)
    }

    /// Settles entries in the groups with one name. Returns one list of outcomes per stream, in the
    /// order of its entries. With several streams, nothing is changed unless each has the group.
    ///
    /// # Errors
    /// [`SettleError`].
    /// # Cancel safety
    /// If dropped, any of the entries may be settled.
    pub async fn settle(
        &self,
        group: &GroupName,
        streams: &[StreamItems],
        settlement: &Settlement,
    ) -> Result<Vec<Vec<LeaseOutcome>>, SettleError> {
        if streams.len() > 1 {
            let names: Vec<_> = streams.iter().map(|one| one.stream.clone()).collect();
            let missing = self.store.lacks_group(&names, group).await;
            if let Some((stream, error)) = missing.map_err(SettleError::NotStarted)? {
                return Err(SettleError::GroupMissing { stream, error });
            }
        }
        let calls = streams.iter().map(async |one| match settlement {
            Settlement::Ack(delete) => {
                let ack = self.store.ack(&one.stream, group, &one.items, *delete);
                ack.await
            }
            Settlement::Lease(operation) => {
                let settle = self
                    .store
                    .settle_leases(&one.stream, group, &one.items, operation);
                settle.await
            }
        });
        let outcomes = join_all(calls).await;
        let dead = outcomes.iter().flatten().flatten();
        let dead = dead.filter(|outcome| **outcome == LeaseOutcome::DeadLettered);
        let reason = match settlement {
            Settlement::Lease(LeaseOperation::Reject { .. }) => "rejected",
            _ => "max-deliveries",
        };
        self.metrics.count_dead_letters(reason, dead.count() as u64);
        let outcomes = outcomes.into_iter().enumerate();
        outcomes
            .map(|(stream, outcomes)| {
                outcomes.map_err(|error| SettleError::Failed { stream, error })
            })
            .collect()
    }
}
