//! The sweeper: looks after groups with a policy though nobody reads them.
//!
//! Every gateway has one, and the one that holds the lock in Redis works. A round makes one bounded
//! pass over each group and goes on where the round before stopped. Groups with a backlog, of
//! entries without a lease or of leases that are over, get further passes until the next round is
//! due, in turns, for a fifth of the time: Redis serves nobody else during a pass.
//!
//! The lock outlives a round three times; an orderly stop releases it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::hub::Inner;
use crate::model::name::{GroupName, StreamName};
use crate::store::{Duty, StoreError, SweepAt, SweepParts};

/// The longest the lock is kept after the last round, beside three rounds.
const AT_LEAST: Duration = Duration::from_secs(2);
/// How much longer than the passes over groups with a backlog the pauses between them are.
const PAUSE: u32 = 4;

type Key = (StreamName, GroupName);

/// Where the sweep of each group goes on.
type Places = HashMap<Key, SweepAt>;

/// Groups with a backlog.
type Behind = VecDeque<(Key, Backlog)>;

/// The backlog of a group.
#[derive(Clone, Copy)]
struct Backlog {
    /// The parts of the sweep that have one.
    parts: SweepParts,
    /// Entries without a lease.
    entries: u64,
}

/// A gateway's sweeper.
struct Sweeper {
    hub: Arc<Inner>,
    /// The name under which it holds the lock.
    holder: String,
    places: Places,
    /// When the lock was last taken.
    taken: Option<Instant>,
}

/// Sweeps until the gateway stops.
pub(super) async fn run(hub: Arc<Inner>) {
    let holder = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
    let mut sweeper = Sweeper {
        hub: hub.clone(),
        holder,
        places: Places::new(),
        taken: None,
    };
    tokio::select! {
        () = hub.stop.cancelled() => {}
        () = sweeper.rounds() => {}
    }
    if let Err(error) = hub.store.leave_duty(Duty::Groups, &sweeper.holder).await {
        tracing::debug!(%error, "the lock of the sweeper was not released");
    }
}

impl Sweeper {
    async fn rounds(&mut self) {
        let (every, expire_every) = (
            self.hub.settings.sweep_every,
            self.hub.settings.expire_every,
        );
        let (mut behind, mut looked) = (Behind::new(), None::<Instant>);
        loop {
            let next = Instant::now() + every;
            self.show(&behind);
            if let Err(error) = self.catch_up(&mut behind, next).await {
                tracing::debug!(%error, "a sweep was broken off");
                behind.clear();
            }
            self.show(&behind);
            tokio::time::sleep_until(next.into()).await;
            let forget = looked.is_none_or(|looked| looked.elapsed() >= expire_every);
            behind.clear();
            match self.round(forget, &mut behind).await {
                Ok(true) => {
                    self.hub.metrics.sweeps.inc();
                    if forget {
                        looked = Some(Instant::now());
                    }
                }
                Ok(false) => self.places.clear(),
                Err(error) => tracing::debug!(%error, "a sweep was broken off"),
            }
        }
    }

    fn show(&self, behind: &Behind) {
        let entries = behind
            .iter()
            .map(|(_, backlog)| backlog.entries)
            .sum::<u64>();
        self.hub
            .metrics
            .unenrolled
            .set(i64::try_from(entries).unwrap_or(i64::MAX));
    }

    /// One pass over each group; false if another gateway sweeps.
    async fn round(&mut self, forget: bool, behind: &mut Behind) -> Result<bool, StoreError> {
        let limit = self.hub.settings.sweep_limit;
        let (mut cursor, mut before) = (0, std::mem::take(&mut self.places));
        self.taken = None;
        loop {
            if !self.holds_lock().await? {
                return Ok(false);
            }
            let (groups, go_on) = self.hub.store.policy_index(cursor).await?;
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

    /// Passes over groups with a backlog until there is none, or until the next round.
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

    /// One pass over a group; its backlog, if it has one.
    async fn pass(&mut self, key: &Key, parts: SweepParts) -> Result<Option<Backlog>, StoreError> {
        let (hub, (stream, group)) = (&self.hub, key);
        let at = self.places.remove(key).unwrap_or_default();
        let swept = match hub.store.sweep(stream, group, at, parts).await {
            Ok(Some(swept)) => swept,
            Ok(None) => return Ok(None),
            Err(error) if error.is_outage_for_writes() => return Err(error),
            // One group is to blame; the others are looked after.
            Err(error) => {
                tracing::warn!(%error, stream = stream.as_str(), %group, "a group was not swept");
                return Ok(None);
            }
        };
        hub.metrics.enrolled.inc_by(swept.enrolled);
        hub.metrics.forgotten.inc_by(swept.forgotten);
        hub.metrics.bury("max-deliveries", swept.dead.exhausted);
        hub.metrics.bury("gone", swept.dead.gone);
        hub.metrics.stuck.inc_by(swept.dead.stuck);
        if swept.next != SweepAt::default() {
            self.places.insert(key.clone(), swept.next);
        }
        let (limit, (enrol, due)) = (hub.settings.sweep_limit, swept.left());
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

    /// Whether this gateway holds the lock, which is taken again when a good part of it has passed.
    async fn holds_lock(&mut self) -> Result<bool, StoreError> {
        let hold = (self.hub.settings.sweep_every * 3).max(AT_LEAST);
        if self.taken.is_some_and(|taken| taken.elapsed() < hold / 4) {
            return Ok(true);
        }
        let holds = self
            .hub
            .store
            .take_duty(Duty::Groups, &self.holder, hold)
            .await?;
        self.taken = holds.then(Instant::now);
        Ok(holds)
    }
}
