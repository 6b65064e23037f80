//! Streams whose names begin alike: which there are, found by looking at all keys now and then.
//!
//! One task looks for everybody, and once for all beginnings: how many are asked for makes no
//! difference to Redis. What is appended through this gateway is known at once.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::bell::{Bell, Bells, Post, Source};
use super::hub::{Hub, Inner, JoinError};
use crate::model::cursor::MAX_STREAMS;
use crate::model::glob::glob;
use crate::model::name::StreamName;
use crate::store::StoreError;

/// Between two looks at all keys, at least.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Between attempts while nothing was found out yet.
const RETRY: Duration = Duration::from_millis(200);
/// A look that takes long is followed by a pause so many times as long.
const PAUSE: u32 = 9;
/// Names asked for at once.
const NAMES: usize = 1000;
/// The number of the bell that rings when other streams match.
pub(super) const MATCH: u32 = u32::MAX;

/// All beginnings that are looked for.
#[derive(Default)]
pub(super) struct Matchers {
    all: Mutex<All>,
    /// How many there are: what is appended looks here first.
    count: AtomicUsize,
    /// There is one that was never looked for.
    newcomer: Notify,
}

#[derive(Clone, Default)]
struct All {
    of: HashMap<String, Arc<Matcher>>,
    /// How many beginnings have so many bytes: a name begins with no more of them than there are.
    lengths: BTreeMap<usize, usize>,
    /// Somebody looks. Cleared by the looker, when there is nothing left to look for.
    looking: bool,
}

impl All {
    /// All beginnings that this name has.
    fn of<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a Arc<Matcher>> {
        let lengths = self.lengths.keys().take_while(|length| **length <= name.len());
        lengths.filter_map(|length| self.of.get(name.get(..*length)?))
    }

    fn insert(&mut self, matcher: Arc<Matcher>) {
        *self.lengths.entry(matcher.prefix.len()).or_default() += 1;
        self.of.insert(matcher.prefix.clone(), matcher);
    }

    /// Forgets those that nobody wants to know of any more.
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

    /// What all of them begin with.
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

/// One beginning.
struct Matcher {
    prefix: String,
    known: Mutex<Known>,
    /// Turned true after the first look.
    ready: watch::Sender<bool>,
    /// Those to be told, by their post, and whether the post was called.
    posts: Box<[(Bells, AtomicBool)]>,
    followers: AtomicUsize,
}

/// The streams that match, each with the number of the look that found it last. No more than one
/// too many.
#[derive(Default)]
struct Known {
    streams: HashMap<StreamName, u64>,
    look: u64,
}

impl Known {
    /// True if the stream is new.
    fn add(&mut self, stream: StreamName) -> bool {
        if self.streams.len() > MAX_STREAMS && !self.streams.contains_key(&stream) {
            return false;
        }
        self.streams.insert(stream, self.look).is_none()
    }
}

impl Matcher {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call(self: &Arc<Self>, posts: &[Arc<Post>]) {
        for ((_, called), post) in self.posts.iter().zip(posts) {
            if !called.swap(true, Ordering::AcqRel) {
                post.call(self.clone());
            }
        }
    }

    /// Another look at all keys begins: what it does not find is gone.
    fn begin(&self) {
        self.known().look += 1;
    }

    fn is_full(&self) -> bool {
        self.known().streams.len() > MAX_STREAMS
    }

    /// The look is over. True if streams are gone.
    fn end(&self) -> bool {
        let mut known = self.known();
        let (before, look) = (known.streams.len(), known.look);
        if before <= MAX_STREAMS {
            known.streams.retain(|_, found| *found >= look);
        }
        known.streams.len() != before
    }
}

/// Looks for as long as anybody wants to know.
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
                tracing::debug!(%error, "cannot look for streams");
                RETRY
            }
        };
        // Who came meanwhile is looked for soon, but not so that Redis does nothing else.
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

/// Goes once through all keys.
async fn look(hub: &Inner, wanted: &All) -> Result<(), StoreError> {
    wanted.of.values().for_each(|matcher| matcher.begin());
    let (glob, mut cursor) = (glob(&format!("{}*", wanted.in_common())), 0);
    let mut changed: HashMap<&str, &Arc<Matcher>> = HashMap::new();
    loop {
        let page = hub.store.streams(&glob, cursor, NAMES).await?;
        for stream in page.streams {
            for matcher in wanted.of(stream.as_str()) {
                if matcher.known().add(stream.clone()) {
                    changed.insert(&matcher.prefix, matcher);
                }
            }
        }
        match page.next {
            // One too many is as good as all.
            Some(next) if !wanted.of.values().all(|matcher| matcher.is_full()) => cursor = next,
            _ => break,
        }
    }
    for matcher in wanted.of.values() {
        if matcher.end() {
            changed.insert(&matcher.prefix, matcher);
        }
        matcher.ready.send_replace(true);
    }
    for matcher in changed.values() {
        matcher.call(&hub.posts);
    }
    Ok(())
}

