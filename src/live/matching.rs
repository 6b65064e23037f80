//! Streams whose names begin alike: which there are, found by looking at all keys now and then.
//!
//! One task looks for everybody who asks for the same beginning. What is appended through this
//! gateway is known at once.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
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
    of: Mutex<HashMap<String, Arc<Matcher>>>,
    /// How many there are: what is appended looks here first.
    count: AtomicUsize,
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

    /// Looks for as long as anybody wants to know.
    async fn run(self: Arc<Self>, hub: Arc<Inner>) {
        loop {
            let began = Instant::now();
            match self.look(&hub).await {
                Ok(()) => {
                    self.ready.send_replace(true);
                }
                Err(error) => {
                    tracing::debug!(%error, prefix = self.prefix, "cannot look for streams");
                }
            }
            let looked = *self.ready.borrow();
            let pause = if looked { LOOK_EVERY.max(began.elapsed() * PAUSE) } else { RETRY };
            tokio::select! {
                () = hub.stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            let mut all = hub.matchers.lock();
            if self.followers.load(Ordering::Relaxed) == 0 {
                all.remove(&self.prefix);
                hub.matchers.count.store(all.len(), Ordering::Relaxed);
                return;
            }
        }
    }

    async fn look(self: &Arc<Self>, hub: &Inner) -> Result<(), StoreError> {
        let look = {
            let mut known = self.known();
            known.look += 1;
            known.look
        };
        let (glob, mut cursor, mut changed) = (glob(&format!("{}*", self.prefix)), 0, false);
        loop {
            let page = hub.store.streams(&glob, cursor, NAMES).await?;
            let mut known = self.known();
            for stream in page.streams {
                changed |= known.add(stream);
            }
            match page.next {
                // One too many is as good as all.
                Some(next) if known.streams.len() <= MAX_STREAMS => cursor = next,
                _ => break,
            }
        }
        let mut known = self.known();
        let before = known.streams.len();
        if before <= MAX_STREAMS {
            known.streams.retain(|_, found| *found >= look);
        }
        changed |= known.streams.len() != before;
        drop(known);
        if changed {
            self.call(&hub.posts);
        }
        Ok(())
    }
}

impl Source for Matcher {
    fn ring(&self, post: usize) {
        let (bells, called) = &self.posts[post];
        called.store(false, Ordering::Release);
        bells.ring();
    }
}

impl Matchers {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Matcher>>> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
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
    /// [`JoinError::Store`], within the join time-out.
    /// # Cancel safety
    /// Safe.
    pub(super) async fn matching(
        &self,
        prefix: &str,
        bell: Arc<Bell>,
    ) -> Result<Matching, JoinError> {
        let inner = &self.0;
        let matching = {
            let mut all = inner.matchers.lock();
            let matcher = all.entry(prefix.to_owned()).or_insert_with(|| {
                let matcher = Arc::new(Matcher {
                    prefix: prefix.to_owned(),
                    known: Mutex::default(),
                    ready: watch::Sender::new(false),
                    posts: inner.posts.iter().map(|_| Default::default()).collect(),
                    followers: AtomicUsize::new(0),
                });
                inner.background.spawn(matcher.clone().run(inner.clone()));
                matcher
            });
            matcher.followers.fetch_add(1, Ordering::Relaxed);
            let key = matcher.posts[self.post()].0.add(bell, MATCH);
            let matching = Matching { matcher: matcher.clone(), post: self.post(), key };
            inner.matchers.count.store(all.len(), Ordering::Relaxed);
            matching
        };
        inner.until(&matching.matcher.ready).await?;
        Ok(matching)
    }

    /// Tells those who follow all streams of a kind that this one is there.
    pub fn appended(&self, stream: &StreamName) {
        let inner = &self.0;
        if inner.matchers.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let all = inner.matchers.lock();
        let matchers = all.values().filter(|matcher| stream.as_str().starts_with(&matcher.prefix));
        for matcher in matchers {
            if matcher.known().add(stream.clone()) {
                matcher.call(&inner.posts);
            }
        }
    }
}
