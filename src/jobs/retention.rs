//! The retention job: trims streams after appends through this gateway, and periodically.
//!
//! An append to a stream without a retention must not cost more because of the feature. Each
//! gateway therefore has a copy of the index of streams with a retention. An append only checks this
//! copy, which is updated within 100 ms of an append after a change.
//!
//! The copy only tells *that* a stream has a retention. The trim script reads the rules from Redis,
//! so a stale copy never trims by old rules. It costs a script run without effect, or leaves
//! entries for those 100 ms: when the copy changes, remaining entries are trimmed at once. Until a
//! gateway has read the index for the first time, it runs the script after every append.
//!
//! Periodic rounds cover streams without appends here and appends by native clients. Every gateway
//! runs the job, but only the holder of the leader lock trims, with a limited number of passes per
//! stream.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::jobs::JobContext;
use crate::model::name::StreamName;
use crate::redis::{LeaderLock, Retained, Store, StoreError};

/// Interval between checks for a change of the index: while entries are appended, and otherwise.
const ASK_EVERY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// Approximate maximum number of streams in the index copy. Others are left to the rounds.
const MAX_KNOWN: usize = 100_000;
/// Maximum number of streams trimmed after a change of the index. If it affects more, they are left
/// to the next round.
const MAX_UNTRIMMED: usize = 100;
/// Number of appended entries, or time, after which an append trims. With exact retention, every
/// append trims.
const TRIM_EVERY: (u64, Duration) = (100, Duration::from_secs(1));
/// Maximum number of passes over a stream in one round.
const PASSES: usize = 20;
/// Minimum validity of the leader lock.
const AT_LEAST: Duration = Duration::from_secs(2);

/// This gateway's copy of the index of streams with a retention.
#[derive(Default)]
struct RetentionIndexCopy {
    /// Whether the index was read and is empty. Most appends check only this flag.
    none: AtomicBool,
    /// Whether the index was read. Written by `replace`.
    loaded: AtomicBool,
    /// Whether anything was appended since the index was last checked, and its notification.
    appended: AtomicBool,
    append: Notify,
    streams: RwLock<HashMap<StreamName, Mutex<Since>>>,
}

/// The state since this gateway last trimmed a stream. Updated by appends.
#[derive(Clone, Copy, Default)]
struct Since {
    appended: u64,
    at: Option<Instant>,
    exact: bool,
}

