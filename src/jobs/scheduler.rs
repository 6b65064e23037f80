//! The scheduler: appends scheduled entries when they are due.
//!
//! One gateway at a time runs it, under a leader lock in Redis. The script guarantees that an entry
//! is appended only once, not the lock. The holder sleeps until the first entry is due, and listens
//! for entries that are due earlier.
//!
//! While nothing is scheduled, no gateway holds the lock. A gateway that schedules an entry tries
//! to take the lock at once. All others check every two seconds, also to replace a holder that
//! died.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use crate::jobs::{JobContext, RetentionJob};
use crate::live::Hub;
use crate::redis::{LeaderLock, Store, StoreError};

/// Interval between checks for scheduled entries, and between renewals of the lock.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Validity of the lock after its last renewal.
const HOLD: Duration = Duration::from_secs(5);

/// The scheduler of delayed appends. Cheap to clone.
#[derive(Clone)]
pub struct Scheduler {
    context: Arc<JobContext>,
    hub: Hub,
    retention: RetentionJob,
    scheduled: Arc<Notify>,
}

impl Scheduler {
    pub(super) fn new(context: Arc<JobContext>, hub: Hub, retention: RetentionJob) -> Self {
        Self {
            context,
            hub,
            retention,
            scheduled: Arc::default(),
        }
    }

    /// Wakes the scheduler. Must be called after an entry was scheduled.
    pub fn wake(&self) {
        self.scheduled.notify_one();
    }
}

/// Appends due entries until the gateway shuts down.
pub(super) async fn run(scheduler: Scheduler) {
    let holder = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
    loop {
        tokio::select! {
            () = scheduler.context.stop.cancelled() => break,
            () = scheduler.scheduled.notified() => {}
            () = sleep(LOOK_EVERY) => {}
        }
        let held = tokio::select! {
            () = scheduler.context.stop.cancelled() => break,
            held = lead(&scheduler, &holder) => held,
        };
        scheduler
            .context
            .metrics
            .redis_connections
            .get_or_create(&[("kind", "scheduling")])
            .set(0);
        if let Err(error) = held {
            tracing::debug!(%error, "cannot append due scheduled entries; retrying later");
        }
    }
    if let Err(error) = scheduler
        .context
        .store
        .leave_duty(LeaderLock::Scheduled, &holder)
        .await
    {
        tracing::debug!(%error, "cannot release the leader lock for scheduled entries");
    }
}

/// Appends due entries while this gateway holds the lock and entries are scheduled.
async fn lead(scheduler: &Scheduler, holder: &str) -> Result<(), StoreError> {
    if !scheduler.context.store.has_scheduled().await? || !is_held(scheduler, holder).await? {
        return Ok(());
    }
    let (mut ear, mut calls) = scheduler.context.store.listen().await?;
    scheduler
        .context
        .metrics
        .redis_connections
        .get_or_create(&[("kind", "scheduling")])
        .set(1);
    ear.open(Store::schedule_channel()).await?;
    loop {
        let Some(due_in) = move_due(scheduler).await? else {
            return scheduler
                .context
                .store
                .leave_duty(LeaderLock::Scheduled, holder)
                .await;
        };
        let mut until = Instant::now() + due_in.min(LOOK_EVERY);
        loop {
            tokio::select! {
                () = sleep_until(until) => break,
                () = scheduler.scheduled.notified() => break,
                call = calls.next() => match call {
                    Some((_, due_ms)) => {
                        until = until.min(Instant::now() + Duration::from_millis(due_ms));
                    }
                    None => return Err(StoreError::Broken("pub/sub closed".to_owned())),
                },
            }
        }
        if !is_held(scheduler, holder).await? {
            return Ok(());
        }
    }
}

async fn is_held(scheduler: &Scheduler, holder: &str) -> Result<bool, StoreError> {
    scheduler
        .context
        .store
        .take_lock(LeaderLock::Scheduled, holder, HOLD)
        .await
}

/// Appends all due entries. Returns the time until the next one is due, or `None` if nothing is
/// scheduled.
async fn move_due(scheduler: &Scheduler) -> Result<Option<Duration>, StoreError> {
    loop {
        let (streams, due_in) = scheduler.context.store.due_streams().await?;
        if streams.is_empty() {
            return Ok(due_in);
        }
        for due in streams {
            let moved = scheduler.context.store.move_due(&due).await?;
            scheduler.context.metrics.published.inc_by(moved.entries);
            scheduler
                .context
                .metrics
                .scheduled_stuck
                .inc_by(u64::from(moved.stuck));
            if moved.entries > 0 {
                scheduler.hub.appended(&due.stream);
                scheduler
                    .retention
                    .after_append(&scheduler.context.store, &due.stream, moved.entries)
                    .await;
            }
        }
    }
}
