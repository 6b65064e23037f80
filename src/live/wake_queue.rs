//! Wake-ups of followers across threads.
//!
//! A stream reader may run on another thread than the followers of the stream. Waking a task of
//! another thread costs a system call per task. Every worker thread therefore has a wake-up queue
//! ([`WakeQueue`]): the reader notifies the queue once, and the queue wakes all followers on its own
//! thread.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use slab::Slab;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// Number of followers notified before the other tasks of the thread get their turn. Each writes to
/// its socket, which takes some microseconds.
const SLICE: usize = 32;
/// Rounds shorter than this are not followed by a rest.
const SHORT_ROUND: Duration = Duration::from_micros(500);
/// Longest rest after a round, which is the longest delay of a delivery by gathering.
const LONGEST_REST: Duration = Duration::from_millis(5);

/// The wake-up handle of one follower. It records which of its streams have news.
#[derive(Default)]
pub(super) struct WakeHandle(Mutex<PendingWakeups>);

#[derive(Default)]
struct PendingWakeups {
    /// The waker of the follower; taken by the first notification.
    waker: Option<Waker>,
    /// The numbers of the streams with unhandled notifications, without duplicates.
    numbers: Vec<u32>,
}

impl WakeHandle {
    /// Notifies the follower of news of its stream `number`.
    pub(super) fn notify(&self, number: u32) {
        let waker = {
            let mut rung = self.lock();
            if !rung.numbers.contains(&number) {
                rung.numbers.push(number);
            }
            rung.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Wakes the follower without news of any stream.
    pub(super) fn wake(&self) {
        let waker = self.lock().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Passes the numbers of notified streams to `news`, and registers the current task to be woken
    /// by the next notification.
    pub(super) fn answer(&self, cx: &Context<'_>, mut news: impl FnMut(u32)) {
        let mut rung = self.lock();
        rung.numbers.drain(..).for_each(&mut news);
        match &mut rung.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }

    /// Waits for a notification of news.
    pub(super) async fn rung(&self) {
        std::future::poll_fn(|cx| {
            let mut rung = false;
            self.answer(cx, |_| rung = true);
            if rung { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    fn lock(&self) -> MutexGuard<'_, PendingWakeups> {
        self.0.lock()
    }
}

/// Handles of followers on one thread.
#[derive(Default)]
struct WakeSet(Mutex<Slab<(Arc<WakeHandle>, u32)>>);

impl WakeSet {
    fn add(&self, wake_handle: Arc<WakeHandle>, number: u32) -> usize {
        self.lock().insert((wake_handle, number))
    }

    fn remove(&self, key: usize) {
        self.lock().try_remove(key);
    }

    fn wake_all(&self) {
        for (_, (wake_handle, _)) in &*self.lock() {
            wake_handle.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Slab<(Arc<WakeHandle>, u32)>> {
        self.0.lock()
    }
}

/// The followers of one source on one thread. They are notified in rounds, a slice at a time. News
/// during a round prolongs it until each follower was notified after the news: a follower that was
/// still to be notified gets the older and the newer news together.
#[derive(Default)]
pub(super) struct PostFollowers {
    wake_set: WakeSet,
    /// Whether the source is in the wake-up queue of the thread.
    queued: AtomicBool,
    /// Whether there is news since the last slice began.
    news: AtomicBool,
    round: Mutex<WakeRound>,
}

/// The state of a round.
#[derive(Default)]
struct WakeRound {
    /// The key of the follower to notify next.
    next: usize,
    /// The number of keys left to visit.
    left: usize,
    /// The number of all keys when the last slice began.
    keys: usize,
    /// The time at which the round began.
    began: Option<Instant>,
}

/// What notifying a slice of followers came to.
enum WakeSlice {
    /// So many followers were notified, and others are left.
    Part(usize),
    /// So many followers were notified, and the round is over. It took so long.
    Whole(usize, Duration),
}

impl PostFollowers {
    /// Adds a follower, to be notified with this number. Returns the key for
    /// [`PostFollowers::remove`].
    pub(super) fn add(&self, wake_handle: Arc<WakeHandle>, number: u32) -> usize {
        self.wake_set.add(wake_handle, number)
    }

    pub(super) fn remove(&self, key: usize) {
        self.wake_set.remove(key);
    }

    /// Records news. Returns whether the caller must queue the source.
    fn record_news(&self) -> bool {
        self.news.store(true, Ordering::Release);
        !self.queued.swap(true, Ordering::AcqRel)
    }

    /// Notifies up to `limit` followers.
    fn notify(&self, limit: usize) -> WakeSlice {
        let mut round = self.round.lock();
        let followers = self.wake_set.lock();
        let keys = followers.capacity();
        if self.news.swap(false, Ordering::AcqRel) {
            round.left = keys;
            round.began.get_or_insert_with(Instant::now);
        } else if round.keys != keys && round.left > 0 {
            round.left = keys;
        }
        round.keys = keys;
        let mut notified = 0;
        while round.left > 0 && notified < limit {
            round.next = if round.next < keys { round.next } else { 0 };
            if let Some((wake_handle, number)) = followers.get(round.next) {
                wake_handle.notify(*number);
                notified += 1;
            }
            round.next += 1;
            round.left -= 1;
        }
        if round.left > 0 {
            return WakeSlice::Part(notified);
        }
        let began = round.began.take();
        WakeSlice::Whole(
            notified,
            began.map_or(Duration::ZERO, |began| began.elapsed()),
        )
    }

    /// Takes the source out of the queue. Returns false if there was news meanwhile: the source then
    /// stays in the queue.
    fn leave_queue(&self) -> bool {
        self.queued.swap(false, Ordering::AcqRel);
        // News recorded before the swap did not queue the source.
        !self.news.load(Ordering::Acquire) || self.queued.swap(true, Ordering::AcqRel)
    }
}

/// A source of news for followers.
pub(super) trait WakeSource: Send + Sync {
    /// Returns the followers on worker thread `post`.
    fn followers_on(&self, post: usize) -> &PostFollowers;
}

/// Wakes the followers of a source on all worker threads.
pub(super) fn wake_followers<S: WakeSource + 'static>(source: &Arc<S>, posts: &[Arc<WakeQueue>]) {
    for (number, post) in posts.iter().enumerate() {
        if source.followers_on(number).record_news() {
            post.enqueue(source.clone());
        }
    }
}

/// The wake-up queue of one worker thread.
#[derive(Default)]
pub(super) struct WakeQueue {
    /// Sources with news that are not being served yet. Each source is queued only once.
    queued: Mutex<Vec<Arc<dyn WakeSource>>>,
    wake: Notify,
    /// All followers of this thread.
    all: WakeSet,
}

impl WakeQueue {
    fn enqueue(&self, source: Arc<dyn WakeSource>) {
        self.queued.lock().push(source);
        self.wake.notify_one();
    }

    /// Returns a new wake-up handle registered with this thread.
    pub(super) fn wake_handle(self: &Arc<Self>) -> RegisteredWakeHandle {
        let wake_handle = Arc::<WakeHandle>::default();
        let key = self.all.add(wake_handle.clone(), 0);
        RegisteredWakeHandle {
            wake_handle,
            key,
            post: self.clone(),
        }
    }

    /// Notifies the followers of queued sources, without end. Must run on the thread of the
    /// followers. Sources take turns, and after each slice of followers the other tasks of the
    /// thread do: requests do not wait until thousands of followers have their news.
    pub(super) async fn serve(&self, number: usize) {
        let mut turns = VecDeque::new();
        let mut resting = VecDeque::<(Instant, Arc<dyn WakeSource>)>::new();
        loop {
            if turns.is_empty() {
                self.wait(resting.front().map(|(until, _)| *until)).await;
            }
            turns.extend(std::mem::take(&mut *self.queued.lock()));
            let now = Instant::now();
            while resting.front().is_some_and(|(until, _)| *until <= now) {
                turns.extend(resting.pop_front().map(|(_, source)| source));
            }
            let mut left = SLICE;
            while left > 0
                && let Some(source) = turns.pop_front()
            {
                let followers = source.followers_on(number);
                let slice = followers.notify(left);
                let (WakeSlice::Part(notified) | WakeSlice::Whole(notified, _)) = slice;
                left = left.saturating_sub(notified.max(1));
                match slice {
                    WakeSlice::Part(_) => turns.push_back(source),
                    WakeSlice::Whole(_, took) => {
                        let rest = rest_after(took);
                        if !rest.is_zero() {
                            // The deadlines differ by at most the longest rest.
                            resting.push_back((Instant::now() + rest, source));
                        } else if !followers.leave_queue() {
                            turns.push_back(source);
                        }
                    }
                }
            }
            tokio::task::yield_now().await;
        }
    }

    /// Waits for a queued source, at most until this time.
    async fn wait(&self, until: Option<Instant>) {
        match until {
            Some(until) => drop(timeout_at(until, self.wake.notified()).await),
            None => self.wake.notified().await,
        }
    }

    /// Wakes all followers of this thread.
    pub(super) fn call_all(&self) {
        self.all.wake_all();
    }
}

/// Returns how long a source rests after a round. News that comes faster than followers can be
/// notified is gathered meanwhile, so that a delivery costs less the more there are.
fn rest_after(round: Duration) -> Duration {
    if round < SHORT_ROUND {
        return Duration::ZERO;
    }
    (round * 2).min(LONGEST_REST)
}

/// A registered wake-up handle, unregistered when dropped.
pub(super) struct RegisteredWakeHandle {
    wake_handle: Arc<WakeHandle>,
    key: usize,
    post: Arc<WakeQueue>,
}

impl std::ops::Deref for RegisteredWakeHandle {
    type Target = Arc<WakeHandle>;

    fn deref(&self) -> &Arc<WakeHandle> {
        &self.wake_handle
    }
}

impl Drop for RegisteredWakeHandle {
    fn drop(&mut self) {
        self.post.all.remove(self.key);
    }
}

#[cfg(test)]
mod tests;
