//! A reader: one blocking Redis connection that follows many streams.
//!
//! XREAD tells *which* streams have something. Their entries are read together with the counters of
//! their stream, in one step, because only that tells whether something was removed in between. But
//! XREAD brings the first entries along, and if counters asked for right after it account for every
//! one of them, they are all there was: nothing else need be read. With the counters it is looked up
//! whether the entry that was read last is still there: a stream can be replaced by another history of
//! it whose counts fit. After an outage everything followed is read from where it stood.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::time::Instant;

use crate::live::followed::Followed;
use crate::live::hub::Inner;
use crate::live::tail::Tail;
use crate::model::name::StreamName;
use crate::model::position::Position;
use crate::redis::{Blocking, Lane, StoreError, StreamCheck, Woken};

/// Streams read at once after a wake-up, over the reader's own connection.
const AT_ONCE: usize = 32;
/// Quiet streams looked at in one command.
const GLANCED_AT: usize = 100;
/// So few streams are checked along with XREAD, which saves a round trip.
const FEW: usize = 16;
/// And so many entries come along of each; of more streams one. A stream that has more is read by
/// itself, with a bound on bytes.
const AT_A_TIME: usize = 8;
/// From so many streams on a reader takes its time.
const CROWD: usize = 64;
/// How much of it for each.
const PAUSE_PER_STREAM: Duration = Duration::from_micros(8);
/// And at most.
const LONGEST_PAUSE: Duration = Duration::from_millis(10);
/// So many streams with something new at once are much.
const MUCH: usize = 8;
/// Between attempts to get a connection.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// What others know of a reader.
pub(super) struct Reader {
    inbox: Mutex<Inbox>,
    /// Tails given and followed. Raised by the hub, lowered by the reader.
    load: AtomicUsize,
    /// The connection's client id, 0 while there is none. Written by the reader.
    client: AtomicI64,
    /// Somebody sees to it that the reader wakes.
    woken: AtomicBool,
}

/// What a reader was asked for and has not taken up yet.
#[derive(Default)]
struct Inbox {
    /// Streams to follow, given by the hub.
    given: Vec<Arc<Tail>>,
    /// Streams to look at, because a follower found them to be different from what the reader knows.
    recheck: HashSet<StreamName>,
}

/// What a reader follows. Belongs to the reader alone.
type All = HashMap<StreamName, Followed>;

/// Why a reader lets go of its connection.
enum End {
    Idle,
    Stopped,
    Failed(StoreError),
}

impl Reader {
    pub(super) fn new(first: Arc<Tail>) -> Self {
        let inbox = Inbox {
            given: vec![first],
            recheck: HashSet::new(),
        };
        Self {
            inbox: Mutex::new(inbox),
            load: AtomicUsize::new(1),
            client: AtomicI64::new(0),
            woken: AtomicBool::new(false),
        }
    }

    pub(super) fn give(&self, tail: Arc<Tail>) {
        self.load.fetch_add(1, Ordering::Relaxed);
        self.inbox().given.push(tail);
    }

    /// Asks for a look at a stream. The reader must be woken for it.
    pub(super) fn recheck(&self, stream: &StreamName) {
        self.inbox().recheck.insert(stream.clone());
    }

    pub(super) fn load(&self) -> usize {
        self.load.load(Ordering::Relaxed)
    }

    pub(super) fn is_empty_handed(&self) -> bool {
        self.inbox().given.is_empty()
    }

    /// True for the one who is to wake the reader: after it has asked, until [`Reader::is_awake`].
    pub(super) fn begins_to_be_woken(&self) -> bool {
        !self.woken.swap(true, Ordering::AcqRel)
    }

    /// Whether it has taken up all it was asked for, so that who wakes it may stop.
    pub(super) fn is_awake(&self) -> bool {
        let inbox = self.inbox();
        // Under the lock: who asks after this begins to wake it again.
        inbox.given.is_empty()
            && inbox.recheck.is_empty()
            && self.woken.swap(false, Ordering::AcqRel)
    }

