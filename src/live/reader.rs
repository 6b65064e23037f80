//! A reader: one blocking Redis connection that follows many streams.
//!
//! XREAD only tells *which* streams have something; entries are then read together with the
//! counters of their stream, in one step, because only that tells whether something was removed in
//! between. After an outage everything followed is read from where it stood.

use std::collections::HashSet;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::time::Instant;

use super::hub::Inner;
use super::tail::{Feed, Tail};
use crate::model::history::Standing;
use crate::model::id::EntryId;
use crate::model::page::Page;
use crate::model::position::Position;
use crate::store::{Blocking, Lane, StoreError};

/// Entries in a page, at most.
const PAGE_ENTRIES: usize = 512;
/// Streams read at once after a wake-up, over the reader's own connection.
const AT_ONCE: usize = 32;
/// Between attempts to get a connection.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// What others know of a reader.
pub(super) struct Reader {
    /// Tails given by the hub and not yet taken up.
    given: Mutex<Vec<Arc<Tail>>>,
    /// Tails given and followed. Raised by the hub, lowered by the reader.
    load: AtomicUsize,
    /// The connection's client id, 0 while there is none. Written by the reader.
    client: AtomicI64,
}

/// A tail and where its reader stands. Belongs to the reader alone.
struct Followed {
    tail: Arc<Tail>,
    /// `None` until it was looked at for the first time.
    at: Option<Position>,
    /// The key is no stream, or Redis denies it: left out of XREAD, looked at now and then.
    unreadable: bool,
    /// Has something to read, or must be looked at.
    due: bool,
    /// Since when nobody has listened.
    deserted: Option<Instant>,
}

/// Why a reader lets go of its connection.
enum End {
    Idle,
    Stopped,
    Failed(StoreError),
}

impl Reader {
    pub(super) fn new(first: Arc<Tail>) -> Self {
        Self {
            given: Mutex::new(vec![first]),
            load: AtomicUsize::new(1),
            client: AtomicI64::new(0),
        }
    }

    pub(super) fn give(&self, tail: Arc<Tail>) {
        self.load.fetch_add(1, Ordering::Relaxed);
        self.given.lock().unwrap_or_else(PoisonError::into_inner).push(tail);
    }

    pub(super) fn load(&self) -> usize {
        self.load.load(Ordering::Relaxed)
    }

