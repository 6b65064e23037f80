//! Supervision of the shared connections: health checks, and the health that others see.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::redis::conn::dial::greet;
use crate::redis::conn::pool::Connections;
use crate::redis::conn::shared::SharedConnection;
use crate::redis::error::StoreError;

/// Interval between health checks of the shared connections.
const PING_EVERY: Duration = Duration::from_secs(1);

impl Connections {
    /// Supervises the server until it is retired: keeps its connections alive and its health up to
    /// date, and follows its address and its sentinels.
    pub async fn supervise(&self) {
        tokio::select! {
            () = self.retired.cancelled() => {}
            () = self.keep_alive() => {}
            () = self.follow_master() => {}
            () = self.follow_address() => {}
        }
    }

    /// Keeps the shared connections alive and `health` up to date.
    async fn keep_alive(&self) {
        let mut tick = tokio::time::interval(PING_EVERY);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = self.doubted.notified() => {}
                () = self.ended.notified() => {}
            }
            self.check().await;
        }
    }

    /// Pings the shared connections and discards dead ones.
    pub async fn check(&self) {
        // Each worker opens its own connection when it first writes.
        let made = self.writers[1..]
            .iter()
            .filter(|slot| slot.open().is_some());
        let slots = self.writers[..1].iter().chain(&self.readers).chain(made);
        for error in futures_util::future::join_all(slots.map(|slot| self.ping(slot))).await {
            self.note(error.as_ref());
        }
    }

    /// Requests an immediate health check, because something suggests that Redis is unreachable.
    pub fn request_check(&self) {
        self.doubted.notify_one();
        self.suspected.notify_one();
    }

    async fn ping(&self, slot: &SharedConnection) -> Option<StoreError> {
        loop {
            let held = match self.held_in(slot).await {
                Ok(held) => held,
                Err(error) => return Some(error),
            };
            let before = held.answered.load(Ordering::Relaxed);
            let answer = held.replaced.run_until_cancelled(greet(&held.wire.handle));
            if let Some(result) = answer.await {
                return self.finish_call(slot, &held, before, result).err();
            }
            slot.discard(&held);
        }
    }

    pub(super) fn note(&self, error: Option<&StoreError>) {
        let cause = error
            .filter(|error| error.is_outage())
            .map(StoreError::cause);
        self.health.send_if_modified(|health| health.record(cause));
    }
}