impl Source for Matcher {
    fn ring(&self, post: usize) {
        let (bells, called) = &self.posts[post];
        called.store(false, Ordering::Release);
        bells.ring();
    }
}

impl Matchers {
    fn lock(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_newcomers(&self) -> bool {
        self.lock().of.values().any(|matcher| !*matcher.ready.borrow())
    }
}

/// Someone who follows all streams with one beginning.
pub(super) struct Matching {
    matcher: Arc<Matcher>,
    post: usize,
    key: usize,
}

impl Matching {
    /// The streams that match now.
    ///
    /// # Errors
    /// [`JoinError::TooManyForOne`].
    pub(super) fn streams(&self) -> Result<Vec<StreamName>, JoinError> {
        let known = self.matcher.known();
        if known.streams.len() > MAX_STREAMS {
            return Err(JoinError::TooManyForOne);
        }
        Ok(known.streams.keys().cloned().collect())
    }
}

impl Drop for Matching {
    fn drop(&mut self) {
        self.matcher.posts[self.post].0.remove(self.key);
        self.matcher.followers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Hub {
    /// Begins to look for streams whose names begin like this; the bell rings with [`MATCH`] when
    /// there are others. Answers when they were looked for once.
    ///
    /// # Errors
    /// [`JoinError::TooManyStreams`] when as many beginnings are looked for as may be, or
    /// [`JoinError::Store`], within the join time-out.
    /// # Cancel safety
    /// Safe.
    pub(super) async fn matching(
        &self,
        prefix: &str,
        bell: Arc<Bell>,
    ) -> Result<Matching, JoinError> {
        let matching = self.looked_for(prefix, bell)?;
        self.0.until(&matching.matcher.ready).await?;
        Ok(matching)
    }

    fn looked_for(&self, prefix: &str, bell: Arc<Bell>) -> Result<Matching, JoinError> {
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
            all.insert(Arc::new(Matcher {
                prefix: prefix.to_owned(),
                known: Mutex::default(),
                ready: watch::Sender::new(false),
                posts: inner.posts.iter().map(|_| Default::default()).collect(),
                followers: AtomicUsize::new(0),
            }));
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
        Ok(Matching { matcher, post: self.post(), key })
    }

    /// Tells those who follow all streams of a kind that this one is there.
    pub fn appended(&self, stream: &StreamName) {
        let inner = &self.0;
        if inner.matchers.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let all = inner.matchers.lock();
        for matcher in all.of(stream.as_str()) {
            if matcher.known().add(stream.clone()) {
                matcher.call(&inner.posts);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(prefixes: &[&str]) -> All {
        let mut all = All::default();
        for prefix in prefixes {
            all.insert(Arc::new(Matcher {
                prefix: (*prefix).to_owned(),
                known: Mutex::default(),
                ready: watch::Sender::new(false),
                posts: Box::default(),
                followers: AtomicUsize::new(1),
            }));
        }
        all
    }

    #[test]
    fn a_name_has_every_beginning_that_it_begins_with_and_no_other() {
        let all = all(&["", "a", "ab", "abc", "b", "aé"]);
        for (name, expected) in [
            ("ab", &["", "a", "ab"][..]),
            ("x", &[""]),
            ("aé.b", &["", "a", "aé"]),
            ("aè", &["", "a"]),
        ] {
            let found: Vec<_> = all.of(name).map(|matcher| &*matcher.prefix).collect();
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn redis_is_asked_for_what_all_beginnings_have_in_common() {
        for (prefixes, common) in [
            (&["orders.eu.", "orders.us."][..], "orders."),
            (&["orders."], "orders."),
            (&["a", "b"], ""),
            (&["aé", "aè"], "a"),
            (&["a", "ab"], "a"),
            (&[], ""),
        ] {
            assert_eq!(all(prefixes).in_common(), common);
        }
    }

    #[test]
    fn what_nobody_wants_to_know_is_forgotten() {
        let mut all = all(&["a", "b", "ab"]);
        all.of["a"].followers.store(0, Ordering::Relaxed);
        all.drop_idle();
        assert_eq!(all.of("ab").count(), 1);
        all.of["b"].followers.store(0, Ordering::Relaxed);
        all.drop_idle();
        assert_eq!(all.lengths.keys().collect::<Vec<_>>(), [&2]);
    }
}
