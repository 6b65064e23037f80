//! Wake-ups of followers across threads.
//!
//! A stream reader may run on another thread than the followers of the stream. Waking a task of
//! another thread costs a system call per task. Every worker thread therefore has a wake-up queue
//! ([`WakeQueue`]): the reader notifies the queue once, and the queue wakes all followers on its own
//! thread.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::{Mutex, MutexGuard};
use slab::Slab;
use tokio::sync::Notify;

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
    pub(super) fn ring(&self, number: u32) {
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
    pub(super) fn call(&self) {
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

/// The followers on one thread that are woken together, for the same source.
#[derive(Default)]
pub(super) struct WakeSet(Mutex<Slab<(Arc<WakeHandle>, u32)>>);

impl WakeSet {
    /// Adds a follower, to be notified with this number. Returns the key for [`WakeSet::remove`].
    pub(super) fn add(&self, bell: Arc<WakeHandle>, number: u32) -> usize {
        self.lock().insert((bell, number))
    }

    pub(super) fn remove(&self, key: usize) {
        self.lock().try_remove(key);
    }

    pub(super) fn ring(&self) {
        for (_, (bell, number)) in &*self.lock() {
            bell.ring(*number);
        }
    }

    fn call(&self) {
        for (_, (bell, _)) in &*self.lock() {
            bell.call();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Slab<(Arc<WakeHandle>, u32)>> {
        self.0.lock()
    }
}

/// A source of news for followers.
pub(super) trait Source: Send + Sync {
    /// Notifies the followers on worker thread `post`. News after the start of this call queues the
    /// source again.
    fn ring(&self, post: usize);
}

/// The wake-up queue of one worker thread.
#[derive(Default)]
pub(super) struct WakeQueue {
    /// The sources with news. Each source makes sure that it is queued only once.
    called: Mutex<Vec<Arc<dyn Source>>>,
    wake: Notify,
    /// All followers of this thread.
    all: WakeSet,
}

impl WakeQueue {
    /// Queues a source, whose followers on this thread are then notified.
    pub(super) fn call(&self, source: Arc<dyn Source>) {
        self.called.lock().push(source);
        self.wake.notify_one();
    }

    /// Returns a new wake-up handle registered with this thread.
    pub(super) fn bell(self: &Arc<Self>) -> RegisteredWakeHandle {
        let bell = Arc::<WakeHandle>::default();
        let key = self.all.add(bell.clone(), 0);
        RegisteredWakeHandle {
            bell,
            key,
            post: self.clone(),
        }
    }

    /// Notifies the followers of queued sources, without end. Must run on the thread of the
    /// followers.
    pub(super) async fn serve(&self, number: usize) {
        loop {
            self.wake.notified().await;
            let called = std::mem::take(&mut *self.called.lock());
            for source in called {
                source.ring(number);
            }
        }
    }

    /// Wakes all followers of this thread.
    pub(super) fn call_all(&self) {
        self.all.call();
    }
}

/// A registered wake-up handle, unregistered when dropped.
pub(super) struct RegisteredWakeHandle {
    bell: Arc<WakeHandle>,
    key: usize,
    post: Arc<WakeQueue>,
}

impl std::ops::Deref for RegisteredWakeHandle {
    type Target = Arc<WakeHandle>;

    fn deref(&self) -> &Arc<WakeHandle> {
        &self.bell
    }
}

impl Drop for RegisteredWakeHandle {
    fn drop(&mut self) {
        self.post.all.remove(self.key);
    }
}
