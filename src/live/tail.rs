//! One followed stream: its recent pages and its followers.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::live::hub::Inner;
use crate::live::page_memory::Memory;
use crate::live::reader::Reader;
use crate::live::wake_queue::{RegisteredWakeHandle, Source, WakeHandle, WakeQueue, WakeSet};
use crate::model::history::StreamCounters;
use crate::model::id::EntryId;
use crate::model::name::StreamName;
use crate::model::page::Page;
use crate::model::position::Position;

/// A followed stream. The hub creates it, one reader feeds it, and it is dropped after a while
/// without followers.
pub(super) struct Tail {
    /// The name of the stream.
    pub(super) stream: StreamName,
    /// The reader that feeds the tail. Written once, by the hub.
    pub(super) reader: OnceLock<Weak<Reader>>,
    /// Recent pages. Written by the reader; emptied by a follower that finds the stream replaced.
    recent: Mutex<Recent>,
    /// Set to true by the reader once it knows the end of the stream. Every entry appended after
    /// that is fed.
    pub(super) ready: watch::Sender<bool>,
    /// The followers by worker thread.
    posts: Box<[AtPost]>,
    /// The number of followers. Raised by `follow`, lowered when a [`Following`] is dropped.
    followers: AtomicUsize,
    memory: Arc<Memory>,
}

/// The most recent entries of a stream.
struct Recent {
    /// Contiguous pages with the time they were read. The last one ends at `end`.
    pages: VecDeque<(Instant, Arc<Page>)>,
    /// The approximate size of the pages in bytes.
    bytes: usize,
    /// The position up to which the stream was read.
    end: Position,
    /// The number of changes other than appends.
    looks: u64,
    /// Whether the reader can read the stream.
    readable: bool,
}

/// The state of a tail, taken before a follower reads the stream itself.
#[derive(Clone, Copy)]
pub(super) struct Known {
    end: Position,
    readable: bool,
}

/// The followers on one thread.
#[derive(Default)]
struct AtPost {
    bells: WakeSet,
    /// Whether the tail is queued for a wake-up of these followers.
    called: AtomicBool,
}

impl Tail {
    /// Returns a tail without a reader.
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

    /// Sets the end of the stream, without feeding a page.
    pub(super) fn begin(&self, end: Position) {
        let mut recent = self.lock();
        (recent.end, recent.readable) = (end, true);
    }

    /// Feeds the next page and notifies the followers.
    pub(super) fn push(self: &Arc<Self>, page: Page, posts: &[Arc<WakeQueue>]) {
        let (end, size) = (page.end, page.size());
        let mut recent = self.lock();
        (recent.end, recent.readable) = (end, true);
        recent.bytes += size;
        self.memory.take(size);
        recent.pages.push_back((Instant::now(), Arc::new(page)));
        // The new page stays, whatever its size, because its followers are about to send it.
        while recent.pages.len() > 1 && self.memory.is_too_much(recent.bytes, recent.pages.len()) {
            self.drop_oldest(&mut recent);
        }
        drop(recent);
        self.call(posts);
    }

    /// Notifies the followers of a change other than an append (a gap, a reset), so that each reads
    /// the stream itself. Later pages continue from `at`.
    pub(super) fn look(self: &Arc<Self>, at: Position, posts: &[Arc<WakeQueue>]) {
        self.have_looked_at(Some(at), posts);
    }

    /// Notifies the followers that the reader cannot read the stream, so that each tries itself.
    pub(super) fn fail(self: &Arc<Self>, posts: &[Arc<WakeQueue>]) {
        self.have_looked_at(None, posts);
    }

    fn have_looked_at(self: &Arc<Self>, at: Option<Position>, posts: &[Arc<WakeQueue>]) {
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

    /// Drops the pages that were read before this time.
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

    fn call(self: &Arc<Self>, posts: &[Arc<WakeQueue>]) {
        for (at, post) in self.posts.iter().zip(posts) {
            if !at.called.swap(true, Ordering::AcqRel) {
                post.call(self.clone());
            }
        }
    }

    /// Adds a follower on worker thread `post`, to be notified with this number.
    pub(super) fn follow(
        self: &Arc<Self>,
        post: usize,
        bell: Arc<WakeHandle>,
        number: u32,
    ) -> Following {
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
        self.recent.lock()
    }
}

impl Source for Tail {
    fn ring(&self, post: usize) {
        // Cleared before the notifications, so that later pages queue the tail again.
        self.posts[post].called.store(false, Ordering::Release);
        self.posts[post].bells.ring();
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let recent = self.recent.get_mut();
        self.memory.give_back(recent.bytes);
    }
}

/// The registration of one follower of a [`Tail`], removed when dropped.
pub(super) struct Following {
    tail: Arc<Tail>,
    post: usize,
    key: usize,
    /// The number of changes that this follower has seen.
    seen: u64,
}

/// The news that a follower finds at its tail.
pub(super) enum News {
    /// The next entries.
    Page(Arc<Page>),
    /// No new entries.
    Nothing,
    /// A change other than an append: the follower must read the stream.
    Look,
    /// More entries than the tail keeps: the follower must read the stream.
    Behind,
}

impl Following {
    /// Returns the followed stream.
    pub(super) fn stream(&self) -> &StreamName {
        &self.tail.stream
    }

    pub(super) fn tail(&self) -> &Tail {
        &self.tail
    }

    /// Returns the news after this id.
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

    /// Marks all changes so far as seen and returns the state of the tail. Must be called before
    /// the stream itself is read, so that later changes count as news.
    pub(super) fn looks(&mut self) -> Known {
        let recent = self.tail.lock();
        self.seen = recent.looks;
        Known {
            end: recent.end,
            readable: recent.readable,
        }
    }

    /// Compares the counters of the stream with the state of the tail before they were read.
    ///
    /// If they contradict each other, the reader waits at a position that the stream no longer has.
    /// The reader then gets a request to check the stream. Otherwise it would only notice at its
    /// next regular check.
    pub(super) fn compare(&self, known: Known, facts: &StreamCounters, hub: &Arc<Inner>) {
        if facts.end_before(known.end) {
            // Entries read before the stream was recreated must not be delivered any more.
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

/// A stream that a read waits for, with its own wake-up handle.
pub(super) struct Awaited {
    /// Keeps the registration with the tail.
    pub(super) following: Following,
    pub(super) bell: RegisteredWakeHandle,
}

impl Awaited {
    /// Waits for news of the stream. Returns at once if there was any since the last call.
    ///
    /// # Cancel safety
    /// Safe: nothing is lost when dropped.
    pub(super) async fn next(&mut self) {
        self.bell.rung().await;
    }
}
