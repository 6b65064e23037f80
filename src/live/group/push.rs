//! Push delivery: a session reads a group for one worker, within the credit of the worker.
//!
//! Credit is the maximum number of entries leased to the worker at once. Every end of a lease
//! returns credit: ack, nack and reject at any gateway, an acknowledgement or claim by a native
//! client, and expiry. `extend` also returns credit, because the session does not know the new
//! receipt. The session checks the leases before each read, and ten times per second while it has
//! no credit.
//!
//! When a session ends, entries without an answer are handed back as if they had never been
//! delivered. If the connection failed, one of these entries may have crashed the worker. The
//! session assumes that the worker had started the oldest `concurrency` entries, which therefore
//! count as delivered.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::live::context::JoinError;
use crate::live::control_events::{EndReason, Signal};
use crate::live::hub::Hub;
use crate::live::long_poll::RETRY;
use crate::live::subscribe_plan::SubscriptionSlot;
use crate::live::timing::spread;
use crate::model::frame::Framing;
use crate::model::name::{GroupName, StreamName};
use crate::model::validity::Validity;
use crate::redis::{ConsumerRead, Delivery, Item, LeaseOperation, LeaseOutcome, Store, StoreError};

/// Interval between checks for credit.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Maximum wait of one read, before credit is checked again.
const READ_FOR: Duration = Duration::from_secs(1);
/// Interval between comparisons with the list of pending entries, which cost Redis one lookup per
/// entry.
const COMPARE_EVERY: Duration = Duration::from_secs(1);
/// Minimum time between the write of an entry and the failure of the connection, for the entry to
/// count as started.
const BEGUN_AFTER: Duration = Duration::from_secs(1);

/// The parameters of a push session.
#[derive(Clone, Debug)]
pub struct PushPlan {
    /// The stream to read.
    pub stream: StreamName,
    /// The group, which has a policy.
    pub group: GroupName,
    /// The consumer and options of the reads. `count` is the credit.
    pub work: ConsumerRead,
    /// The delay between the end of the session and handing back its entries.
    pub grace: Duration,
    /// Number of entries that the worker processes concurrently.
    pub concurrency: usize,
    /// Interval between heartbeats, ±20 %.
    pub heartbeat: Duration,
    /// The validity of the credential.
    pub validity: Validity,
}

/// The next output of a session.
pub enum Pushed {
    /// Entries, at least one.
    Entries(Vec<Delivery>),
    /// A control event or a heartbeat, as a frame.
    Control(Bytes),
}

/// Interval between checks of the credential.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A leased entry that was written to the worker and has no answer yet.
struct OutstandingEntry {
    item: Item,
    written: Instant,
}

/// A push session.
pub struct Push {
    hub: Hub,
    store: Store,
    plan: PushPlan,
    /// Entries without an answer, in the order of writing.
    outstanding: Vec<OutstandingEntry>,
    /// The time of the last comparison with the list of pending entries.
    compared: Instant,
    /// Whether `$open` is still to be returned.
    unopened: bool,
    ended: bool,
    _counted: SubscriptionSlot,
}

impl Push {
    /// Returns a session that has read nothing yet.
    #[must_use]
    pub fn new(hub: Hub, store: Store, plan: PushPlan, counted: SubscriptionSlot) -> Self {
        let compared = Instant::now();
        Self {
            hub,
            store,
            plan,
            outstanding: Vec::new(),
            compared,
            unopened: true,
            ended: false,
            _counted: counted,
        }
    }