    pub(super) fn client(&self) -> Option<i64> {
        Some(self.client.load(Ordering::Relaxed)).filter(|client| *client != 0)
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads until there is nothing left to read, or the gateway stops.
    pub(super) async fn run(self: Arc<Self>, hub: Arc<Inner>) {
        let mut followed = All::new();
        let mut backoff = BACKOFF.0;
        loop {
            let connection = tokio::select! {
                () = hub.stop.cancelled() => return,
                connection = hub.store.blocking() => connection,
            };
            let error = match connection {
                Ok(connection) => {
                    match self
                        .follow(&hub, &connection, &mut followed, &mut backoff)
                        .await
                    {
                        End::Idle => return,
                        End::Stopped => return connection.discard(),
                        End::Failed(error) => {
                            connection.discard();
                            error
                        }
                    }
                }
                Err(error) => error,
            };
            self.client.store(0, Ordering::Relaxed);
            tracing::debug!(%error, "a reader lost its connection");
            tokio::select! {
                () = hub.stop.cancelled() => return,
                () = tokio::time::sleep(backoff) => {}
            }
            backoff = (backoff * 2).min(BACKOFF.1);
            // Desertion counts while Redis is away, too.
            self.prune(&hub, &mut followed);
        }
    }

    /// Follows over one connection for as long as it holds.
    async fn follow(
        self: &Arc<Self>,
        hub: &Arc<Inner>,
        connection: &Blocking,
        all: &mut All,
        backoff: &mut Duration,
    ) -> End {
        match hub.store.client_id(connection).await {
            Ok(client) => self.client.store(client, Ordering::Relaxed),
            Err(error) => return End::Failed(error),
        }
        *backoff = BACKOFF.0;
        let lane = Lane::Own(connection.handle());
        // Nothing is known of what happened while there was no connection.
        mark_all(all);
        let mut look_at_all = Instant::now() + hub.settings.look_every;
        let (mut pause, mut refused) = (Duration::ZERO, Duration::ZERO);
        loop {
            let Inbox { given, recheck } = std::mem::take(&mut *self.inbox());
            all.extend(
                given
                    .into_iter()
                    .map(|tail| (tail.stream.clone(), Followed::new(tail))),
            );
            for stream in recheck {
                if let Some(followed) = all.get_mut(&stream) {
                    followed.due = true;
                }
            }
            if Instant::now() >= look_at_all {
                self.prune(hub, all);
                if let Err(error) = glance_at_all(hub, &lane, all).await {
                    return End::Failed(error);
                }
                look_at_all = Instant::now() + hub.settings.look_every;
            }
            if all.is_empty() && hub.retire(self) {
                return End::Idle;
            }
            if let Err(error) = advance_due(hub, &lane, all).await {
                return End::Failed(error);
            }
            tokio::time::sleep(std::mem::take(&mut pause)).await;

            let heads: Vec<_> = all.values().filter_map(Followed::head).collect();
            let block = hub
                .settings
                .block
                .min(look_at_all.saturating_duration_since(Instant::now()));
            if heads.is_empty() {
                // Only unreadable keys: there is nothing to block on.
                tokio::select! {
                    () = hub.stop.cancelled() => return End::Stopped,
                    () = tokio::time::sleep(block.min(BACKOFF.1)) => continue,
                }
            }
            // Of those with large entries one comes along, and none with the counters.
            let few = heads.len() <= FEW
                && hub
                    .store
                    .glanced_at_once(heads.iter().map(|(stream, _)| *stream))
                    == heads.len();
            let count = if few { AT_A_TIME } else { 1 };
            let wait = hub
                .store
                .wait_for_entries(connection, &heads, block, count, few);
            let waited = tokio::select! {
                () = hub.stop.cancelled() => return End::Stopped,
                waited = wait => waited,
            };
            match waited {
                Ok(woken) => {
                    refused = Duration::ZERO;
                    pause = pause_after(&woken, all.len());
                    if let Err(error) = take(hub, &lane, all, woken, few).await {
                        return End::Failed(error);
                    }
                }
                Err(error) if error.is_outage() => return End::Failed(error),
                // One of the keys is to blame: each is looked at by itself. If none is, XREAD itself
                // is refused, and would be asked for again without a pause.
                Err(_) => {
                    mark_all(all);
                    pause = refused;
                    refused = (refused * 2).clamp(BACKOFF.0, BACKOFF.1);
                }
            }
        }
    }

    /// Lets go of tails that nobody has listened to for a while, and of pages kept as long.
    fn prune(&self, hub: &Inner, all: &mut All) {
        let now = Instant::now();
        let long_ago = now.checked_sub(hub.settings.look_every);
        for followed in all.values_mut() {
            match (followed.tail.followers(), followed.deserted) {
                (0, None) => followed.deserted = Some(now),
                (0, Some(_)) => {}
                (_, _) => followed.deserted = None,
            }
            if let Some(long_ago) = long_ago {
                followed.tail.forget(long_ago);
            }
        }
        let deserted = all.values().filter(|followed| {
            followed
                .deserted
                .is_some_and(|since| long_ago.is_some_and(|then| since <= then))
        });
        let idle = hub.drop_idle(deserted.map(|followed| &followed.tail));
        if idle.is_empty() {
            return;
        }
        all.retain(|stream, _| !idle.contains(stream));
        self.load.fetch_sub(idle.len(), Ordering::Relaxed);
    }
}

/// Feeds what came along. Unless streams were checked along with it, those are checked now that have
/// something.
async fn take(
    hub: &Inner,
    lane: &Lane,
    all: &mut All,
    woken: Woken,
    checked: bool,
) -> Result<(), StoreError> {
    let mut checks = woken.checks;
    if !checked {
        let at = |(stream, _): &(String, _)| {
            let (stream, followed) = all.get_key_value(stream.as_str())?;
            Some((stream.clone(), followed.at()?))
        };
        let streams: Vec<_> = woken.woken.iter().filter_map(at).collect();
        checks = check(hub, lane, &streams).await?;
    }
    for (stream, entries) in woken.woken {
        if let Some(followed) = all.get_mut(stream.as_str()) {
            followed.take(hub, entries, checks.get(&stream));
        }
    }
    Ok(())
}

/// Checks streams that have just had something; leaves out those that cannot be checked.
async fn check(
    hub: &Inner,
    lane: &Lane,
    streams: &[(StreamName, Position)],
) -> Result<HashMap<String, StreamCheck>, StoreError> {
    let mut checks = HashMap::with_capacity(streams.len());
    let mut rest = streams;
    while !rest.is_empty() {
        let some = at_once(hub, &mut rest);
        match hub.store.check(lane, some).await {
            Ok(found) => {
                let names = some.iter().map(|(stream, _)| stream.as_str().to_owned());
                checks.extend(names.zip(found));
            }
            Err(error) if error.is_outage() => return Err(error),
            // One of them is to blame: each is looked at by itself.
            Err(_) => {}
        }
    }
    Ok(checks)
}

/// Takes as many streams as may be looked at in one command.
fn at_once<'a>(
    hub: &Inner,
    rest: &mut &'a [(StreamName, Position)],
) -> &'a [(StreamName, Position)] {
    let some = &rest[..rest.len().min(GLANCED_AT)];
    let fit = hub
        .store
        .glanced_at_once(some.iter().map(|(stream, _)| stream));
    let (some, others) = rest.split_at(fit);
    *rest = others;
    some
}

