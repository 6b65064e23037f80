//! Work that goes on though nobody waits for it any more: a read changes something in Redis, and
//! what it was handed must be looked after by somebody.
//!
//! It runs where it is awaited, which costs no other thread a wake-up, and moves to the background
//! only when whoever awaits it is dropped.

use std::pin::Pin;
use std::task::{Context, Poll};

use crate::background::Background;

type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Work that is not broken off.
pub(super) struct Unbroken<T: Send + 'static> {
    /// `None` once it has ended.
    work: Option<Work<T>>,
    /// What becomes of its outcome when nobody waits for that.
    left: Option<Box<dyn FnOnce(T) -> Work<()> + Send>>,
    background: Background,
}

impl<T: Send + 'static> Unbroken<T> {
    pub(super) fn new<F: Future<Output = ()> + Send + 'static>(
        background: Background,
        work: impl Future<Output = T> + Send + 'static,
        left: impl FnOnce(T) -> F + Send + 'static,
    ) -> Self {
        let left = |outcome| -> Work<()> { Box::pin(left(outcome)) };
        Self {
            work: Some(Box::pin(work)),
            left: Some(Box::new(left)),
            background,
        }
    }
}

impl<T: Send + 'static> Future for Unbroken<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let Some(work) = &mut self.work else {
            return Poll::Pending;
        };
        let polled = work.as_mut().poll(context);
        if polled.is_ready() {
            self.work = None;
        }
        polled
    }
}

impl<T: Send + 'static> Drop for Unbroken<T> {
    fn drop(&mut self) {
        if let (Some(work), Some(left)) = (self.work.take(), self.left.take()) {
            self.background.spawn(async move { left(work.await).await });
        }
    }
}
