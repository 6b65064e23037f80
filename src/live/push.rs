//! Deliveries that are pushed: a reader of a group that is read for, as far as its credit goes.
//!
//! Credit is how many entries may be lent at once. It is given back by whatever ends a lease: ack,
//! nack and reject at any gateway, an acknowledgement or claim by a native client, the end of the
//! lease itself; and by `extend`, whose new receipt is the worker's own business. The session sees
//! it in the leases, before each read and ten times a second while there is no credit.
//!
//! When a session ends, the entries without an answer are handed back as if they had never been
//! delivered. A session whose connection broke may have lost its worker to one of these entries. So
//! the oldest `concurrency` of them, which the worker is taken to have begun, count as delivered.

use std::time::Duration;

use tokio::time::Instant;

use super::hub::{Hub, JoinError};
use super::signal::Closing;
use super::waiting::RETRY;
use crate::metrics::Held;
use crate::model::name::{GroupName, StreamName};
use crate::model::validity::Validity;
use crate::store::{Delivery, Item, Settled, Settlement, Store, StoreError, WorkRead};

/// Between looks for credit.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The longest a read waits before credit is looked at again.
const READ_FOR: Duration = Duration::from_secs(1);
/// How often the list of pending entries is compared too, which costs Redis a lookup for each
/// entry.
const COMPARE_EVERY: Duration = Duration::from_secs(1);
/// How long before the break an entry must have been written to be taken for begun.
const BEGUN_AFTER: Duration = Duration::from_secs(1);

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
    /// Entries that the worker processes at once.
    pub concurrency: usize,
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

/// An entry that was written to the worker and has no answer yet.
struct Lent {
    item: Item,
    written: Instant,
}

/// A session.
pub struct Push {
    hub: Hub,
    store: Store,
    plan: PushPlan,
    /// Entries without an answer, in the order they were written.
    lent: Vec<Lent>,
    /// When the leases were last compared with the list of pending entries.
    compared: Instant,
    ended: bool,
    _counted: (Held, Held),
}

impl Push {
    /// A session that has read nothing yet.
    #[must_use]
    pub fn new(hub: Hub, store: Store, plan: PushPlan, counted: (Held, Held)) -> Self {
        let compared = Instant::now();
        Self {
            hub,
            store,
            plan,
            lent: Vec::new(),
            compared,
            ended: false,
            _counted: counted,
        }
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
                hand_back(&self.store, &self.plan, &std::mem::take(&mut self.lent)).await;
                return Some(Ok(Pushed::Over(closing)));
            }
            let left = quiet_at.saturating_duration_since(Instant::now());
            // Nobody is woken when a credential is taken back.
            let left = left
                .min(LOOK_AGAIN)
                .min(self.plan.validity.left().unwrap_or(left));
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
        let compare = self.compared.elapsed() >= COMPARE_EVERY;
        if compare {
            self.compared = Instant::now();
        }
        keep_held(&self.store, &self.plan, &mut self.lent, compare).await?;
        let (stream, group) = (&self.plan.stream, &self.plan.group);
        let mut work = self.plan.work.clone();
        work.read.count = work.read.count.saturating_sub(self.lent.len());
        if work.read.count == 0 {
            self.pause(LOOK_EVERY.min(left)).await;
            return Ok(Vec::new());
        }
        // While nothing is lent there is no credit to be given back.
        let wait = if self.lent.is_empty() {
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
                // The policy was taken away: what was read stays pending, as in any plain group.
                return Err(StoreError::GroupHasNoPolicy.into());
            };
            let item = Item {
                id: entry.id,
                until_us: Some(until_us),
            };
            self.lent.push(Lent {
                item,
                written: Instant::now(),
            });
        }
        Ok(entries)
    }
}

/// Drops the entries whose leases have ended, in whatever way.
async fn keep_held(
    store: &Store,
    plan: &PushPlan,
    lent: &mut Vec<Lent>,
    compare: bool,
) -> Result<(), StoreError> {
    if lent.is_empty() {
        return Ok(());
    }
    let leases: Vec<Item> = lent.iter().map(|one| one.item).collect();
    let consumer = &plan.work.read.consumer;
    let holds = store
        .lease_holds(&plan.stream, &plan.group, consumer, &leases, compare)
        .await?;
    let mut holds = holds.into_iter();
    lent.retain(|_| holds.next().unwrap_or(false));
    Ok(())
}

/// Hands entries back as if they had not been delivered.
async fn hand_back(store: &Store, plan: &PushPlan, lent: &[Lent]) {
    give_back(store, plan, lent, &Settlement::HandBack).await;
}

/// Hands entries back after the connection broke. The oldest `concurrency` count as delivered if
/// they were written a second before; one delivered as often as it may be becomes a dead letter.
/// Answers how many did.
async fn hand_back_broken(
    store: &Store,
    plan: &PushPlan,
    mut lent: Vec<Lent>,
    broken: Instant,
) -> u64 {
    // An entry that was answered must not take the place of one that was not.
    if let Err(error) = keep_held(store, plan, &mut lent, true).await {
        tracing::debug!(%error, "the leases of a broken session were not compared");
    }
    let oldest = lent.iter().take(plan.concurrency);
    let begun = oldest
        .take_while(|one| one.written + BEGUN_AFTER <= broken)
        .count();
    let never_begun = lent.split_off(begun);
    let again = Settlement::Nack {
        delay: Some(Duration::ZERO),
        reason: None,
    };
    let settled = give_back(store, plan, &lent, &again).await;
    hand_back(store, plan, &never_begun).await;
    settled
        .iter()
        .filter(|settled| **settled == Settled::DeadLettered)
        .count() as u64
}

async fn give_back(
    store: &Store,
    plan: &PushPlan,
    lent: &[Lent],
    how: &Settlement,
) -> Vec<Settled> {
    if lent.is_empty() {
        return Vec::new();
    }
    let items: Vec<Item> = lent.iter().map(|one| one.item).collect();
    let settled = store.settle(&plan.stream, &plan.group, &items, how).await;
    settled.unwrap_or_else(|error| {
        tracing::debug!(%error, "pushed entries were not handed back: their leases end by themselves");
        Vec::new()
    })
}

impl Drop for Push {
    fn drop(&mut self) {
        let lent = std::mem::take(&mut self.lent);
        if lent.is_empty() {
            return;
        }
        // A session that was ended here did not lose its worker.
        let broken = (!self.ended).then(Instant::now);
        let (plan, hub) = (self.plan.clone(), self.hub.0.clone());
        self.hub.0.background.spawn(async move {
            tokio::select! {
                () = hub.stop.cancelled() => {}
                () = tokio::time::sleep(plan.grace) => {}
            }
            // Not over the connection of the thread that served it, which may end with it.
            match broken {
                Some(at) => {
                    let dead = hand_back_broken(&hub.store, &plan, lent, at).await;
                    hub.metrics.bury("max-deliveries", dead);
                }
                None => hand_back(&hub.store, &plan, &lent).await,
            }
        });
    }
}
