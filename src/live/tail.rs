//! One followed stream: the pages that were read of it last, and those who follow it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use tokio::sync::watch;
use tokio::time::Instant;

use crate::live::hub::Inner;
use crate::live::page_memory::Memory;
use crate::live::reader::Reader;
use crate::live::wake_queue::{Bell, Bells, OwnBell, Post, Source};
use crate::model::history::Facts;
use crate::model::id::EntryId;
use crate::model::name::StreamName;
use crate::model::page::Page;
use crate::model::position::Position;

/// A followed stream. Made by the hub, fed by one reader, dropped when nobody has followed it for a
/// while.
pub(super) struct Tail {
    /// Which stream.
    pub(super) stream: StreamName,
    /// The reader that feeds it. Written by the hub, once.
    pub(super) reader: OnceLock<Weak<Reader>>,
    /// Written by the reader; emptied by a follower who finds that it is of another stream.
    recent: Mutex<Recent>,
    /// Turned true by the reader once it knows where the stream ends: from then on whatever is
    /// appended is fed.
    pub(super) ready: watch::Sender<bool>,
    /// Those who follow, by their post.
    posts: Box<[AtPost]>,
    /// How many they are. Raised by `follow`, lowered when a [`Following`] is dropped.
    followers: AtomicUsize,
    memory: Arc<Memory>,
}

/// What was read last.
struct Recent {
    /// Each follows on the one before it, and the last ends at `end`.
    pages: VecDeque<(Instant, Arc<Page>)>,
    /// About their bytes.
    bytes: usize,
    /// Everything up to here was read.
    end: Position,
    /// How often something other than appending has happened.
    looks: u64,
    /// False while the reader cannot read the stream.
    readable: bool,
}

/// What a tail says of its stream, asked before the stream itself is read.
#[derive(Clone, Copy)]
pub(super) struct Known {
    end: Position,
    readable: bool,
}

/// The followers of one thread.
#[derive(Default)]
struct AtPost {
    bells: Bells,
    /// The post was called and has not yet come to ring.
    called: AtomicBool,
}

impl Tail {
    /// A tail that nobody reads yet.
    pub(super) fn new(stream: StreamName, posts: usize, memory: Arc<Memory>) -> Self {
        let (pages, end) = (VecDeque::new(), Position::START);
        let recent = Recent {
            pages,
            bytes: 0,
            end,
            looks: 0,
            readable: true,
        };
        Self {
            stream,
            reader: OnceLock::new(),
            recent: Mutex::new(recent),
            ready: watch::Sender::new(false),
            posts: (0..posts).map(|_| AtPost::default()).collect(),
            followers: AtomicUsize::new(0),
            memory,
        }
    }

    pub(super) fn followers(&self) -> usize {
        self.followers.load(Ordering::Relaxed)
    }

    /// Says where the stream ends, before anything is fed.
    pub(super) fn begin(&self, end: Position) {
        let mut recent = self.lock();
        (recent.end, recent.readable) = (end, true);
    }

    /// Feeds the next page.
    pub(super) fn push(self: &Arc<Self>, page: Page, posts: &[Arc<Post>]) {
        let (end, size) = (page.end, page.size());
        let mut recent = self.lock();
        (recent.end, recent.readable) = (end, true);
        recent.bytes += size;
        self.memory.take(size);
        recent.pages.push_back((Instant::now(), Arc::new(page)));
        // The page that is new stays, however large: its followers are about to send it.
        while recent.pages.len() > 1 && self.memory.is_too_much(recent.bytes, recent.pages.len()) {
            self.drop_oldest(&mut recent);
        }
        drop(recent);
        self.call(posts);
    }

    /// Tells the followers that something other than appending has happened (a gap, a reset): each
    /// is to look at the stream itself. What is fed from here on follows on `at`.
    pub(super) fn look(self: &Arc<Self>, at: Position, posts: &[Arc<Post>]) {
        self.have_looked_at(Some(at), posts);
    }

    /// Tells the followers that the reader cannot read the stream: each is to look at it itself.
    pub(super) fn fail(self: &Arc<Self>, posts: &[Arc<Post>]) {
        self.have_looked_at(None, posts);
    }

