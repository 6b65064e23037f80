//! Who waits for entries of a group to be freed, and the one connection on which all of them listen.
//!
//! A group is listened to while somebody waits there, and a little longer, since who waited comes
//! again. Nothing depends on being heard: whoever waits tries again every few seconds, so a
//! connection that is away costs time, never an entry.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::live::hub::Inner;
use crate::model::name::{GroupName, StreamName};
use crate::redis::{Store, StoreError};

/// How long a group is listened to after the last who waited has gone.
const LINGER: Duration = Duration::from_secs(10);
/// Between looks whether the connection lives, and for groups nobody waits for.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Between attempts to connect.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// How long a reader waits until its group is listened to; without that it is slower, not wrong.
const READY_WITHIN: Duration = Duration::from_millis(250);

/// What was told of a group. Written by the task that listens alone.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::live) struct Told {
    /// How often entries were freed: whoever sees this grow tries.
    freed: u64,
    /// When something falls due, if that was told and lies ahead.
    due: Option<Instant>,
    /// What is told from now on is heard.
    listening: bool,
}

/// Groups somebody waits for, by their channels.
#[derive(Default)]
pub(in crate::live) struct Wakes {
    groups: Mutex<HashMap<String, Group>>,
    /// Called when a group is new.
    changed: Notify,
    /// The task that listens was started.
    started: AtomicBool,
}

struct Group {
    told: watch::Sender<Told>,
    /// Since when nobody has waited. Written by the task that listens.
    deserted: Option<Instant>,
}

/// What somebody who waits hears of a group.
pub(in crate::live) struct Hearing {
    told: watch::Receiver<Told>,
    /// What was seen of `freed`.
    seen: u64,
}

/// What is heard next.
pub(in crate::live) enum Call {
    /// Entries were freed.
    Freed,
    /// Something falls due then.
    Due(Instant),
}

impl Wakes {
    fn groups(&self) -> MutexGuard<'_, HashMap<String, Group>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells everybody who waits for a group, or for any.
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

    /// Channels somebody waits for or waited for a moment ago; the others are forgotten.
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

impl Hearing {
    /// What is told next, of entries freed since this was made or last called.
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
    /// Begins to hear of a group, and waits a moment until it is listened to.
    pub(in crate::live) async fn hear(
        self: &Arc<Self>,
        stream: &StreamName,
        group: &GroupName,
    ) -> Hearing {
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
        Hearing { told, seen }
    }

    /// Listens for all groups until the gateway stops.
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
            // Nobody is called: to try now would be to lose a command on a connection that breaks.
            self.wakes.tell(None, |told| told.listening = false);
            if let Err(error) = listened {
                tracing::debug!(%error, "nothing is heard of groups");
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(backoff) => {}
            }
            backoff = (backoff * 2).min(BACKOFF.1);
        }
    }

    /// Over one connection, for as long as it holds.
    async fn listen_once(&self, backoff: &mut Duration) -> Result<(), StoreError> {
        let (mut ear, mut calls) = self.store.listen().await?;
        *backoff = BACKOFF.0;
        self.metrics
            .redis_connections
            .get_or_create(&[("kind", "listening")])
            .set(1);
        let mut open: HashSet<String> = HashSet::new();
        let mut look = Instant::now() + LOOK_EVERY;
        // Not at every call: groups may be many, and calls more.
        let mut compare = true;
        loop {
            if std::mem::take(&mut compare) {
                let wanted = self.wakes.wanted();
                for channel in wanted.difference(&open) {
                    ear.open(channel).await?;
                    // What was told before this was not heard.
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
