//! Detached work, which continues when its caller is dropped. A read of a group changes state in
//! Redis, so its result must be handled even if the request is gone.
//!
//! The work runs in the task that awaits it, which needs no wake-up of another thread. It moves to
//! the background only when that task drops it. Either way it uses the share of its caller.

use std::pin::Pin;
use std::task::{Context, Poll};

use crate::background::Background;
use crate::shares;

type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A future that completes in the background if it is dropped early.
pub(in crate::live) struct Detached<T: Send + 'static> {
    /// The work; `None` once it has ended.
    work: Option<Work<T>>,
    /// The handler of the result if the work was dropped early.
    left: Option<Box<dyn FnOnce(T) -> Work<()> + Send>>,
    background: Background,
}

impl<T: Send + 'static> Detached<T> {
    pub(in crate::live) fn new<F: Future<Output = ()> + Send + 'static>(
        background: Background,
        work: impl Future<Output = T> + Send + 'static,
        left: impl FnOnce(T) -> F + Send + 'static,
    ) -> Self {
        let left = |outcome| -> Work<()> { Box::pin(left(outcome)) };
        Self {
            work: Some(Box::pin(shares::inherit(work))),
            left: Some(Box::new(left)),
            background,
        }
    }
}

impl<T: Send + 'static> Future for Detached<T> {
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

impl<T: Send + 'static> Drop for Detached<T> {
    fn drop(&mut self) {
        if let (Some(work), Some(left)) = (self.work.take(), self.left.take()) {
            self.background.spawn(async move { left(work.await).await });
        }
    }
}
