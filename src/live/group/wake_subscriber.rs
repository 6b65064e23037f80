//! Wake-ups for freed entries of groups, over one pub/sub connection for all waiting readers.
//!
//! The gateway is subscribed to the channel of a group while a reader waits for it, and a little
//! longer, because a reader usually returns. Correctness does not depend on the messages: a waiting
//! reader also retries every few seconds. A lost connection costs time, never an entry.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::live::hub::Inner;
use crate::model::name::{GroupName, StreamName};
use crate::redis::{Store, StoreError};

/// Time that a channel stays subscribed after its last waiting reader has left.
const LINGER: Duration = Duration::from_secs(10);
/// Interval of checks of the connection, and of channels without waiting readers.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Minimum and maximum delay between connection attempts.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// Maximum time that a reader waits for the subscription of its group. A reader that goes on
/// without it may be slower, but stays correct.
const READY_WITHIN: Duration = Duration::from_millis(250);

/// The messages received for a group. Written only by the listening task.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::live) struct Told {
    /// The number of times entries were freed. A reader retries when it grows.
    freed: u64,
    /// The time at which an entry becomes due, if a message announced it.
    due: Option<Instant>,
    /// Whether the channel is subscribed.
    listening: bool,
}

/// The groups with waiting readers, by channel.
#[derive(Default)]
pub(in crate::live) struct GroupWakes {
    groups: Mutex<HashMap<String, Group>>,
    /// Notified when a group is added.
    changed: Notify,
    /// Whether the listening task was started.
    started: AtomicBool,
}

struct Group {
    told: watch::Sender<Told>,
    /// The time since which no reader waits. Written by the listening task.
    deserted: Option<Instant>,
}

/// The receiver of one waiting reader for one group.
pub(in crate::live) struct WakeReceiver {
    told: watch::Receiver<Told>,
    /// The last seen value of `freed`.
    seen: u64,
}

/// A wake-up message.
pub(in crate::live) enum Call {
    /// Entries were freed.
    Freed,
    /// An entry becomes due at this time.
    Due(Instant),
}

impl GroupWakes {
    fn groups(&self) -> MutexGuard<'_, HashMap<String, Group>> {
        self.groups.lock()
    }

    /// Updates the readers of one channel, or of all channels if `None`.
    fn tell(&self, channel: Option<&str>, change: impl Fn(&mut Told)) {
        let groups = self.groups();
        match channel {
            Some(channel) => {
                if let Some(group) = groups.get(channel) {
                    group.told.send_modify(&change);
                }
            }
            None => groups
                .values()
                .for_each(|group| group.told.send_modify(&change)),
        }
    }

    /// Returns the channels with waiting readers now or until recently, and removes all others.
    fn wanted(&self) -> HashSet<String> {
        let now = Instant::now();
        let mut groups = self.groups();
        groups.retain(|_, group| {
            if group.told.receiver_count() > 0 {
                group.deserted = None;
                return true;
            }
            now < *group.deserted.get_or_insert(now) + LINGER
        });
        groups.keys().cloned().collect()
    }
}

impl WakeReceiver {
    /// Waits for the next message since the receiver was created or last called.
    ///
    /// # Cancel safety
    /// Safe: nothing is lost when dropped.
    pub(in crate::live) async fn next(&mut self) -> Call {
        loop {
            if self.told.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            let told = *self.told.borrow_and_update();
            if told.freed != self.seen {
                self.seen = told.freed;
                return Call::Freed;
            }
            if let Some(due) = told.due {
                return Call::Due(due);
            }
        }
    }
}

impl Inner {
    /// Returns a receiver for a group, after waiting briefly for its channel to be subscribed.
    pub(in crate::live) async fn hear(
        self: &Arc<Self>,
        stream: &StreamName,
        group: &GroupName,
    ) -> WakeReceiver {
        let channel = Store::wake_channel(stream, group);
        let mut told = {
            let mut groups = self.wakes.groups();
            let known = groups.entry(channel).or_insert_with(|| {
                self.wakes.changed.notify_one();
                Group {
                    told: watch::Sender::default(),
                    deserted: None,
                }
            });
            known.told.subscribe()
        };
        if !self.wakes.started.swap(true, Ordering::Relaxed) {
            self.background.spawn(self.clone().listen());
        }
        let ready = told.wait_for(|told| told.listening);
        let _ = tokio::time::timeout(READY_WITHIN, ready).await;
        let seen = told.borrow_and_update().freed;
        WakeReceiver { told, seen }
    }

    /// Listens for all groups until the gateway shuts down.
    async fn listen(self: Arc<Self>) {
        let mut backoff = BACKOFF.0;
        loop {
            let listened = tokio::select! {
                () = self.stop.cancelled() => return,
                listened = self.listen_once(&mut backoff) => listened,
            };
            self.metrics
                .redis_connections
                .get_or_create(&[("kind", "listening")])
                .set(0);
            // Readers are not woken: a retry now would probably lose a command on a failing
            // connection.
            self.wakes.tell(None, |told| told.listening = false);
            if let Err(error) = listened {
                tracing::debug!(%error, "lost the pub/sub connection for group wake-ups");
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(backoff) => {}
            }
            backoff = (backoff * 2).min(BACKOFF.1);
        }
    }

    /// Listens over one connection until it fails.
    async fn listen_once(&self, backoff: &mut Duration) -> Result<(), StoreError> {
        let (mut ear, mut calls) = self.store.listen().await?;
        *backoff = BACKOFF.0;
        self.metrics
            .redis_connections
            .get_or_create(&[("kind", "listening")])
            .set(1);
        let mut open: HashSet<String> = HashSet::new();
        let mut look = Instant::now() + LOOK_EVERY;
        // Recomputing for every message would be costly: groups can be many, and messages more.
        let mut compare = true;
        loop {
            if std::mem::take(&mut compare) {
                let wanted = self.wakes.wanted();
                for channel in wanted.difference(&open) {
                    ear.open(channel).await?;
                    // Messages before the subscription were missed, so readers must retry.
                    self.wakes.tell(Some(channel), |told| {
                        told.listening = true;
                        told.freed += 1;
                    });
                }
                for channel in open.difference(&wanted) {
                    ear.close(channel).await?;
                }
                open = wanted;
            }
            tokio::select! {
                () = self.wakes.changed.notified() => compare = true,
                () = tokio::time::sleep_until(look) => {
                    ear.test().await?;
                    look = Instant::now() + LOOK_EVERY;
                    compare = true;
                }
                call = calls.next() => {
                    let Some((channel, due_ms)) = call else { return Ok(()) };
                    self.wakes.tell(Some(&channel), |told| match due_ms {
                        0 => told.freed += 1,
                        _ => told.expect(Duration::from_millis(due_ms)),
                    });
                }
            }
        }
    }
}

impl Told {
    fn expect(&mut self, due_in: Duration) {
        let now = Instant::now();
        let ahead = self.due.filter(|due| *due > now);
        self.due = Some(ahead.map_or(now + due_in, |due| due.min(now + due_in)));
    }
}