/// To ask for very many streams costs Redis, and us, for each of them. So after such a reader was
/// woken it lets more come together before it asks again; twice as long when much comes anyway.
fn pause_after(woken: &Woken, streams: usize) -> Duration {
    if woken.woken.is_empty() || streams <= CROWD {
        return Duration::ZERO;
    }
    let pause = PAUSE_PER_STREAM.saturating_mul(u32::try_from(streams).unwrap_or(u32::MAX));
    pause.min(LONGEST_PAUSE) * if woken.woken.len() >= MUCH { 2 } else { 1 }
}

/// Everything must be looked at.
fn mark_all(all: &mut All) {
    for followed in all.values_mut() {
        followed.due = true;
    }
}

/// Finds those streams that have changed without XREAD telling: they are due.
async fn glance_at_all(hub: &Inner, lane: &Lane, all: &mut All) -> Result<(), StoreError> {
    let at = |(stream, followed): (&StreamName, &Followed)| Some((stream.clone(), followed.at()?));
    let streams: Vec<_> = all.iter().filter_map(at).collect();
    let mut rest = &streams[..];
    while !rest.is_empty() {
        let some = at_once(hub, &mut rest);
        let checks = match hub.store.glance(lane, some).await {
            Ok(checks) => checks,
            Err(error) if error.is_outage() => return Err(error),
            // One of them is to blame: each is looked at by itself.
            Err(_) => vec![None; some.len()],
        };
        for ((stream, _), check) in some.iter().zip(checks) {
            if let Some(followed) = all.get_mut(stream) {
                followed.due |= check.is_none_or(|check| !followed.is_quiet(&check));
            }
        }
    }
    Ok(())
}

/// Reads whatever is due, several streams at a time.
async fn advance_due(hub: &Inner, lane: &Lane, all: &mut All) -> Result<(), StoreError> {
    let mut due: Vec<_> = all.values_mut().filter(|followed| followed.due).collect();
    while !due.is_empty() {
        // Redis goes through all that comes at once before it looks at anybody else.
        let together = hub
            .store
            .glanced_at_once(due.iter().map(|followed| &followed.tail.stream));
        let some = due.drain(..together.min(AT_ONCE));
        try_join_all(some.map(|followed| followed.advance(hub, lane))).await?;
    }
    Ok(())
}
