//! Keeping streams to their retention: after appends through this gateway, and in rounds for all.
//!
//! An append to a stream without a retention must not pay for there being such a thing. So each
//! gateway has a copy of the index of streams that have one, read again within 100 ms of a change;
//! an append looks into the copy and no further. The copy only says *that* there is a retention:
//! what it is stands in Redis, and is read by the script that trims. A copy that is behind never
//! removes by yesterday's rules. It costs a script that does nothing, or it leaves entries for
//! those 100 ms: when the copy changes, what was left is trimmed at once. Until a gateway has read
//! the index for the first time, it runs the script after every append.
//!
//! Rounds go on though nobody appends here, or native clients do: every gateway has a sweeper, and
//! the one that holds the lock works, a bounded number of passes for each stream.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::hub::{Hub, Inner};
use crate::model::name::StreamName;
use crate::store::{Duty, Retained, Store, StoreError};

/// How often it is asked whether the index has changed.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// More streams are not known here, and left to the rounds.
const MAX_KNOWN: usize = 100_000;
/// More streams than this that a change of the index concerns are left to the next round.
const MAX_UNTRIMMED: usize = 100;
/// After so many entries appended here, or so much time, an append trims; to the letter, each does.
const TRIM_EVERY: (u64, Duration) = (100, Duration::from_secs(1));
/// Passes over a stream in one round.
const PASSES: usize = 20;
/// The shortest a duty is held after its last sign of life.
const AT_LEAST: Duration = Duration::from_secs(2);

/// The streams that have a retention, as far as this gateway knows.
#[derive(Default)]
pub(super) struct Known {
    /// Whether the index was read and is empty: most appends look no further.
    none: AtomicBool,
    /// Whether the index was read. Written by `replace`.
    loaded: AtomicBool,
    streams: RwLock<HashMap<StreamName, Mutex<Since>>>,
}

/// Since a stream was trimmed by this gateway. Written by whoever appends to it.
#[derive(Clone, Copy, Default)]
struct Since {
    appended: u64,
    at: Option<Instant>,
    exact: bool,
}

impl Known {
    /// Whether an append of so many entries is to trim.
    fn is_due(&self, stream: &StreamName, appended: u64) -> bool {
        if self.none.load(Ordering::Relaxed) {
            return false;
        }
        let streams = self.streams.read().unwrap_or_else(PoisonError::into_inner);
        let Some(since) = streams.get(stream) else {
            return !self.loaded.load(Ordering::Relaxed);
        };
        let mut since = since.lock().unwrap_or_else(PoisonError::into_inner);
        since.appended += appended;
        let (entries, time) = TRIM_EVERY;
        let long = since.at.is_none_or(|at| at.elapsed() >= time);
        if !(since.exact || long || since.appended >= entries) {
            return false;
        }
        *since = Since {
            appended: 0,
            at: Some(Instant::now()),
            ..*since
        };
        true
    }

    /// Notes what a pass over a stream came to.
    fn note(&self, stream: &StreamName, retained: Option<&Retained>) {
        if let Some(retained) = retained {
            let streams = self.streams.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(since) = streams.get(stream) {
                since.lock().unwrap_or_else(PoisonError::into_inner).exact = retained.exact;
                return;
            }
        }
        let mut streams = self.streams.write().unwrap_or_else(PoisonError::into_inner);
        match retained {
            None => drop(streams.remove(stream)),
            Some(retained) => {
                let since = streams.entry(stream.clone()).or_default();
                since
                    .get_mut()
                    .unwrap_or_else(PoisonError::into_inner)
                    .exact = retained.exact;
            }
        }
        let none = self.loaded.load(Ordering::Relaxed) && streams.is_empty();
        self.none.store(none, Ordering::Relaxed);
    }

    /// Takes a new copy of the index; answers the streams that may have entries appended here that
    /// were not trimmed: those that the copy before did not have, and those that were not due.
    fn replace(&self, index: Vec<StreamName>) -> Vec<StreamName> {
        let mut streams = self.streams.write().unwrap_or_else(PoisonError::into_inner);
        let (mut old, mut untrimmed) = (std::mem::take(&mut *streams), Vec::new());
        let kept = index.into_iter().map(|stream| {
            let since = old.remove(&stream);
            let since =
                since.map(|since| since.into_inner().unwrap_or_else(PoisonError::into_inner));
            if since.is_none_or(|since| since.appended > 0) {
                untrimmed.push(stream.clone());
            }
            // Its retention may be another now: the next append looks.
            let since = Since {
                at: None,
                ..since.unwrap_or_default()
            };
            (stream, Mutex::new(since))
        });
        *streams = kept.collect();
        self.loaded.store(true, Ordering::Relaxed);
        self.none.store(streams.is_empty(), Ordering::Relaxed);
        untrimmed
    }
}

impl Hub {
    /// To be called after entries were appended: keeps the stream to its retention, if it has one
    /// and it is time.
    ///
    /// # Cancel safety
    /// As [`Hub::retain`].
    pub async fn retain_after(&self, store: &Store, stream: &StreamName, appended: u64) {
        if self.0.known.is_due(stream, appended) {
            Box::pin(self.retain(store, stream)).await;
        }
    }

    /// Keeps a stream to its retention, as far as one pass goes. What fails is left to the rounds.
    ///
    /// # Cancel safety
    /// Dropped half-way, the stream may be trimmed all the same.
    pub async fn retain(&self, store: &Store, stream: &StreamName) {
        if let Err(error) = pass(&self.0, store, stream, false).await {
            tracing::debug!(%error, "a stream was not trimmed");
        }
    }
}