    pub(super) fn is_empty_handed(&self) -> bool {
        self.given.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    pub(super) fn is_given(&self, tail: &Tail) -> bool {
        let given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        given.iter().any(|other| std::ptr::eq(&raw const **other, tail))
    }

    pub(super) fn client(&self) -> Option<i64> {
        Some(self.client.load(Ordering::Relaxed)).filter(|client| *client != 0)
    }

    /// Reads until there is nothing left to read, or the gateway stops.
    pub(super) async fn run(self: Arc<Self>, hub: Arc<Inner>) {
        let mut followed = Vec::new();
        let mut backoff = BACKOFF.0;
        loop {
            let connection = tokio::select! {
                () = hub.stop.cancelled() => return,
                connection = hub.store.blocking() => connection,
            };
            let error = match connection {
                Ok(connection) => {
                    match self.follow(&hub, &connection, &mut followed, &mut backoff).await {
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
        followed: &mut Vec<Followed>,
        backoff: &mut Duration,
    ) -> End {
        match hub.store.client_id(connection).await {
            Ok(client) => self.client.store(client, Ordering::Relaxed),
            Err(error) => return End::Failed(error),
        }
        *backoff = BACKOFF.0;
        let lane = Lane::Own(connection.handle());
        let mut look_at_all = Instant::now();
        loop {
            let given =
                std::mem::take(&mut *self.given.lock().unwrap_or_else(PoisonError::into_inner));
            followed.extend(given.into_iter().map(Followed::new));
            if Instant::now() >= look_at_all {
                self.prune(hub, followed);
                for followed in followed.iter_mut() {
                    followed.due = true;
                }
                look_at_all = Instant::now() + hub.settings.look_every;
            }
            if followed.is_empty() && hub.retire(self) {
                return End::Idle;
            }
            if let Err(error) = advance_due(hub, &lane, followed).await {
                return End::Failed(error);
            }

            let heads: Vec<_> = followed.iter().filter_map(Followed::head).collect();
            let block =
                hub.settings.block.min(look_at_all.saturating_duration_since(Instant::now()));
            if heads.is_empty() {
                // Only unreadable keys: there is nothing to block on.
                tokio::select! {
                    () = hub.stop.cancelled() => return End::Stopped,
                    () = tokio::time::sleep(block.min(BACKOFF.1)) => continue,
                }
            }
            let waited = tokio::select! {
                () = hub.stop.cancelled() => return End::Stopped,
                waited = hub.store.wait_for_entries(connection, &heads, block) => waited,
            };
            match waited {
                Ok(woken) => {
                    let woken: HashSet<Vec<u8>> = woken.into_iter().collect();
                    for followed in followed.iter_mut() {
                        followed.due |= woken.contains(followed.tail.stream.as_str().as_bytes());
                    }
                }
                Err(error) if error.is_outage() => return End::Failed(error),
                // One of the keys is to blame: each is looked at by itself.
                Err(_) => look_at_all = Instant::now(),
            }
        }
    }

    /// Lets go of tails that nobody has listened to for a while.
    fn prune(&self, hub: &Inner, followed: &mut Vec<Followed>) {
        let now = Instant::now();
        for followed in followed.iter_mut() {
            match (followed.tail.feed.receiver_count(), followed.deserted) {
                (0, None) => followed.deserted = Some(now),
                (0, Some(_)) => {}
                (_, _) => followed.deserted = None,
            }
        }
        let long = |since: Instant| now.duration_since(since) >= hub.settings.look_every;
        let deserted = followed.iter().filter(|followed| followed.deserted.is_some_and(long));
        let idle = hub.drop_idle(deserted.map(|followed| &followed.tail));
        if idle.is_empty() {
            return;
        }
        followed.retain(|followed| !idle.contains(&followed.tail.stream));
        self.load.fetch_sub(idle.len(), Ordering::Relaxed);
    }
}

/// Reads whatever is due, several streams at a time.
async fn advance_due(
    hub: &Inner,
    lane: &Lane,
    followed: &mut [Followed],
) -> Result<(), StoreError> {
    let mut due = Vec::new();
    for followed in followed.iter_mut().filter(|followed| followed.due) {
        due.push(followed.advance(hub, lane));
    }
    let mut advancing = futures_util::stream::iter(due).buffer_unordered(AT_ONCE);
    while let Some(advanced) = advancing.next().await {
        advanced?;
    }
    Ok(())
}

impl Followed {
    fn new(tail: Arc<Tail>) -> Self {
        Self { tail, at: None, unreadable: false, due: true, deserted: None }
    }

    /// What XREAD is to be told of this stream.
    fn head(&self) -> Option<(crate::model::name::StreamName, EntryId)> {
        let at = self.at.filter(|_| !self.unreadable)?;
        Some((self.tail.stream.clone(), at.id))
    }

    /// Feeds what is new, up to the tail of the stream or the end of this turn.
    ///
    /// # Errors
    /// That Redis is away; whatever else is wrong concerns this stream alone.
    async fn advance(&mut self, hub: &Inner, lane: &Lane) -> Result<(), StoreError> {
        let advanced = match self.at {
            None => hub.store.facts(lane, &self.tail.stream).await.map(|facts| {
                self.at = Some(facts.tail());
                true
            }),
            Some(at) => self.feed_from(hub, lane, at).await,
        };
        let mut all_fed = true;
        match advanced {
            Ok(fed) => {
                self.unreadable = false;
                all_fed = fed;
            }
            Err(error) if error.is_outage() => return Err(error),
            Err(error) => {
                if !self.unreadable {
                    tracing::info!(stream = %self.tail.stream, %error, "a followed stream cannot be read");
                }
                self.unreadable = true;
                // Whatever comes to stand there is new from its beginning.
                self.at = Some(Position::START);
                let _ = self.tail.feed.send(Feed::Look);
            }
        }
        self.due = !all_fed;
        self.tail.ready.send_replace(true);
        Ok(())
    }

    /// True when the tail was reached.
    async fn feed_from(
        &mut self,
        hub: &Inner,
        lane: &Lane,
        from: Position,
    ) -> Result<bool, StoreError> {
        let (stream, bytes) = (&self.tail.stream, hub.settings.page_bytes);
        let mut at = from;
        // A turn: no more pages than are kept, so that a stream far behind does not hold up others.
        for _ in 0..hub.settings.pages {
            let read =
                hub.store.read_after(lane, stream, at, EntryId::MAX, PAGE_ENTRIES, bytes).await?;
            match read.standing {
                Standing::Intact => {}
                // Followers count their own losses: some may have read what the others have not.
                Standing::Overtaken { .. } => {
                    let _ = self.tail.feed.send(Feed::Look);
                }
                Standing::Reset => {
                    let _ = self.tail.feed.send(Feed::Look);
                    at = Position::START;
                    self.at = Some(at);
                    continue;
                }
            }
            let (end, done) = (read.end(at), read.at_tail);
            if !read.entries.is_empty() {
                let page = Page::new(stream.clone(), at, read.entries, &read.numbers);
                let _ = self.tail.feed.send(Feed::Page(Arc::new(page)));
            }
            at = end;
            self.at = Some(at);
            if done {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
