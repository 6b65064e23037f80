//! Prefix subscriptions: finds the streams with a name prefix by scanning all keys periodically.
//!
//! One task scans for all followers, and one scan covers all prefixes, so the number of prefixes
//! does not affect Redis. A stream created by an append through this gateway is known immediately.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::live::context::{JoinError, LiveContext};
use crate::live::matched_names::MatchedNames;
use crate::live::wake_queue::{PostFollowers, WakeHandle, WakeSource, wake_followers};
use crate::model::glob::prefixed;
use crate::model::name::StreamName;
use crate::redis::{ListPosition, StoreError};
use crate::shares::{Account, Bound, Users};

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
pub(super) struct PrefixWatches {
    context: Arc<LiveContext>,
    all: Mutex<PrefixIndex>,
    /// The number of watched prefixes. Appends check it first, without the lock.
    count: AtomicUsize,
    /// Notified when a prefix needs a scan soon.
    newcomer: Notify,
}

#[derive(Clone, Default)]
struct PrefixIndex {
    of: HashMap<String, Arc<PrefixWatch>>,
    /// The number of prefixes by length in bytes. A name can only match one prefix of each length.
    lengths: BTreeMap<usize, usize>,
    /// Whether the scan task is running. Cleared by the task when no prefix is left.
    looking: bool,
}

impl PrefixIndex {
    /// Returns all watched prefixes of a name.
    fn of<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Arc<PrefixWatch>> {
        let lengths = self
            .lengths
            .keys()
            .take_while(|length| **length <= name.len());
        lengths.filter_map(|length| self.of.get(name.get(..*length)?))
    }

    fn insert(&mut self, watch: Arc<PrefixWatch>) {
        *self.lengths.entry(watch.prefix.len()).or_default() += 1;
        self.of.insert(watch.prefix.clone(), watch);
    }