    fn have_looked_at(self: &Arc<Self>, at: Option<Position>, posts: &[Arc<Post>]) {
        let mut recent = self.lock();
        while !recent.pages.is_empty() {
            self.drop_oldest(&mut recent);
        }
        recent.looks += 1;
        recent.readable = at.is_some();
        recent.end = at.unwrap_or(recent.end);
        drop(recent);
        self.call(posts);
    }

    /// Forgets pages that were read before this time.
    pub(super) fn forget(&self, before: Instant) {
        let mut recent = self.lock();
        while recent.pages.front().is_some_and(|(at, _)| *at < before) {
            self.drop_oldest(&mut recent);
        }
        if recent.pages.is_empty() {
            recent.pages.shrink_to_fit();
        }
    }

    fn drop_oldest(&self, recent: &mut Recent) {
        if let Some((_, page)) = recent.pages.pop_front() {
            recent.bytes -= page.size();
            self.memory.give_back(page.size());
        }
    }

    fn call(self: &Arc<Self>, posts: &[Arc<Post>]) {
        for (at, post) in self.posts.iter().zip(posts) {
            if !at.called.swap(true, Ordering::AcqRel) {
                post.call(self.clone());
            }
        }
    }

    /// Adds a follower of a post, whose bell is rung with this number.
    pub(super) fn follow(self: &Arc<Self>, post: usize, bell: Arc<Bell>, number: u32) -> Following {
        self.followers.fetch_add(1, Ordering::Relaxed);
        let key = self.posts[post].bells.add(bell, number);
        Following {
            tail: self.clone(),
            post,
            key,
            seen: self.lock().looks,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source for Tail {
    fn ring(&self, post: usize) {
        // Before the bells: what comes from here on calls again.
        self.posts[post].called.store(false, Ordering::Release);
        self.posts[post].bells.ring();
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let recent = self
            .recent
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        self.memory.give_back(recent.bytes);
    }
}

/// A place among the followers of a [`Tail`].
pub(super) struct Following {
    tail: Arc<Tail>,
    post: usize,
    key: usize,
    /// Looks that this follower knows of.
    seen: u64,
}

/// What a follower finds.
pub(super) enum News {
    /// The next entries.
    Page(Arc<Page>),
    /// Nothing that it has not had.
    Nothing,
    /// Look at the stream: something else has happened.
    Look,
    /// Look at the stream: more has happened than is kept here.
    Behind,
}

impl Following {
    /// The stream that is followed.
    pub(super) fn stream(&self) -> &StreamName {
        &self.tail.stream
    }

    pub(super) fn tail(&self) -> &Tail {
        &self.tail
    }

    /// What comes after this id.
    pub(super) fn after(&self, id: EntryId) -> News {
        let recent = self.tail.lock();
        if recent.looks != self.seen {
            return News::Look;
        }
        if recent.end.id <= id {
            return News::Nothing;
        }
        let next = recent.pages.partition_point(|(_, page)| page.end.id <= id);
        match recent.pages.get(next) {
            Some((_, page)) if page.after.id <= id => News::Page(page.clone()),
            _ => News::Behind,
        }
    }

    /// To be called before the stream itself is looked at: what happens from here on is news.
    pub(super) fn looks(&mut self) -> Known {
        let recent = self.tail.lock();
        self.seen = recent.looks;
        Known {
            end: recent.end,
            readable: recent.readable,
        }
    }

    /// Compares the counters of the stream with what was known of it before they were read. If they
    /// contradict it, the reader waits at a place that the stream does not have any more, and is told
    /// to look at once: it would find out by itself only at its next look.
    pub(super) fn compare(&self, known: Known, facts: &Facts, hub: &Arc<Inner>) {
        if facts.end_before(known.end) {
            // Nothing of what was read before the stream was made anew is to be heard any more.
            self.tail.look(facts.tail(), &hub.posts);
        } else if known.readable {
            return;
        }
        hub.recheck(&self.tail);
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.tail.posts[self.post].bells.remove(self.key);
        self.tail.followers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A stream that a read waits for, with a bell of its own.
pub(super) struct Awaited {
    /// Held so that the bell is rung.
    pub(super) following: Following,
    pub(super) bell: OwnBell,
}

impl Awaited {
    /// Until something happens to the stream; at once if that was after the last time.
    ///
    /// # Cancel safety
    /// Safe: nothing is lost when dropped.
    pub(super) async fn next(&mut self) {
        self.bell.rung().await;
    }
}