/// One pass over a stream.
async fn pass(
    hub: &Inner,
    store: &Store,
    stream: &StreamName,
    renew: bool,
) -> Result<Option<Retained>, StoreError> {
    let retained = store.retain(stream, renew).await?;
    hub.known.note(stream, retained.as_ref());
    if let Some(retained) = &retained {
        hub.metrics.retention_trimmed.inc_by(retained.trimmed);
        hub.metrics.retention_forced.inc_by(retained.forced);
    }
    Ok(retained)
}

/// Keeps the copy of the index until the gateway stops.
pub(super) async fn follow_index(hub: Arc<Inner>) {
    let mut seen = None;
    loop {
        match read_index(&hub, seen.as_ref()).await {
            Ok(None) => {}
            Ok(Some((edition, index))) => {
                let untrimmed = hub.known.replace(index);
                // At the start nothing was left out.
                if seen.replace(edition).is_some() && untrimmed.len() <= MAX_UNTRIMMED {
                    for stream in &untrimmed {
                        if let Err(error) = pass(&hub, &hub.store, stream, false).await {
                            tracing::debug!(%error, "a stream was not trimmed");
                        }
                    }
                }
            }
            Err(error) => tracing::debug!(%error, "the index of retentions was not read"),
        }
        tokio::select! {
            () = hub.stop.cancelled() => return,
            () = sleep(ASK_EVERY) => {}
        }
    }
}

/// The edition of the index, nothing of one that was never written.
type Edition = Option<Vec<u8>>;

/// The index and its edition, unless that was seen. What changes while it is read is another
/// edition.
async fn read_index(
    hub: &Inner,
    seen: Option<&Edition>,
) -> Result<Option<(Edition, Vec<StreamName>)>, StoreError> {
    let edition = hub.store.retention_edition().await?;
    if seen == Some(&edition) {
        return Ok(None);
    }
    let (mut index, mut cursor) = (Vec::new(), 0);
    loop {
        let (mut some, next) = hub.store.retention_index(cursor).await?;
        index.append(&mut some);
        if next == 0 || index.len() >= MAX_KNOWN {
            return Ok(Some((edition, index)));
        }
        cursor = next;
    }
}

/// Sweeps until the gateway stops.
pub(super) async fn sweep(hub: Arc<Inner>) {
    let holder = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
    let every = hub.settings.retention_every;
    loop {
        tokio::select! {
            () = hub.stop.cancelled() => break,
            () = sleep(every) => {}
        }
        let blocked = tokio::select! {
            () = hub.stop.cancelled() => break,
            blocked = round(&hub, &holder) => blocked,
        };
        let blocked = blocked.unwrap_or_else(|error| {
            tracing::debug!(%error, "a round of retention was broken off");
            None
        });
        hub.metrics.retention_blocked.set(blocked.unwrap_or(0));
        tokio::select! {
            () = hub.stop.cancelled() => break,
            refreshed = refresh_keys(&hub, &holder) => if let Err(error) = refreshed {
                tracing::debug!(%error, "records of idempotency keys were not renewed");
            }
        }
    }
    if let Err(error) = hub.store.leave_duty(Duty::Retention, &holder).await {
        tracing::debug!(%error, "the lock of retention was not let go of");
    }
}

/// One round; how many streams are blocked by a group, or nothing if another gateway sweeps.
async fn round(hub: &Inner, holder: &str) -> Result<Option<i64>, StoreError> {
    let hold = hub.settings.retention_every.mul_f64(1.5).max(AT_LEAST);
    let (mut cursor, mut blocked, mut taken) = (0, 0, None::<Instant>);
    loop {
        let (streams, next) = hub.store.retention_index(cursor).await?;
        for stream in streams {
            if taken.is_none_or(|at| at.elapsed() > hold / 4) {
                if !hub.store.take_duty(Duty::Retention, holder, hold).await? {
                    return Ok(None);
                }
                taken = Some(Instant::now());
            }
            match passes(hub, &stream).await {
                Ok(is_blocked) => blocked += i64::from(is_blocked),
                Err(error) if error.is_outage_for_writes() => return Err(error),
                // One stream is to blame; the others are looked after.
                Err(error) => {
                    tracing::warn!(%error, stream = stream.as_str(), "a stream was not trimmed");
                }
            }
        }
        cursor = next;
        if cursor == 0 {
            hub.metrics
                .retention_sweeps
                .inc_by(u64::from(taken.is_some()));
            return Ok(Some(blocked));
        }
    }
}

/// Renews what is recorded of streams that have idempotency keys, unless another gateway does.
async fn refresh_keys(hub: &Inner, holder: &str) -> Result<(), StoreError> {
    let hold = hub.settings.retention_every.mul_f64(1.5).max(AT_LEAST);
    let mut cursor = 0;
    loop {
        let (streams, next) = hub.store.keys_index(cursor).await?;
        if !streams.is_empty() && !hub.store.take_duty(Duty::Retention, holder, hold).await? {
            return Ok(());
        }
        for stream in streams {
            match hub.store.refresh_keys(&stream).await {
                Err(error) if error.is_outage_for_writes() => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, stream = stream.as_str(), "idempotency keys were not looked after");
                }
                Ok(()) => {}
            }
        }
        cursor = next;
        if cursor == 0 {
            return Ok(());
        }
    }
}

/// As many passes over a stream as a round has; whether a group blocks it.
async fn passes(hub: &Inner, stream: &StreamName) -> Result<bool, StoreError> {
    for n in 0..PASSES {
        match pass(hub, &hub.store, stream, n == 0).await? {
            None => return Ok(false),
            Some(retained) if !retained.unfinished => return Ok(retained.blocked),
            Some(_) => {}
        }
    }
    Ok(false)
}