impl RetentionIndexCopy {
    /// Returns whether an append of `appended` entries must trim.
    fn is_due(&self, stream: &StreamName, appended: u64) -> bool {
        if !self.appended.load(Ordering::Relaxed) {
            self.appended.store(true, Ordering::Relaxed);
            self.append.notify_one();
        }
        if self.none.load(Ordering::Relaxed) {
            return false;
        }
        let streams = self.streams.read();
        let Some(since) = streams.get(stream) else {
            return !self.loaded.load(Ordering::Relaxed);
        };
        let mut since = since.lock();
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

    /// Records the result of a pass over a stream.
    fn record(&self, stream: &StreamName, retained: Option<&Retained>) {
        if let Some(retained) = retained {
            let streams = self.streams.read();
            if let Some(since) = streams.get(stream) {
                since.lock().exact = retained.exact;
                return;
            }
        }
        let mut streams = self.streams.write();
        match retained {
            None => drop(streams.remove(stream)),
            Some(retained) => {
                let since = streams.entry(stream.clone()).or_default();
                since.get_mut().exact = retained.exact;
            }
        }
        let none = self.loaded.load(Ordering::Relaxed) && streams.is_empty();
        self.none.store(none, Ordering::Relaxed);
    }

    /// Replaces the copy of the index.
    ///
    /// Returns the streams that may have untrimmed entries from appends through this gateway: those
    /// missing from the previous copy, and those whose appends were not due for a trim.
    fn replace(&self, index: Vec<StreamName>) -> Vec<StreamName> {
        let mut streams = self.streams.write();
        let (mut old, mut untrimmed) = (std::mem::take(&mut *streams), Vec::new());
        let kept = index.into_iter().map(|stream| {
            let since = old.remove(&stream);
            let since = since.map(Mutex::into_inner);
            if since.is_none_or(|since| since.appended > 0) {
                untrimmed.push(stream.clone());
            }
            // The retention may have changed, so the next append runs the script.
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

/// Retention of streams. Cheap to clone.
#[derive(Clone)]
pub struct RetentionJob {
    context: Arc<JobContext>,
    known: Arc<RetentionIndexCopy>,
}

impl RetentionJob {
    pub(super) fn new(context: Arc<JobContext>) -> Self {
        Self {
            context,
            known: Arc::default(),
        }
    }

    /// Trims a stream after an append, if it has a retention and a trim is due.
    ///
    /// # Cancel safety
    /// Same as [`RetentionJob::apply`].
    pub async fn after_append(&self, store: &Store, stream: &StreamName, appended: u64) {
        if self.known.is_due(stream, appended) {
            Box::pin(self.apply(store, stream)).await;
        }
    }

    /// Trims a stream to its retention, with one pass. Failures are left to the rounds.
    ///
    /// # Cancel safety
    /// If dropped early, the stream may be trimmed all the same.
    pub async fn apply(&self, store: &Store, stream: &StreamName) {
        if let Err(error) = pass(self, store, stream, false).await {
            tracing::debug!(%error, "cannot trim a stream to its retention");
        }
    }
}

/// Runs one trim pass over a stream.
async fn pass(
    retention: &RetentionJob,
    store: &Store,
    stream: &StreamName,
    renew: bool,
) -> Result<Option<Retained>, StoreError> {
    let retained = store.retain(stream, renew).await?;
    retention.known.record(stream, retained.as_ref());
    if let Some(retained) = &retained {
        retention
            .context
            .metrics
            .retention_trimmed
            .inc_by(retained.trimmed);
        retention
            .context
            .metrics
            .retention_forced
            .inc_by(retained.forced);
    }
    Ok(retained)
}

/// Keeps the copy of the index current until the gateway shuts down.
pub(super) async fn follow_index(retention: RetentionJob) {
    let (mut seen, known) = (None, retention.known.clone());
    loop {
        known.appended.store(false, Ordering::Relaxed);
        match read_index(&retention, seen.as_ref()).await {
            Ok(None) => {}
            Ok(Some((edition, index))) => {
                let untrimmed = retention.known.replace(index);
                // Before the first copy, every append ran the script.
                if seen.replace(edition).is_some() && untrimmed.len() <= MAX_UNTRIMMED {
                    for stream in &untrimmed {
                        if let Err(error) =
                            pass(&retention, &retention.context.store, stream, false).await
                        {
                            tracing::debug!(%error, "cannot trim a stream to its retention");
                        }
                    }
                }
            }
            Err(error) => tracing::debug!(%error, "cannot read the retention index"),
        }
        tokio::select! {
            () = retention.context.stop.cancelled() => return,
            () = async {
                sleep(ASK_EVERY.0).await;
                known.append.notified().await;
            } => {}
            () = sleep(ASK_EVERY.1) => {}
        }
    }
}

/// The edition of the index; `None` for an index that was never written.
type Edition = Option<Vec<u8>>;

/// Returns the index and its edition, or `None` if this edition was seen already. A change during
/// the read creates another edition.
async fn read_index(
    retention: &RetentionJob,
    seen: Option<&Edition>,
) -> Result<Option<(Edition, Vec<StreamName>)>, StoreError> {
    let edition = retention.context.store.retention_edition().await?;
    if seen == Some(&edition) {
        return Ok(None);
    }
    let (mut index, mut cursor) = (Vec::new(), 0);
    loop {
        let (mut some, next) = retention.context.store.retention_index(cursor).await?;
        index.append(&mut some);
        if next == 0 || index.len() >= MAX_KNOWN {
            return Ok(Some((edition, index)));
        }
        cursor = next;
    }
}

/// Runs the periodic rounds until the gateway shuts down.
pub(super) async fn sweep(retention: RetentionJob) {
    let holder = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
    let every = retention.context.settings.retention_every;
    loop {
        tokio::select! {
            () = retention.context.stop.cancelled() => break,
            () = sleep(every) => {}
        }
        let blocked = tokio::select! {
            () = retention.context.stop.cancelled() => break,
            blocked = round(&retention, &holder) => blocked,
        };
        let blocked = blocked.unwrap_or_else(|error| {
            tracing::debug!(%error, "aborted a retention round");
            None
        });
        retention
            .context
            .metrics
            .retention_blocked
            .set(blocked.unwrap_or(0));
        tokio::select! {
            () = retention.context.stop.cancelled() => break,
            refreshed = refresh_keys(&retention, &holder) => if let Err(error) = refreshed {
                tracing::debug!(%error, "cannot renew the records of idempotency keys");
            }
        }
    }
    if let Err(error) = retention
        .context
        .store
        .leave_duty(LeaderLock::Retention, &holder)
        .await
    {
        tracing::debug!(%error, "cannot release the leader lock for retention");
    }
}

/// Runs one round. Returns the number of streams blocked by a group, or `None` if another gateway
/// holds the leader lock.
async fn round(retention: &RetentionJob, holder: &str) -> Result<Option<i64>, StoreError> {
    let hold = retention
        .context
        .settings
        .retention_every
        .mul_f64(1.5)
        .max(AT_LEAST);
    let (mut cursor, mut blocked, mut taken) = (0, 0, None::<Instant>);
    loop {
        let (streams, next) = retention.context.store.retention_index(cursor).await?;
        for stream in streams {
            if taken.is_none_or(|at| at.elapsed() > hold / 4) {
                if !retention
                    .context
                    .store
                    .take_lock(LeaderLock::Retention, holder, hold)
                    .await?
                {
                    return Ok(None);
                }
                taken = Some(Instant::now());
            }
            match passes(retention, &stream).await {
                Ok(is_blocked) => blocked += i64::from(is_blocked),
                Err(error) if error.is_outage_for_writes() => return Err(error),
                // The error concerns one stream; continue with the others.
                Err(error) => {
                    tracing::warn!(%error, stream = stream.redis_key(), "cannot trim a stream to its retention");
                }
            }
        }
        cursor = next;
        if cursor == 0 {
            retention
                .context
                .metrics
                .retention_sweeps
                .inc_by(u64::from(taken.is_some()));
            return Ok(Some(blocked));
        }
    }
}

/// Renews the records of streams with idempotency keys, unless another gateway holds the leader
/// lock.
async fn refresh_keys(retention: &RetentionJob, holder: &str) -> Result<(), StoreError> {
    let hold = retention
        .context
        .settings
        .retention_every
        .mul_f64(1.5)
        .max(AT_LEAST);
    let mut cursor = 0;
    loop {
        let (streams, next) = retention.context.store.keys_index(cursor).await?;
        if !streams.is_empty()
            && !retention
                .context
                .store
                .take_lock(LeaderLock::Retention, holder, hold)
                .await?
        {
            return Ok(());
        }
        for stream in streams {
            match retention.context.store.refresh_keys(&stream).await {
                Err(error) if error.is_outage_for_writes() => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, stream = stream.redis_key(), "cannot renew the idempotency keys of a stream");
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

/// Runs the passes of one round over a stream. Returns whether a group blocks its retention.
async fn passes(retention: &RetentionJob, stream: &StreamName) -> Result<bool, StoreError> {
    for n in 0..PASSES {
        match pass(retention, &retention.context.store, stream, n == 0).await? {
            None => return Ok(false),
            Some(retained) if !retained.unfinished => return Ok(retained.blocked),
            Some(_) => {}
        }
    }
    Ok(false)
}