    /// Removes the prefixes without followers.
    fn drop_idle(&mut self) {
        let Self { of, lengths, .. } = self;
        of.retain(|prefix, watch| {
            let wanted = watch.followers.load(Ordering::Relaxed) > 0;
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
    /// The followers by worker thread.
    posts: Box<[PostFollowers]>,
    followers: AtomicUsize,
    /// The accounts that the prefix is charged to.
    users: Users,
}

impl PrefixWatch {
    fn new(prefix: &str, wake_queues: usize) -> Self {
        Self {
            prefix: prefix.to_owned(),
            names: Mutex::default(),
            ready: watch::Sender::new(false),
            checked: watch::Sender::new(true),
            posts: (0..wake_queues).map(|_| PostFollowers::default()).collect(),
            followers: AtomicUsize::new(0),
            users: Users::default(),
        }
    }

    fn names(&self) -> MutexGuard<'_, MatchedNames> {
        self.names.lock()
    }

    /// Checks which of the names exist, all in one step. Then notifies all followers, whatever the
    /// outcome.
    async fn check(self: Arc<Self>, watches: Arc<PrefixWatches>) {
        let names = self.names().begin_check();
        while self.followers.load(Ordering::Relaxed) > 0 && !watches.context.stop.is_cancelled() {
            match watches.context.store.are_streams(&names).await {
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
            watches.newcomer.notify_one();
        }
        wake_followers(&self, &watches.context.wake_queues);
    }
}

/// Scans periodically as long as there are watched prefixes.
async fn run(watches: Arc<PrefixWatches>) {
    loop {
        let wanted = {
            let mut all = watches.lock();
            all.drop_idle();
            watches.count.store(all.of.len(), Ordering::Relaxed);
            all.looking = !all.of.is_empty();
            if !all.looking {
                return;
            }
            all.clone()
        };
        let began = Instant::now();
        let looked = scan(&watches.context, &wanted).await;
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
            while !watches.has_newcomers() {
                watches.newcomer.notified().await;
            }
            tokio::time::sleep_until(began + took * 2).await;
        };
        tokio::select! {
            () = watches.context.stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
            () = soon, if looked.is_ok() => {}
        }
    }
}

/// Scans all keys once.
async fn scan(context: &LiveContext, wanted: &PrefixIndex) -> Result<(), StoreError> {
    wanted
        .of
        .values()
        .for_each(|watch| watch.names().begin_scan());
    let (glob, mut position) = (prefixed(wanted.in_common()), ListPosition::default());
    let mut changed: HashMap<&str, &Arc<PrefixWatch>> = HashMap::new();
    let complete = loop {
        let page = context.store.streams(&glob, position, NAMES).await?;
        for stream in page.streams {
            for watch in wanted.of(stream.redis_key()) {
                if watch.names().add(stream.clone()) {
                    changed.insert(&watch.prefix, watch);
                }
            }
        }
        match page.next {
            // No subscription can follow more streams, so the scan can stop.
            Some(_) if wanted.of.values().all(|watch| watch.names().is_full()) => break false,
            Some(next) => position = next,
            None => break true,
        }
    };
    for watch in wanted.of.values() {
        if watch.names().end_scan(complete) {
            changed.insert(&watch.prefix, watch);
        }
        watch.ready.send_replace(true);
    }
    for watch in changed.values() {
        wake_followers(watch, &context.wake_queues);
    }
    Ok(())
}

impl WakeSource for PrefixWatch {
    fn followers_on(&self, post: usize) -> &PostFollowers {
        &self.posts[post]
    }
}

impl PrefixWatches {
    pub(super) fn new(context: Arc<LiveContext>) -> Self {
        Self {
            context,
            all: Mutex::default(),
            count: AtomicUsize::new(0),
            newcomer: Notify::new(),
        }
    }

    /// Watches for streams with a name prefix, and returns after the first scan. A change of the
    /// matching streams is notified as [`MATCH`] to the follower, which is on worker thread `post`.
    ///
    /// # Errors
    /// [`JoinError::TooManyStreams`] if the maximum number of prefixes is watched already,
    /// [`JoinError::ShareExceeded`] if `account` watches its share, or [`JoinError::Store`], within
    /// the join timeout.
    /// # Cancel safety
    /// Safe.
    pub(super) async fn follow(
        self: &Arc<Self>,
        prefix: &str,
        post: usize,
        wake_handle: Arc<WakeHandle>,
        account: Option<Arc<Account>>,
    ) -> Result<PrefixFollower, JoinError> {
        let follower = self.add(prefix, post, wake_handle, account)?;
        self.context.until(&follower.watch.ready).await?;
        Ok(follower)
    }

    fn add(
        self: &Arc<Self>,
        prefix: &str,
        post: usize,
        wake_handle: Arc<WakeHandle>,
        account: Option<Arc<Account>>,
    ) -> Result<PrefixFollower, JoinError> {
        let context = &self.context;
        let max = context.settings.max_streams;
        let mut all = self.lock();
        if !all.of.contains_key(prefix) {
            if all.of.len() >= max {
                all.drop_idle();
            }
            if all.of.len() >= max {
                context.metrics.refuse("followed_streams");
                return Err(JoinError::TooManyStreams);
            }
            all.insert(Arc::new(PrefixWatch::new(
                prefix,
                context.wake_queues.len(),
            )));
            self.count.store(all.of.len(), Ordering::Relaxed);
            self.newcomer.notify_one();
        }
        let watch = all.of[prefix].clone();
        if let Some(account) = &account {
            let joined = watch.users.join(account, Bound::FollowedPrefixes, max);
            joined.inspect_err(|exceeded| context.metrics.refuse(exceeded.bound.metric()))?;
        }
        watch.followers.fetch_add(1, Ordering::Relaxed);
        if !std::mem::replace(&mut all.looking, true) {
            context.background.spawn(run(self.clone()));
        }
        drop(all);
        let key = watch.posts[post].add(wake_handle, MATCH);
        Ok(PrefixFollower {
            watches: self.clone(),
            watch,
            post,
            key,
            account,
        })
    }

    /// Notifies the followers of matching prefixes that a stream exists.
    pub(super) fn appended(&self, stream: &StreamName) {
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        for watch in self.lock().of(stream.redis_key()) {
            if watch.names().add(stream.clone()) {
                wake_followers(watch, &self.context.wake_queues);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, PrefixIndex> {
        self.all.lock()
    }

    fn has_newcomers(&self) -> bool {
        let lacks = |watch: &PrefixWatch| !*watch.ready.borrow() || watch.names().lacks_some();
        self.lock().of.values().any(|watch| lacks(watch))
    }
}

/// The registration of one follower of a prefix, removed when dropped.
pub(super) struct PrefixFollower {
    watches: Arc<PrefixWatches>,
    watch: Arc<PrefixWatch>,
    post: usize,
    key: usize,
    account: Option<Arc<Account>>,
}

impl PrefixFollower {
    /// Returns the known matching streams, each with whether the last check confirmed it.
    pub(super) fn streams(&self) -> Vec<(StreamName, bool)> {
        self.watch
            .names()
            .all()
            .map(|(name, confirmed)| (name.clone(), confirmed))
            .collect()
    }

    /// Starts a check of which streams exist, unless one is running. Its end notifies the follower.
    pub(super) fn check(&self) {
        if self.watch.checked.send_replace(false) {
            let check = self.watch.clone().check(self.watches.clone());
            self.watches.context.background.spawn(check);
        }
    }

    pub(super) fn is_checking(&self) -> bool {
        !*self.watch.checked.borrow()
    }

    /// Waits for the end of a check.
    ///
    /// # Errors
    /// [`JoinError::Store`], within the join timeout.
    pub(super) async fn checked(&self) -> Result<(), JoinError> {
        Ok(self.watches.context.until(&self.watch.checked).await?)
    }
}

impl Drop for PrefixFollower {
    fn drop(&mut self) {
        self.watch.posts[self.post].remove(self.key);
        if let Some(account) = &self.account {
            self.watch.users.leave(account);
        }
        self.watch.followers.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
