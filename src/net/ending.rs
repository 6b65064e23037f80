//! That the gateway is stopping, for connections: each asks whenever it is polled, several times for
//! each request. A `CancellationToken` takes a lock to answer, which all threads share.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Whether connections are to end.
#[derive(Default)]
pub(crate) struct Ending {
    begun: AtomicBool,
    called: Notify,
}

impl Ending {
    /// Has all connections end, those that wait and those that look later.
    pub(crate) fn begin(&self) {
        self.begun.store(true, Ordering::Release);
        self.called.notify_waiters();
    }

    /// Costs next to nothing.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    /// Until it has begun. Polled once, it wakes whoever polled it.
    pub(crate) async fn begins(&self) {
        // Made before it is looked: a call in between is not lost.
        let called = self.called.notified();
        if !self.has_begun() {
            called.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[test]
    fn who_waits_and_who_comes_later_are_told() {
        let ending = Ending::default();
        let mut waits = std::pin::pin!(ending.begins());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(waits.as_mut().poll(&mut context).is_pending());
        assert!(!ending.has_begun());
        ending.begin();
        assert!(ending.has_begun());
        assert!(waits.as_mut().poll(&mut context).is_ready());
        assert_eq!(ending.begins().now_or_never(), Some(()));
    }
}
