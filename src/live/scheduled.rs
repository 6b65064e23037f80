//! The scheduler: appends scheduled entries when they are due.
//!
//! One gateway at a time runs it, under a leader lock in Redis. The script guarantees that an entry
//! is appended only once, not the lock. The holder sleeps until the first entry is due, and listens
//! for entries that are due earlier.
//!
//! While nothing is scheduled, no gateway holds the lock. A gateway that schedules an entry tries
//! to take the lock at once. All others check every two seconds, also to replace a holder that
//! died.

use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use crate::live::hub::Hub;
use crate::redis::{Duty, Store, StoreError};

/// Interval between checks for scheduled entries, and between renewals of the lock.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Validity of the lock after its last renewal.
const HOLD: Duration = Duration::from_secs(5);

/// A notification that an entry was scheduled through this gateway.
#[derive(Default)]
pub(super) struct Clock(Notify);

impl Hub {
    /// Wakes the scheduler. Must be called after an entry was scheduled.
    pub fn scheduled(&self) {
        self.0.clock.0.notify_one();
    }
}

/// Appends due entries until the gateway shuts down.
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
            tracing::debug!(%error, "cannot append due scheduled entries; retrying later");
        }
    }
    if let Err(error) = hub.0.store.leave_duty(Duty::Scheduled, &holder).await {
        tracing::debug!(%error, "cannot release the leader lock for scheduled entries");
    }
}

/// Appends due entries while this gateway holds the lock and entries are scheduled.
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
                    None => return Err(StoreError::Broken("pub/sub closed".to_owned())),
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

/// Appends all due entries. Returns the time until the next one is due, or `None` if nothing is
/// scheduled.
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
