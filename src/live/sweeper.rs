//! The sweeper: looks after groups with a policy though nobody reads them.
//!
//! Every gateway has one, and the one that holds the lock in Redis works: a bounded part of each
//! group in each round, going on in the next where it stopped. The lock outlives a round three times;
//! an orderly stop lets go of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::hub::Inner;
use crate::model::name::{GroupName, StreamName};
use crate::store::{Duty, StoreError, SweepAt};

/// The longest the lock is kept after the last round, beside three rounds.
const AT_LEAST: Duration = Duration::from_secs(2);

/// Where the sweep of each group goes on.
type Places = HashMap<(StreamName, GroupName), SweepAt>;

/// Sweeps until the gateway stops.
pub(super) async fn run(hub: Arc<Inner>) {
    let holder = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
    let every = hub.settings.sweep_every;
    let (mut places, mut looked) = (Places::new(), None::<Instant>);
    loop {
        tokio::select! {
            () = hub.stop.cancelled() => break,
            () = tokio::time::sleep(every) => {}
        }
        let expire_every = hub.settings.expire_every;
        let forget = looked.is_none_or(|looked| looked.elapsed() >= expire_every);
        let swept = tokio::select! {
            () = hub.stop.cancelled() => break,
            swept = round(&hub, &holder, &mut places, forget) => swept,
        };
        match swept {
            Ok(true) => {
                hub.metrics.sweeps.inc();
                if forget {
                    looked = Some(Instant::now());
                }
            }
            Ok(false) => places.clear(),
            Err(error) => tracing::debug!(%error, "a sweep was broken off"),
        }
    }
    if let Err(error) = hub.store.leave_duty(Duty::Groups, &holder).await {
        tracing::debug!(%error, "the lock of the sweeper was not let go of");
    }
}

/// One round; false if another gateway sweeps.
async fn round(
    hub: &Inner,
    holder: &str,
    places: &mut Places,
    forget: bool,
) -> Result<bool, StoreError> {
    let hold = (hub.settings.sweep_every * 3).max(AT_LEAST);
    let (mut cursor, mut next) = (0, Places::new());
    loop {
        if !hub.store.take_duty(Duty::Groups, holder, hold).await? {
            return Ok(false);
        }
        let (groups, go_on) = hub.store.policy_index(cursor).await?;
        for (stream, group) in groups {
            let key = (stream, group);
            let at = places.remove(&key).unwrap_or_default();
            let (stream, group) = &key;
            let swept = match hub
                .store
                .sweep(stream, group, at, hub.settings.sweep_limit, forget)
                .await
            {
                Ok(Some(swept)) => swept,
                Ok(None) => continue,
                Err(error) if error.is_outage_for_writes() => return Err(error),
                // One group is to blame; the others are looked after.
                Err(error) => {
                    tracing::warn!(%error, stream = stream.as_str(), %group, "a group was not swept");
                    continue;
                }
            };
            hub.metrics.enrolled.inc_by(swept.enrolled);
            hub.metrics.forgotten.inc_by(swept.forgotten);
            hub.metrics.bury("max-deliveries", swept.dead.exhausted);
            hub.metrics.bury("gone", swept.dead.gone);
            hub.metrics.stuck.inc_by(swept.dead.stuck);
            if swept.next != SweepAt::default() {
                next.insert(key, swept.next);
            }
        }
        cursor = go_on;
        if cursor == 0 {
            *places = next;
            return Ok(true);
        }
    }
}
