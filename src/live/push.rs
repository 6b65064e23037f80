//! Deliveries that are pushed: a reader of a group that is read for, as far as its credit goes.
//!
//! Credit is how many entries may be lent at once. It is given back by whatever ends a lease at any
//! gateway (ack, nack, reject) and by `extend`, whose new receipt is the worker's own business. That
//! is seen in the leases themselves, looked at before each read and a few times a second while there
//! is no credit. When a session ends, what it lent and nobody has said anything of goes back as if it
//! had never been delivered.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::hub::{Hub, JoinError};
use super::signal::Closing;
use super::waiting::RETRY;
use crate::metrics::Held;
use crate::model::id::EntryId;
use crate::model::name::{GroupName, StreamName};
use crate::model::validity::Validity;
use crate::store::{Delivery, Item, Settlement, Store, StoreError, WorkRead};

/// Between looks for credit.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The longest a read waits before credit is looked at again.
const READ_FOR: Duration = Duration::from_secs(1);

/// What a session is told to do.
#[derive(Clone, Debug)]
pub struct PushPlan {
    /// The stream.
    pub stream: StreamName,
    /// Its group, which has a policy.
    pub group: GroupName,
    /// For whom; its `count` is the credit.
    pub work: WorkRead,
    /// How long after the end entries go back.
    pub grace: Duration,
    /// Between signs of life, at most.
    pub heartbeat: Duration,
    /// How long the credential is good.
    pub validity: Validity,
}

/// What a session hands out next.
pub enum Pushed {
    /// Entries, at least one.
    Entries(Vec<Delivery>),
    /// Nothing, for a while.
    Quiet,
    /// It is over, and why; everything has gone back.
    Over(Closing),
}

/// How often a session looks whether its credential is still good.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A session.
pub struct Push {
    hub: Hub,
    store: Store,
    plan: PushPlan,
    /// What was lent and not heard of since, with the ends of the leases.
    lent: BTreeMap<EntryId, u64>,
    ended: bool,
    _counted: (Held, Held),
}

impl Push {
    /// A session that has read nothing yet.
    #[must_use]
    pub fn new(hub: Hub, store: Store, plan: PushPlan, counted: (Held, Held)) -> Self {
        Self { hub, store, plan, lent: BTreeMap::new(), ended: false, _counted: counted }
    }

    /// What comes next; `None` after the end. Quiet until a passing failure of Redis is over.
    ///
    /// # Errors
    /// What ends the session: [`JoinError`].
    /// # Cancel safety
    /// Safe: what is read for nobody is handed back.
    pub async fn next(&mut self) -> Option<Result<Pushed, JoinError>> {
        if self.ended {
            return None;
        }
        let quiet_at = Instant::now() + self.plan.heartbeat.mul_f64(0.8 + 0.4 * fastrand::f64());
        loop {
            let over = match () {
                () if self.hub.0.stop.is_cancelled() => Some(Closing::Draining),
                () if self.plan.validity.is_over() => Some(Closing::Expired),
                () => None,
            };
            if let Some(closing) = over {
                self.ended = true;
                hand_back(&self.store, &self.plan, std::mem::take(&mut self.lent)).await;
                return Some(Ok(Pushed::Over(closing)));
            }
            let left = quiet_at.saturating_duration_since(Instant::now());
            // Nobody is woken when a credential is taken back.
            let left = left.min(LOOK_AGAIN).min(self.plan.validity.left().unwrap_or(left));
            if quiet_at <= Instant::now() {
                return Some(Ok(Pushed::Quiet));
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

    async fn pause(&self, pause: Duration) {
        tokio::select! {
            () = self.hub.0.stop.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }

    /// As many entries as there is credit for; none after `left`, or some time before.
    async fn read(&mut self, left: Duration) -> Result<Vec<Delivery>, JoinError> {
        let (stream, group) = (&self.plan.stream, &self.plan.group);
        if !self.lent.is_empty() {
            let ids: Vec<EntryId> = self.lent.keys().copied().collect();
            let ends = self.store.lease_ends(stream, group, &ids).await?;
            for (id, end) in ids.into_iter().zip(ends) {
                if self.lent.get(&id).copied() != end {
                    self.lent.remove(&id);
                }
            }
        }
        let mut work = self.plan.work.clone();
        work.read.count = work.read.count.saturating_sub(self.lent.len());
        if work.read.count == 0 {
            self.pause(LOOK_EVERY.min(left)).await;
            return Ok(Vec::new());
        }
        // While nothing is lent there is no credit to be given back.
        let wait = if self.lent.is_empty() { left } else { READ_FOR.min(left) };
        let entries = self.hub.read_group_or_wait(&self.store, stream, group, &work, wait).await?;
        for entry in &entries {
            let Some(until_us) = entry.lease.and_then(|lease| lease.until_us) else {
                // The policy was taken away: what was read stays pending, as in any plain group.
                return Err(StoreError::GroupHasNoPolicy.into());
            };
            self.lent.insert(entry.id, until_us);
        }
        Ok(entries)
    }
}

async fn hand_back(store: &Store, plan: &PushPlan, lent: BTreeMap<EntryId, u64>) {
    let items: Vec<Item> =
        lent.into_iter().map(|(id, until_us)| Item { id, until_us: Some(until_us) }).collect();
    if items.is_empty() {
        return;
    }
    let settled = store.settle(&plan.stream, &plan.group, &items, &Settlement::HandBack).await;
    if let Err(error) = settled {
        tracing::debug!(%error, "pushed entries were not handed back: their leases end by themselves");
    }
}

impl Drop for Push {
    fn drop(&mut self) {
        let lent = std::mem::take(&mut self.lent);
        if lent.is_empty() {
            return;
        }
        let (plan, stop) = (self.plan.clone(), self.hub.0.stop.clone());
        // Not over the connection of the thread that served it, which may end with it.
        let store = self.hub.0.store.clone();
        self.hub.0.background.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(plan.grace) => {}
            }
            hand_back(&store, &plan, lent).await;
        });
    }
}
