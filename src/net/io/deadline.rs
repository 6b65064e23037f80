//! A deadline that moves with every request and rarely expires. The underlying timer is reset only
//! when it fires, or when the deadline moves to an earlier time.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep, sleep_until};

/// A movable deadline.
pub(crate) struct Deadline {
    at: Option<Instant>,
    /// Fires at `at` or earlier.
    timer: Pin<Box<Sleep>>,
}

impl Deadline {
    pub(crate) fn new(at: Instant) -> Self {
        Self {
            at: Some(at),
            timer: Box::pin(sleep_until(at)),
        }
    }

    /// Moves the deadline. `None` disables it until the next call.
    pub(crate) fn set(&mut self, at: Option<Instant>) {
        self.at = at;
    }

    /// Returns ready once the deadline has passed.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.at else {
            return Poll::Pending;
        };
        if at < self.timer.deadline() {
            self.timer.as_mut().reset(at);
        }
        loop {
            ready!(self.timer.as_mut().poll(cx));
            if Instant::now() >= at {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn a_deadline_is_met_at_its_last_time_whichever_way_it_moved() {
        let begun = Instant::now();
        let after = |ms| begun + Duration::from_millis(ms);
        let mut deadline = Deadline::new(after(20));
        let met = async |deadline: &mut Deadline| {
            std::future::poll_fn(|cx| deadline.poll(cx)).await;
            begun.elapsed()
        };
        deadline.set(Some(after(60)));
        assert!(met(&mut deadline).await >= Duration::from_millis(60));
        deadline.set(Some(after(10_000)));
        deadline.set(None);
        deadline.set(Some(after(90)));
        let at = met(&mut deadline).await;
        assert!(
            at >= Duration::from_millis(90) && at < Duration::from_secs(5),
            "{at:?}"
        );
    }
}
