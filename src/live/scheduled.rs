//! Appending what was scheduled, when it is due.
//!
//! One gateway does it, by a lock in Redis; that it happens once is the script's doing, not the
//! lock's. The holder sleeps until the first is due, and listens for what is due before that. While
//! nothing is scheduled anywhere nobody holds the lock; who schedules tries to take it at once, and
//! all others look every two seconds, also for a holder that is gone.

use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use crate::live::hub::Hub;
use crate::redis::{Duty, Store, StoreError};

/// Between looks whether there is anything to do, and signs of life of who does it.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long the lock is held after the last sign of life.
const HOLD: Duration = Duration::from_secs(5);

/// Called when something was scheduled through this gateway.
#[derive(Default)]
pub(super) struct Clock(Notify);

impl Hub {
    /// To be called after something was scheduled.
    pub fn scheduled(&self) {
        self.0.clock.0.notify_one();
    }
}

/// Appends what is due until the gateway stops.
pub(super) async fn run(hub: Hub) {
    let holder = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
    loop {
        tokio::select! {
            () = hub.0.stop.cancelled() => break,
            () = hub.0.clock.0.notified() => {}
            () = sleep(LOOK_EVERY) => {}
        }
        let held = tokio::select! {
            () = hub.0.stop.cancelled() => break,
            held = hold(&hub, &holder) => held,
        };
        hub.0
            .metrics
            .redis_connections
            .get_or_create(&[("kind", "scheduling")])
            .set(0);
        if let Err(error) = held {
            tracing::debug!(%error, "what is due is left to the next attempt");
        }
    }
    if let Err(error) = hub.0.store.leave_duty(Duty::Scheduled, &holder).await {
        tracing::debug!(%error, "the lock of what is scheduled was not let go of");
    }
}

/// Does it while this gateway has the lock and there is anything.
async fn hold(hub: &Hub, holder: &str) -> Result<(), StoreError> {
    if !hub.0.store.has_scheduled().await? || !is_held(hub, holder).await? {
        return Ok(());
    }
    let (mut ear, mut calls) = hub.0.store.listen().await?;
    hub.0
        .metrics
        .redis_connections
        .get_or_create(&[("kind", "scheduling")])
        .set(1);
    ear.open(Store::schedule_channel()).await?;
    loop {
        let Some(due_in) = move_due(hub).await? else {
            return hub.0.store.leave_duty(Duty::Scheduled, holder).await;
        };
        let mut until = Instant::now() + due_in.min(LOOK_EVERY);
        loop {
            tokio::select! {
                () = sleep_until(until) => break,
                () = hub.0.clock.0.notified() => break,
                call = calls.next() => match call {
                    Some((_, due_ms)) => {
                        until = until.min(Instant::now() + Duration::from_millis(due_ms));
                    }
                    None => return Err(StoreError::Broken("nothing is heard".to_owned())),
                },
            }
        }
        if !is_held(hub, holder).await? {
            return Ok(());
        }
    }
}

async fn is_held(hub: &Hub, holder: &str) -> Result<bool, StoreError> {
    hub.0.store.take_duty(Duty::Scheduled, holder, HOLD).await
}

/// Appends all that is due; how long until the next is, or nothing where nothing is scheduled.
async fn move_due(hub: &Hub) -> Result<Option<Duration>, StoreError> {
    loop {
        let (streams, due_in) = hub.0.store.due_streams().await?;
        if streams.is_empty() {
            return Ok(due_in);
        }
        for due in streams {
            let moved = hub.0.store.move_due(&due).await?;
            hub.0.metrics.published.inc_by(moved.entries);
            hub.0.metrics.scheduled_stuck.inc_by(u64::from(moved.stuck));
            if moved.entries > 0 {
                hub.appended(&due.stream);
                hub.retain_after(&hub.0.store, &due.stream, moved.entries)
                    .await;
            }
        }
    }
}
