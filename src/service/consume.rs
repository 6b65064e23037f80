//! Reads as a consumer: admission of the consumer, the limit of waiting reads, push sessions.

use std::slice;
use std::time::Duration;

use crate::auth::Principal;
use crate::live::{JoinError, Push, PushPlan};
use crate::metrics::{GaugeGuard, Metrics};
use crate::model::name::{ConsumerName, GroupName, StreamName};
use crate::redis::{ConsumerRead, StoreError, StreamDelivery};
use crate::service::Services;
use crate::service::follow::SubscriptionLimit;
use crate::service::publish::TRACEPARENT;
use crate::shares::{self, Bound, Held, ShareExceeded};
use crate::trace;

/// The reason why a read as a consumer failed.
#[derive(Debug)]
pub enum ConsumeError {
    /// The consumer was not admitted to the group of one stream. Nothing was read.
    NotAdmitted {
        /// The index of the stream.
        stream: usize,
        /// The reason.
        error: AdmissionError,
    },
    /// No further read may wait. Nothing was read.
    Waiting(WaitingLimit),
    /// The group of one stream is missing. Nothing was read.
    GroupMissing {
        /// The index of the stream.
        stream: usize,
        /// [`StoreError::GroupNotFound`] or [`StoreError::NotAStream`].
        error: StoreError,
    },
    /// The streams cannot be followed, or Redis failed.
    Join(JoinError),
}

/// The reason why a consumer was not admitted to a group.
#[derive(Debug)]
pub enum AdmissionError {
    /// The consumer is new, and the group has the maximum number of consumers.
    TooManyConsumers {
        /// Maximum number of consumers.
        max: usize,
    },
    /// Redis failed.
    Store(StoreError),
}

/// The limit of waiting reads that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitingLimit {
    /// The limit of the gateway.
    OfGateway,
    /// The share of the caller.
    Share(ShareExceeded),
}

/// Guards that count a read as waiting: among all, and in the share of its caller.
pub type WaitingSlot = (GaugeGuard, Option<Held>);

/// The reason why a push session cannot be opened.
#[derive(Debug)]
pub enum PushError {
    /// The group has no policy, or Redis failed.
    Store(StoreError),
    /// The consumer was not admitted.
    NotAdmitted(AdmissionError),
    /// A limit of subscriptions was reached.
    Limit(SubscriptionLimit),
}

/// Links the span of a traced request to the appends of the entries that it read.
fn link_producers(read: &[StreamDelivery]) {
    if !trace::is_active() {
        return;
    }
    let entries = read.iter().flatten().flatten();
    for (name, value) in entries.filter_map(|entry| entry.fields.as_ref()).flatten() {
        if name == TRACEPARENT {
            trace::link(value);
        }
    }
}

impl Services {
    /// Admits a consumer that exists or that the group may still create.
    ///
    /// # Errors
    /// [`AdmissionError`].
    /// # Cancel safety
    /// Safe.
    pub async fn admit_consumer(
        &self,
        stream: &StreamName,
        group: &GroupName,
        consumer: &ConsumerName,
    ) -> Result<(), AdmissionError> {
        let max = self.limits.max_consumers;
        match self.store.admits(stream, group, consumer, max).await {
            Ok(true) => Ok(()),
            Ok(false) => {
                self.metrics.refuse("consumers");
                Err(AdmissionError::TooManyConsumers { max })
            }
            Err(error) => Err(AdmissionError::Store(error)),
        }
    }

    /// Takes a slot among the waiting reads, held until the guards are dropped. A read that does not
    /// wait needs none.
    ///
    /// # Errors
    /// The limit that was reached.
    pub fn waiting_slot(&self, wait: Duration) -> Result<Option<WaitingSlot>, WaitingLimit> {
        if wait.is_zero() {
            return Ok(None);
        }
        let max = self.limits.max_waiting;
        let share = shares::take(Bound::WaitingReads, 1, max).map_err(|exceeded| {
            self.metrics.refuse(exceeded.bound.metric());
            WaitingLimit::Share(exceeded)
        })?;
        let Some(slot) = Metrics::raise_below(&self.metrics.waiting, max) else {
            self.metrics.refuse("waiting_reads");
            return Err(WaitingLimit::OfGateway);
        };
        Ok(Some((slot, share)))
    }

