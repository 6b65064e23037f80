//! Prefix subscriptions: finds the streams with a name prefix by scanning all keys periodically.
//!
//! One task scans for all followers, and one scan covers all prefixes, so the number of prefixes
//! does not affect Redis. A stream created by an append through this gateway is known immediately.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::live::hub::{Hub, Inner, JoinError};
use crate::live::matched_names::MatchedNames;
use crate::live::wake_queue::{Source, WakeHandle, WakeQueue, WakeSet};
use crate::model::glob::prefixed;
use crate::model::name::StreamName;
use crate::redis::StoreError;

/// Minimum pause between two scans of all keys.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Delay before a failed scan or check is retried.
const RETRY: Duration = Duration::from_millis(200);
/// Ratio of the pause after a long scan to its duration.
const PAUSE: u32 = 9;
/// Number of keys requested in one SCAN step.
const NAMES: usize = 1000;
/// The notification number for a change of the matching streams.
pub(super) const MATCH: u32 = u32::MAX;

/// All watched prefixes.
#[derive(Default)]
pub(super) struct PrefixWatches {
    all: Mutex<All>,
    /// The number of watched prefixes. Appends check it first, without the lock.
    count: AtomicUsize,
    /// Notified when a prefix needs a scan soon.
    newcomer: Notify,
}

#[derive(Clone, Default)]
struct All {
    of: HashMap<String, Arc<PrefixWatch>>,
    /// The number of prefixes by length in bytes. A name can only match one prefix of each length.
    lengths: BTreeMap<usize, usize>,
    /// Whether the scan task is running. Cleared by the task when no prefix is left.
    looking: bool,
}

impl All {
    /// Returns all watched prefixes of a name.
    fn of<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Arc<PrefixWatch>> {
        let lengths = self
            .lengths
            .keys()
            .take_while(|length| **length <= name.len());
        lengths.filter_map(|length| self.of.get(name.get(..*length)?))
    }

    fn insert(&mut self, matcher: Arc<PrefixWatch>) {
        *self.lengths.entry(matcher.prefix.len()).or_default() += 1;
        self.of.insert(matcher.prefix.clone(), matcher);
    }

    /// Removes the prefixes without followers.
    fn drop_idle(&mut self) {
        let Self { of, lengths, .. } = self;
        of.retain(|prefix, matcher| {
            let wanted = matcher.followers.load(Ordering::Relaxed) > 0;
            if !wanted && let Some(count) = lengths.get_mut(&prefix.len()) {
                *count -= 1;
            }
            wanted
        });
        lengths.retain(|_, count| *count > 0);
    }

    /// Returns the longest common prefix of all watched prefixes.
    fn in_common(&self) -> &str {
        let mut all = self.of.keys().map(String::as_str);
        let first = all.next().unwrap_or_default();
        all.fold(first, |common, other| {
            let differs = common.bytes().zip(other.bytes()).position(|(a, b)| a != b);
            let mut end = differs.unwrap_or(common.len().min(other.len()));
            while !common.is_char_boundary(end) {
                end -= 1;
            }
            &common[..end]
        })
    }
}

/// One watched prefix.
struct PrefixWatch {
    prefix: String,
    names: Mutex<MatchedNames>,
    /// Set to true after the first scan.
    ready: watch::Sender<bool>,
    /// False while a check is running.
    checked: watch::Sender<bool>,
    /// The followers by worker thread, and whether the prefix is queued for their wake-up.
    posts: Box<[(WakeSet, AtomicBool)]>,
    followers: AtomicUsize,
}

impl PrefixWatch {
    fn new(prefix: &str, posts: usize) -> Self {
        Self {
            prefix: prefix.to_owned(),
            names: Mutex::default(),
            ready: watch::Sender::new(false),
            checked: watch::Sender::new(true),
            posts: (0..posts).map(|_| Default::default()).collect(),
            followers: AtomicUsize::new(0),
        }
    }

