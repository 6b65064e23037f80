//! One followed stream: its recent pages and its followers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::live::page_memory::Memory;
use crate::live::wake_queue::{
    PostFollowers, RegisteredWakeHandle, WakeHandle, WakeQueue, WakeSource, wake_followers,
};
use crate::model::history::StreamCounters;
use crate::model::name::StreamName;
use crate::model::page::Page;
use crate::model::position::Position;
use crate::shares::{Account, Users};

/// A followed stream. The hub creates it, one reader feeds it, and it is dropped after a while
/// without followers.
pub(super) struct Tail {
    /// The name of the stream.
    pub(super) stream: StreamName,
    /// Recent pages. Written by the reader; emptied by a follower that finds the stream replaced.
    recent: Mutex<Recent>,
    /// Set to true by the reader once it knows the end of the stream. Every entry appended after
    /// that is fed.
    pub(super) ready: watch::Sender<bool>,
    /// The followers by worker thread.
    posts: Box<[PostFollowers]>,
    /// The number of followers. Raised by `follow`, lowered when a [`Following`] is dropped.
    followers: AtomicUsize,
    /// The accounts that the stream is charged to.
    pub(super) users: Users,
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
pub(super) struct TailState {
    end: Position,
    readable: bool,
}

impl Tail {
    /// Returns a tail without a reader.
    pub(super) fn new(stream: StreamName, wake_queues: usize, memory: Arc<Memory>) -> Self {
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
            recent: Mutex::new(recent),
            ready: watch::Sender::new(false),
            posts: (0..wake_queues).map(|_| PostFollowers::default()).collect(),
            followers: AtomicUsize::new(0),
            users: Users::default(),
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
    pub(super) fn push(self: &Arc<Self>, page: Page, wake_queues: &[Arc<WakeQueue>]) {
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
        wake_followers(self, wake_queues);
    }

    /// Notifies the followers of a change other than an append (a gap, a reset), so that each reads
    /// the stream itself. Later pages continue from `at`.
    pub(super) fn note_change(self: &Arc<Self>, at: Position, wake_queues: &[Arc<WakeQueue>]) {
        self.have_looked_at(Some(at), wake_queues);
    }

    /// Notifies the followers that the reader cannot read the stream, so that each tries itself.
    pub(super) fn fail(self: &Arc<Self>, wake_queues: &[Arc<WakeQueue>]) {
        self.have_looked_at(None, wake_queues);
    }

    fn have_looked_at(self: &Arc<Self>, at: Option<Position>, wake_queues: &[Arc<WakeQueue>]) {
        let mut recent = self.lock();
        while !recent.pages.is_empty() {
            self.drop_oldest(&mut recent);
        }
        recent.looks += 1;
        recent.readable = at.is_some();
        recent.end = at.unwrap_or(recent.end);
        drop(recent);
        wake_followers(self, wake_queues);
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

    /// Adds a follower on worker thread `post`, to be notified with this number. `account` is one of
    /// the users, and leaves them with the follower.
    pub(super) fn follow(
        self: &Arc<Self>,
        post: usize,
        wake_handle: Arc<WakeHandle>,
        number: u32,
        account: Option<Arc<Account>>,
    ) -> Following {
        self.followers.fetch_add(1, Ordering::Relaxed);
        let key = self.posts[post].add(wake_handle, number);
        Following {
            tail: self.clone(),
            post,
            key,
            account,
            seen: self.lock().looks,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock()
    }
}

impl WakeSource for Tail {
    fn followers_on(&self, post: usize) -> &PostFollowers {
        &self.posts[post]
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
    /// The account that the stream is charged to for this follower.
    account: Option<Arc<Account>>,
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

    /// Returns the news after this position.
    pub(super) fn after(&self, position: Position) -> News {
        let id = position.id;
        let recent = self.tail.lock();
        if recent.looks != self.seen {
            return News::Look;
        }
        if recent.end.id <= id {
            return News::Nothing;
        }
        let next = recent.pages.partition_point(|(_, page)| page.end.id <= id);
        match recent.pages.get(next) {
            Some((_, page)) if page.continues(position) => News::Page(page.clone()),
            // The follower has read more than the reader, and the stream was replaced since.
            Some((_, page)) if page.after.id <= id => News::Look,
            _ => News::Behind,
        }
    }

    /// Marks all changes so far as seen and returns the state of the tail. Must be called before
    /// the stream itself is read, so that later changes count as news.
    pub(super) fn mark_seen(&mut self) -> TailState {
        let recent = self.tail.lock();
        self.seen = recent.looks;
        TailState {
            end: recent.end,
            readable: recent.readable,
        }
    }

    /// Compares the counters of the stream with the state of the tail before they were read.
    ///
    /// If they contradict each other, the reader waits at a position that the stream no longer has.
    /// Returns true then: the reader must check the stream now, because it would only notice at its
    /// next regular check.
    pub(super) fn compare(
        &self,
        known: TailState,
        facts: &StreamCounters,
        wake_queues: &[Arc<WakeQueue>],
    ) -> bool {
        let contradicts = facts.end_before(known.end);
        if contradicts {
            // Entries read before the stream was recreated must not be delivered any more.
            self.tail.note_change(facts.tail(), wake_queues);
        }
        contradicts || !known.readable
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.tail.posts[self.post].remove(self.key);
        if let Some(account) = &self.account {
            self.tail.users.leave(account);
        }
        self.tail.followers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A stream that a read waits for, with its own wake-up handle.
pub(super) struct Awaited {
    /// Keeps the registration with the tail.
    pub(super) following: Following,
    pub(super) wake_handle: RegisteredWakeHandle,
}

impl Awaited {
    /// Waits for news of the stream. Returns at once if there was any since the last call.
    ///
    /// # Cancel safety
    /// Safe: nothing is lost when dropped.
    pub(super) async fn next(&mut self) {
        self.wake_handle.rung().await;
    }
}