    /// Returns the next output, or `None` after the end of the session. Waits through temporary
    /// failures of Redis and only returns heartbeats meanwhile.
    ///
    /// # Errors
    /// [`JoinError`], which ends the session.
    /// # Cancel safety
    /// Safe: entries of a dropped read are handed back.
    pub async fn next(&mut self) -> Option<Result<Pushed, JoinError>> {
        if self.ended {
            return None;
        }
        if std::mem::take(&mut self.unopened) {
            return Some(Ok(Pushed::Control(self.open_event())));
        }
        let quiet_at = Instant::now() + spread(self.plan.heartbeat);
        loop {
            let over = match () {
                () if self.hub.0.context.stop.is_cancelled() => Some(EndReason::Draining),
                () if self.plan.validity.is_over() => Some(EndReason::Expired),
                () => None,
            };
            if let Some(closing) = over {
                self.ended = true;
                hand_back(
                    &self.store,
                    &self.plan,
                    &std::mem::take(&mut self.outstanding),
                )
                .await;
                return Some(Ok(Pushed::Control(closing.frame(Framing::Events))));
            }
            let left = quiet_at.saturating_duration_since(Instant::now());
            // A session gets no wake-up when its credential is revoked, so it polls.
            let left = left
                .min(LOOK_AGAIN)
                .min(self.plan.validity.remaining().unwrap_or(left));
            if quiet_at <= Instant::now() {
                let heartbeat = Framing::Events.heartbeat();
                return Some(Ok(Pushed::Control(heartbeat.as_bytes().into())));
            }
            match self.read(left).await {
                Ok(entries) if entries.is_empty() => {}
                Ok(entries) => return Some(Ok(Pushed::Entries(entries))),
                Err(JoinError::Store(error)) if error.is_passing() => self.pause(RETRY).await,
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
    }

    fn open_event(&self) -> Bytes {
        let open = Signal::OpenPush {
            streams: [self.plan.stream.public_name()],
            group: &self.plan.group,
        };
        let mut out = Vec::new();
        open.write(&mut out, None, Framing::Events);
        out.into()
    }

    async fn pause(&self, pause: Duration) {
        tokio::select! {
            () = self.hub.0.context.stop.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }

    /// Reads as many entries as there is credit for. Returns an empty list after at most `left`.
    async fn read(&mut self, left: Duration) -> Result<Vec<Delivery>, JoinError> {
        let compare = self.compared.elapsed() >= COMPARE_EVERY;
        if compare {
            self.compared = Instant::now();
        }
        match keep_held(&self.store, &self.plan, &mut self.outstanding, compare).await {
            // The leases were lost with the group, which the next read creates.
            Err(StoreError::GroupNotFound) if self.plan.work.first_use.creates() => {
                self.outstanding.clear();
            }
            kept => kept?,
        }
        let (stream, group) = (&self.plan.stream, &self.plan.group);
        let mut work = self.plan.work.clone();
        work.read.count = work.read.count.saturating_sub(self.outstanding.len());
        if work.read.count == 0 {
            self.pause(LOOK_EVERY.min(left)).await;
            return Ok(Vec::new());
        }
        // Without leased entries no credit can return, so a long wait is fine.
        let wait = if self.outstanding.is_empty() {
            left
        } else {
            READ_FOR.min(left)
        };
        let entries = self
            .hub
            .read_group_or_wait(&self.store, stream, group, &work, wait)
            .await?;
        for entry in &entries {
            let Some(until_us) = entry.lease.and_then(|lease| lease.until_us) else {
                // The policy was removed: the entries stay pending, as in any plain group.
                return Err(StoreError::GroupHasNoPolicy.into());
            };
            let item = Item {
                id: entry.id,
                until_us: Some(until_us),
            };
            self.outstanding.push(OutstandingEntry {
                item,
                written: Instant::now(),
            });
        }
        Ok(entries)
    }
}

/// Removes the entries whose leases have ended in any way.
async fn keep_held(
    store: &Store,
    plan: &PushPlan,
    outstanding: &mut Vec<OutstandingEntry>,
    compare: bool,
) -> Result<(), StoreError> {
    if outstanding.is_empty() {
        return Ok(());
    }
    let leases: Vec<Item> = outstanding.iter().map(|one| one.item).collect();
    let consumer = &plan.work.read.consumer;
    let holds = store
        .lease_holds(&plan.stream, &plan.group, consumer, &leases, compare)
        .await?;
    let mut holds = holds.into_iter();
    outstanding.retain(|_| holds.next().unwrap_or(false));
    Ok(())
}

/// Hands entries back as if they had never been delivered.
async fn hand_back(store: &Store, plan: &PushPlan, outstanding: &[OutstandingEntry]) {
    give_back(store, plan, outstanding, &LeaseOperation::HandBack).await;
}

/// Hands entries back after the connection failed.
///
/// The oldest `concurrency` entries count as delivered if they were written at least
/// [`BEGUN_AFTER`] before the failure. An entry that reaches its maximum number of deliveries
/// becomes a dead letter. Returns the number of dead letters.
async fn hand_back_broken(
    store: &Store,
    plan: &PushPlan,
    mut outstanding: Vec<OutstandingEntry>,
    broken: Instant,
) -> u64 {
    // An answered entry must not take the place of an unanswered one.
    if let Err(error) = keep_held(store, plan, &mut outstanding, true).await {
        tracing::debug!(%error, "cannot compare the leases of a failed push session");
    }
    let oldest = outstanding.iter().take(plan.concurrency);
    let begun = oldest
        .take_while(|one| one.written + BEGUN_AFTER <= broken)
        .count();
    let never_begun = outstanding.split_off(begun);
    let again = LeaseOperation::Nack {
        delay: Some(Duration::ZERO),
        reason: None,
    };
    let settled = give_back(store, plan, &outstanding, &again).await;
    hand_back(store, plan, &never_begun).await;
    settled
        .iter()
        .filter(|settled| **settled == LeaseOutcome::DeadLettered)
        .count() as u64
}

async fn give_back(
    store: &Store,
    plan: &PushPlan,
    outstanding: &[OutstandingEntry],
    how: &LeaseOperation,
) -> Vec<LeaseOutcome> {
    if outstanding.is_empty() {
        return Vec::new();
    }
    let items: Vec<Item> = outstanding.iter().map(|one| one.item).collect();
    let settled = store
        .settle_leases(&plan.stream, &plan.group, &items, how)
        .await;
    settled.unwrap_or_else(|error| {
        tracing::debug!(%error, "cannot hand back pushed entries; their leases will expire");
        Vec::new()
    })
}

impl Drop for Push {
    fn drop(&mut self) {
        let outstanding = std::mem::take(&mut self.outstanding);
        if outstanding.is_empty() {
            return;
        }
        // If the gateway ended the session, the worker did not crash.
        let broken = (!self.ended).then(Instant::now);
        let (plan, context) = (self.plan.clone(), self.hub.0.context.clone());
        self.hub.0.context.background.spawn(async move {
            tokio::select! {
                () = context.stop.cancelled() => {}
                () = tokio::time::sleep(plan.grace) => {}
            }
            // Uses the hub's connections: those of the worker thread may end with the session.
            match broken {
                Some(at) => {
                    let dead = hand_back_broken(&context.store, &plan, outstanding, at).await;
                    context.metrics.count_dead_letters("max-deliveries", dead);
                }
                None => hand_back(&context.store, &plan, &outstanding).await,
            }
        });
    }
}