    fn names(&self) -> MutexGuard<'_, MatchedNames> {
        self.names.lock()
    }

    fn call(self: &Arc<Self>, posts: &[Arc<WakeQueue>]) {
        for ((_, called), post) in self.posts.iter().zip(posts) {
            if !called.swap(true, Ordering::AcqRel) {
                post.call(self.clone());
            }
        }
    }

    /// Checks which of the names exist, all in one step. Then notifies all followers, whatever the
    /// outcome.
    async fn check(self: Arc<Self>, hub: Arc<Inner>) {
        let names = self.names().begin_check();
        while self.followers.load(Ordering::Relaxed) > 0 && !hub.stop.is_cancelled() {
            match hub.store.are_streams(&names).await {
                Ok(exist) => {
                    self.names().end_check(&names, &exist);
                    break;
                }
                Err(error) => {
                    tracing::debug!(%error, "cannot check which streams exist");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
        self.checked.send_replace(true);
        if self.names().lacks_some() {
            hub.matchers.newcomer.notify_one();
        }
        self.call(&hub.posts);
    }
}

/// Scans periodically as long as there are watched prefixes.
async fn run(hub: Arc<Inner>) {
    loop {
        let wanted = {
            let mut all = hub.matchers.lock();
            all.drop_idle();
            hub.matchers.count.store(all.of.len(), Ordering::Relaxed);
            all.looking = !all.of.is_empty();
            if !all.looking {
                return;
            }
            all.clone()
        };
        let began = Instant::now();
        let looked = look(&hub, &wanted).await;
        let took = began.elapsed();
        let pause = match &looked {
            Ok(()) => LOOK_EVERY.max(took * PAUSE),
            Err(error) => {
                tracing::debug!(%error, "cannot scan for streams with a prefix");
                RETRY
            }
        };
        // A new prefix is scanned soon, but with a pause that leaves Redis time for other clients.
        let soon = async {
            while !hub.matchers.has_newcomers() {
                hub.matchers.newcomer.notified().await;
            }
            tokio::time::sleep_until(began + took * 2).await;
        };
        tokio::select! {
            () = hub.stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
            () = soon, if looked.is_ok() => {}
        }
    }
}

/// Scans all keys once.
async fn look(hub: &Inner, wanted: &All) -> Result<(), StoreError> {
    wanted
        .of
        .values()
        .for_each(|matcher| matcher.names().begin_scan());
    let (glob, mut cursor) = (prefixed(wanted.in_common()), 0);
    let mut changed: HashMap<&str, &Arc<PrefixWatch>> = HashMap::new();
    let complete = loop {
        let page = hub.store.streams(&glob, cursor, NAMES).await?;
        for stream in page.streams {
            for matcher in wanted.of(stream.as_str()) {
                if matcher.names().add(stream.clone()) {
                    changed.insert(&matcher.prefix, matcher);
                }
            }
        }
        match page.next {
            // No subscription can follow more streams, so the scan can stop.
            Some(_) if wanted.of.values().all(|matcher| matcher.names().is_full()) => break false,
            Some(next) => cursor = next,
            None => break true,
        }
    };
    for matcher in wanted.of.values() {
        if matcher.names().end_scan(complete) {
            changed.insert(&matcher.prefix, matcher);
        }
        matcher.ready.send_replace(true);
    }
    for matcher in changed.values() {
        matcher.call(&hub.posts);
    }
    Ok(())
}

impl Source for PrefixWatch {
    fn ring(&self, post: usize) {
        let (bells, called) = &self.posts[post];
        called.store(false, Ordering::Release);
        bells.ring();
    }
}

impl PrefixWatches {
    fn lock(&self) -> MutexGuard<'_, All> {
        self.all.lock()
    }

    fn has_newcomers(&self) -> bool {
        let lacks =
            |matcher: &PrefixWatch| !*matcher.ready.borrow() || matcher.names().lacks_some();
        self.lock().of.values().any(|matcher| lacks(matcher))
    }
}

/// The registration of one follower of a prefix, removed when dropped.
pub(super) struct PrefixFollower {
    hub: Arc<Inner>,
    matcher: Arc<PrefixWatch>,
    post: usize,
    key: usize,
}

impl PrefixFollower {
    /// Returns the known matching streams, each with whether the last check confirmed it.
    pub(super) fn streams(&self) -> Vec<(StreamName, bool)> {
        self.matcher
            .names()
            .all()
            .map(|(name, confirmed)| (name.clone(), confirmed))
            .collect()
    }

    /// Starts a check of which streams exist, unless one is running. Its end notifies the follower.
    pub(super) fn check(&self) {
        if self.matcher.checked.send_replace(false) {
            let check = self.matcher.clone().check(self.hub.clone());
            self.hub.background.spawn(check);
        }
    }

    pub(super) fn is_checking(&self) -> bool {
        !*self.matcher.checked.borrow()
    }

    /// Waits for the end of a check.
    ///
    /// # Errors
    /// [`JoinError::Store`], within the join timeout.
    pub(super) async fn checked(&self) -> Result<(), JoinError> {
        Ok(self.hub.until(&self.matcher.checked).await?)
    }
}

impl Drop for PrefixFollower {
    fn drop(&mut self) {
        self.matcher.posts[self.post].0.remove(self.key);
        self.matcher.followers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Hub {
    /// Watches for streams with a name prefix, and returns after the first scan. A change of the
    /// matching streams is notified as [`MATCH`].
    ///
    /// # Errors
    /// [`JoinError::TooManyStreams`] if the maximum number of prefixes is watched already, or
    /// [`JoinError::Store`], within the join timeout.
    /// # Cancel safety
    /// Safe.
    pub(super) async fn matching(
        &self,
        prefix: &str,
        bell: Arc<WakeHandle>,
    ) -> Result<PrefixFollower, JoinError> {
        let matching = self.looked_for(prefix, bell)?;
        self.0.until(&matching.matcher.ready).await?;
        Ok(matching)
    }

    fn looked_for(&self, prefix: &str, bell: Arc<WakeHandle>) -> Result<PrefixFollower, JoinError> {
        let inner = &self.0;
        let mut all = inner.matchers.lock();
        if !all.of.contains_key(prefix) {
            if all.of.len() >= inner.settings.max_streams {
                all.drop_idle();
            }
            if all.of.len() >= inner.settings.max_streams {
                inner.metrics.refuse("followed_streams");
                return Err(JoinError::TooManyStreams);
            }
            all.insert(Arc::new(PrefixWatch::new(prefix, inner.posts.len())));
            inner.matchers.count.store(all.of.len(), Ordering::Relaxed);
            inner.matchers.newcomer.notify_one();
        }
        let matcher = all.of[prefix].clone();
        matcher.followers.fetch_add(1, Ordering::Relaxed);
        if !std::mem::replace(&mut all.looking, true) {
            inner.background.spawn(run(inner.clone()));
        }
        drop(all);
        let key = matcher.posts[self.post()].0.add(bell, MATCH);
        Ok(PrefixFollower {
            hub: inner.clone(),
            matcher,
            post: self.post(),
            key,
        })
    }

    /// Notifies prefix followers that a stream exists. Must be called after an append.
    pub fn appended(&self, stream: &StreamName) {
        let inner = &self.0;
        if inner.matchers.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let all = inner.matchers.lock();
        for matcher in all.of(stream.as_str()) {
            if matcher.names().add(stream.clone()) {
                matcher.call(&inner.posts);
            }
        }
    }
}

#[cfg(test)]
mod tests;
