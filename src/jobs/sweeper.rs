//! The sweeper: maintains groups with a policy even if no client reads them.
//!
//! Every gateway runs a sweeper, but only the holder of the leader lock in Redis sweeps. A round
//! makes one limited pass over each group and continues where the previous round stopped. A backlog
//! is entries without a lease, or expired leases. Groups with a backlog get further passes in turn
//! until the next round. These take a fifth of the time, because a pass blocks Redis for other
//! clients.
//!
//! The lock is valid for three rounds. A graceful shutdown releases it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::jobs::JobContext;
use crate::model::name::{GroupName, StreamName};
use crate::redis::{LeaderLock, StoreError, SweepParts, SweepPosition};

/// Minimum validity of the lock, if three rounds are shorter.
const AT_LEAST: Duration = Duration::from_secs(2);
/// Ratio of the pause after a pass over a group with a backlog to the duration of the pass.
const PAUSE: u32 = 4;

type GroupKey = (StreamName, GroupName);

/// The position at which the sweep of each group continues.
type Places = HashMap<GroupKey, SweepPosition>;

/// The groups with a backlog.
type Behind = VecDeque<(GroupKey, Backlog)>;

/// The backlog of a group.
#[derive(Clone, Copy)]
struct Backlog {
    /// The parts of the sweep with a backlog.
    parts: SweepParts,
    /// The number of entries without a lease.
    entries: u64,
}

/// The sweeper of a gateway.
struct Sweeper {
    context: Arc<JobContext>,
    /// The holder id for the lock.
    holder: String,
    places: Places,
    /// The time at which the lock was last taken or renewed.
    taken: Option<Instant>,
}

/// Runs the sweeper until the gateway shuts down.
pub(super) async fn run(context: Arc<JobContext>) {
    let holder = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
    let mut sweeper = Sweeper {
        context: context.clone(),
        holder,
        places: Places::new(),
        taken: None,
    };
    tokio::select! {
        () = context.stop.cancelled() => {}
        () = sweeper.rounds() => {}
    }
    if let Err(error) = context
        .store
        .leave_duty(LeaderLock::Groups, &sweeper.holder)
        .await
    {
        tracing::debug!(%error, "cannot release the leader lock of the sweeper");
    }
}

impl Sweeper {
    async fn rounds(&mut self) {
        let (every, expire_every) = (
            self.context.settings.sweep_every,
            self.context.settings.expire_every,
        );
        let (mut behind, mut looked) = (Behind::new(), None::<Instant>);
        loop {
            let next = Instant::now() + every;
            self.set_gauges(&behind);
            if let Err(error) = self.catch_up(&mut behind, next).await {
                tracing::debug!(%error, "aborted the passes over groups with a backlog");
                behind.clear();
            }
            self.set_gauges(&behind);
            tokio::time::sleep_until(next.into()).await;
            let forget = looked.is_none_or(|looked| looked.elapsed() >= expire_every);
            behind.clear();
            match self.round(forget, &mut behind).await {
                Ok(true) => {
                    self.context.metrics.sweeps.inc();
                    if forget {
                        looked = Some(Instant::now());
                    }
                }
                Ok(false) => self.places.clear(),
                Err(error) => tracing::debug!(%error, "aborted a sweeper round"),
            }
        }
    }

    fn set_gauges(&self, behind: &Behind) {
        let entries = behind
            .iter()
            .map(|(_, backlog)| backlog.entries)
            .sum::<u64>();
        self.context
            .metrics
            .unenrolled
            .set(i64::try_from(entries).unwrap_or(i64::MAX));
    }

    /// Runs one pass over each group. Returns false if another gateway holds the lock.
    async fn round(&mut self, forget: bool, behind: &mut Behind) -> Result<bool, StoreError> {
        let limit = self.context.settings.sweep_limit;
        let (mut cursor, mut before) = (0, std::mem::take(&mut self.places));
        self.taken = None;
        loop {
            if !self.holds_lock().await? {
                return Ok(false);
            }
            let (groups, go_on) = self.context.store.policy_index(cursor).await?;
            for key in groups {
                if let Some(at) = before.remove(&key) {
                    self.places.insert(key.clone(), at);
                }
                let parts = SweepParts {
                    enrol: limit,
                    due: limit,
                    forget,
                };
                if let Some(left) = self.pass(&key, parts).await? {
                    behind.push_back((key, left));
                }
            }
            cursor = go_on;
            if cursor == 0 {
                return Ok(true);
            }
        }
    }

    /// Runs passes over groups with a backlog, until there are none or the next round is due.
    async fn catch_up(&mut self, behind: &mut Behind, until: Instant) -> Result<(), StoreError> {
        while let Some((key, backlog)) = behind.pop_front() {
            if Instant::now() >= until || !self.holds_lock().await? {
                behind.push_front((key, backlog));
                return Ok(());
            }
            let began = Instant::now();
            if let Some(left) = self.pass(&key, backlog.parts).await? {
                behind.push_back((key, left));
            }
            let pause = Instant::now() + began.elapsed() * PAUSE;
            tokio::time::sleep_until(pause.min(until).into()).await;
        }
        Ok(())
    }

    /// Runs one pass over a group. Returns its remaining backlog, if any.
    async fn pass(
        &mut self,
        key: &GroupKey,
        parts: SweepParts,
    ) -> Result<Option<Backlog>, StoreError> {
        let (context, (stream, group)) = (&self.context, key);
        let at = self.places.remove(key).unwrap_or_default();
        let swept = match context.store.sweep(stream, group, at, parts).await {
            Ok(Some(swept)) => swept,
            Ok(None) => return Ok(None),
            Err(error) if error.is_outage_for_writes() => return Err(error),
            // The error concerns one group; continue with the others.
            Err(error) => {
                tracing::warn!(%error, stream = stream.redis_key(), %group, "cannot sweep a group");
                return Ok(None);
            }
        };
        context.metrics.enrolled.inc_by(swept.enrolled);
        context.metrics.forgotten.inc_by(swept.forgotten);
        context
            .metrics
            .count_dead_letters("max-deliveries", swept.dead.exhausted);
        context.metrics.count_dead_letters("gone", swept.dead.gone);
        context.metrics.stuck.inc_by(swept.dead.stuck);
        if swept.next != SweepPosition::default() {
            self.places.insert(key.clone(), swept.next);
        }
        let (limit, (enrol, due)) = (context.settings.sweep_limit, swept.remaining_parts());
        let part = |left| if left { limit } else { 0 };
        let parts = SweepParts {
            enrol: part(enrol),
            due: part(due),
            forget: false,
        };
        Ok((enrol || due).then_some(Backlog {
            parts,
            entries: swept.backlog,
        }))
    }

    /// Returns whether this gateway holds the lock. Takes or renews it after a quarter of its
    /// validity.
    async fn holds_lock(&mut self) -> Result<bool, StoreError> {
        let hold = (self.context.settings.sweep_every * 3).max(AT_LEAST);
        if self.taken.is_some_and(|taken| taken.elapsed() < hold / 4) {
            return Ok(true);
        }
        let holds = self
            .context
            .store
            .take_lock(LeaderLock::Groups, &self.holder, hold)
            .await?;
        self.taken = holds.then(Instant::now);
        Ok(holds)
    }
}
