//! Waking those who follow streams.
//!
//! A reader of streams runs on another thread than those who follow them, and to wake a task of
//! another thread costs a system call each. So every thread that serves connections has a *post*:
//! the reader calls the post, once, and the post rings the bells of all who follow, on their thread.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use slab::Slab;
use tokio::sync::Notify;

/// What wakes one follower, and tells it which of its streams there is news of.
#[derive(Default)]
pub(super) struct Bell(Mutex<Rung>);

#[derive(Default)]
struct Rung {
    /// Whom to wake; taken by the first who rings.
    waker: Option<Waker>,
    /// The numbers that were rung and not yet looked at, each once.
    numbers: Vec<u32>,
}

impl Bell {
    /// Rings for the stream of this number among those of the follower.
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

    /// Wakes the follower, with no news of any stream.
    pub(super) fn call(&self) {
        let waker = self.lock().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Hands what was rung to `news`. Who is polled next after this is woken by the next ring.
    pub(super) fn answer(&self, cx: &Context<'_>, mut news: impl FnMut(u32)) {
        let mut rung = self.lock();
        rung.numbers.drain(..).for_each(&mut news);
        match &mut rung.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }

    /// Until it is rung.
    pub(super) async fn rung(&self) {
        std::future::poll_fn(|cx| {
            let mut rung = false;
            self.answer(cx, |_| rung = true);
            if rung { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    fn lock(&self) -> MutexGuard<'_, Rung> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Those who are to be woken together: on one thread, about one thing.
#[derive(Default)]
pub(super) struct Bells(Mutex<Slab<(Arc<Bell>, u32)>>);

impl Bells {
    /// Adds a bell, to be rung with this number. Answers by what it is taken out again.
    pub(super) fn add(&self, bell: Arc<Bell>, number: u32) -> usize {
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

    fn lock(&self) -> MutexGuard<'_, Slab<(Arc<Bell>, u32)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Something that may have news for those who follow it.
pub(super) trait Source: Send + Sync {
    /// Rings the bells of those of one post, who are told of what comes after this.
    fn ring(&self, post: usize);
}

/// The post of one thread.
#[derive(Default)]
pub(super) struct Post {
    /// What has news; each once, which the sources see to.
    called: Mutex<Vec<Arc<dyn Source>>>,
    wake: Notify,
    /// All bells of this thread.
    all: Bells,
}

impl Post {
    /// Calls for the bells of this source to be rung.
    pub(super) fn call(&self, source: Arc<dyn Source>) {
        self.called
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(source);
        self.wake.notify_one();
    }

    /// Makes a bell that this post knows.
    pub(super) fn bell(self: &Arc<Self>) -> OwnBell {
        let bell = Arc::<Bell>::default();
        let key = self.all.add(bell.clone(), 0);
        OwnBell {
            bell,
            key,
            post: self.clone(),
        }
    }

    /// Rings bells for as long as it is polled. Belongs on the thread of those it wakes.
    pub(super) async fn serve(&self, number: usize) {
        loop {
            self.wake.notified().await;
            let called =
                std::mem::take(&mut *self.called.lock().unwrap_or_else(PoisonError::into_inner));
            for source in called {
                source.ring(number);
            }
        }
    }

    /// Wakes everybody.
    pub(super) fn call_all(&self) {
        self.all.call();
    }
}

/// A bell for as long as its follower lives.
pub(super) struct OwnBell {
    bell: Arc<Bell>,
    key: usize,
    post: Arc<Post>,
}

impl std::ops::Deref for OwnBell {
    type Target = Arc<Bell>;

    fn deref(&self) -> &Arc<Bell> {
        &self.bell
    }
}

impl Drop for OwnBell {
    fn drop(&mut self) {
        self.post.all.remove(self.key);
    }
}
