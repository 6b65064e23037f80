//! The shutdown phase, as seen by connections. Each connection checks it on every poll, several
//! times per request. A `CancellationToken` would take a lock shared by all threads.

use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::Notify;

const RUNNING: u8 = 0;
/// The lame-duck period: requests are answered with `Connection: close`.
const DRAINING: u8 = 1;
/// The end of the lame-duck period: idle connections are closed.
const CLOSING: u8 = 2;

/// The current shutdown phase. It only advances.
#[derive(Default)]
pub(crate) struct ShutdownFlag {
    phase: AtomicU8,
    draining: Notify,
    closing: Notify,
}

impl ShutdownFlag {
    /// Starts the lame-duck period: every connection closes after its next answer.
    pub(crate) fn drain(&self) {
        self.phase.fetch_max(DRAINING, Ordering::AcqRel);
        self.draining.notify_waiters();
    }

    /// Ends the lame-duck period: idle connections close, the others close after their answer.
    pub(crate) fn close(&self) {
        self.phase.store(CLOSING, Ordering::Release);
        self.draining.notify_waiters();
        self.closing.notify_waiters();
    }

    /// Returns whether answers carry `Connection: close`. Takes no lock.
    pub(crate) fn is_draining(&self) -> bool {
        self.phase.load(Ordering::Acquire) != RUNNING
    }

    /// Returns whether idle connections close. Takes no lock.
    pub(crate) fn is_closing(&self) -> bool {
        self.phase.load(Ordering::Acquire) == CLOSING
    }

    /// Waits until the lame-duck period starts.
    pub(crate) async fn draining(&self) {
        // Created before the check, so that a notification in between is not lost.
        let called = self.draining.notified();
        if !self.is_draining() {
            called.await;
        }
    }

    /// Waits until idle connections close. One poll is enough to register the task for a wake-up.
    pub(crate) async fn closing(&self) {
        let called = self.closing.notified();
        if !self.is_closing() {
            called.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[test]
    fn connections_that_wait_and_those_that_come_later_see_each_phase() {
        let flag = ShutdownFlag::default();
        let mut waits = std::pin::pin!(flag.closing());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(waits.as_mut().poll(&mut context).is_pending());
        assert!(!flag.is_draining());
        flag.drain();
        assert_eq!(flag.draining().now_or_never(), Some(()));
        assert!(flag.is_draining() && !flag.is_closing());
        assert!(waits.as_mut().poll(&mut context).is_pending());
        flag.close();
        flag.drain();
        assert!(flag.is_draining() && flag.is_closing());
        assert!(waits.as_mut().poll(&mut context).is_ready());
        assert_eq!(flag.closing().now_or_never(), Some(()));
    }
}