    /// Reads distinct streams as a consumer of the groups with one name. If there are no entries,
    /// waits up to `wait` for one in any stream. Returns one result per stream. No entry is read
    /// unless each stream has the group.
    ///
    /// # Errors
    /// [`ConsumeError`].
    /// # Cancel safety
    /// If dropped, entries that were read are handed back in a group with a policy. In a plain
    /// group they stay pending with the consumer.
    pub async fn read_groups(
        &self,
        streams: &[StreamName],
        group: &GroupName,
        read: &ConsumerRead,
        wait: Duration,
    ) -> Result<Vec<StreamDelivery>, ConsumeError> {
        for (index, stream) in streams.iter().enumerate() {
            let admitted = self.admit_consumer(stream, group, &read.read.consumer);
            let admitted = admitted.await;
            admitted.map_err(|error| ConsumeError::NotAdmitted {
                stream: index,
                error,
            })?;
        }
        let (hub, store) = (&self.hub, &self.store);
        let at_once = hub.read_groups_at_once(store, streams, group, read, wait);
        let read = match at_once.await {
            Ok(Some(read)) => Ok(read),
            Ok(None) => {
                let _slot = self.waiting_slot(wait).map_err(ConsumeError::Waiting)?;
                let wait = hub.wait_for_groups(store, streams, group, read, wait);
                wait.await
            }
            Err(error) => Err(error.into()),
        };
        match read {
            Ok(read) => {
                link_producers(&read);
                Ok(read)
            }
            Err(error) => Err(self.located(streams, group, error).await),
        }
    }

    /// Finds the stream whose group is missing. The error of Redis does not name it reliably.
    async fn located(
        &self,
        streams: &[StreamName],
        group: &GroupName,
        error: JoinError,
    ) -> ConsumeError {
        let of_one_stream = matches!(
            error,
            JoinError::Store(StoreError::GroupNotFound | StoreError::NotAStream)
        );
        if of_one_stream
            && streams.len() > 1
            && let Ok(Some((stream, error))) = self.store.lacks_group(streams, group).await
        {
            return ConsumeError::GroupMissing { stream, error };
        }
        ConsumeError::Join(error)
    }

    /// Checks that the group has a policy. Creates the group if it is missing and the plan says so.
    async fn require_policy(&self, plan: &PushPlan) -> Result<(), StoreError> {
        let (stream, group, first_use) = (&plan.stream, &plan.group, &plan.work.first_use);
        let found = self.store.needed_policy(stream, group).await;
        if matches!(found, Err(StoreError::GroupNotFound)) && first_use.creates() {
            let streams = slice::from_ref(stream);
            self.store.create_missing(streams, group, first_use).await?;
            self.store.needed_policy(stream, group).await?;
            return Ok(());
        }
        found.map(|_| ())
    }

    /// Opens a push session, which counts as a subscription.
    ///
    /// # Errors
    /// [`PushError`].
    /// # Cancel safety
    /// Safe.
    pub async fn push(&self, principal: &Principal, plan: PushPlan) -> Result<Push, PushError> {
        let (stream, group) = (&plan.stream, &plan.group);
        self.require_policy(&plan).await.map_err(PushError::Store)?;
        self.admit_consumer(stream, group, &plan.work.read.consumer)
            .await
            .map_err(PushError::NotAdmitted)?;
        let slots = self.subscription(principal).map_err(PushError::Limit)?;
        Ok(Push::new(self.hub.clone(), self.store.clone(), plan, slots))
    }
}
