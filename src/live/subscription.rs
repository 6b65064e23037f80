//! A subscription: one reader of one stream, as bytes of server-sent events or of NDJSON.
//!
//! It has no task of its own. Whoever holds it asks for the next bytes when the socket has room,
//! so a slow client slows nobody but itself: when it comes back to ask, what it missed is read
//! from the stream.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::hub::{Hub, JoinError};
use super::signal::{Closing, Signal};
use super::tail::{Following, Heard};
use crate::metrics::Held;
use crate::model::history::Standing;
use crate::model::id::EntryId;
use crate::model::name::StreamName;
use crate::model::page::{EventView, Page};
use crate::model::position::Position;
use crate::model::time::Time;
use crate::store::{Lane, StoreError, Stretch};

/// Entries of one read while catching up.
const CATCH_UP_ENTRIES: usize = 512;
/// Between attempts while Redis is away: doubled up to the greatest.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// Where a subscription begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// After a position.
    After(Position),
    /// After the last entry there is.
    Tail,
    /// With the entries of this time and later.
    Since(Time),
    /// With the last so many entries.
    Last(usize),
}

/// What a subscription does next.
enum Phase {
    /// Read the stream from the cursor.
    CatchUp,
    /// Redis is away: the same, at that time.
    Away(Instant),
    /// Listen.
    Live,
    /// Nothing follows.
    Ended,
}

type Reading = Pin<Box<dyn Future<Output = Result<Stretch, StoreError>> + Send>>;

/// One subscription.
pub struct Subscription {
    hub: Hub,
    stream: StreamName,
    view: EventView,
    following: Following,
    /// Everything up to here was handed out.
    cursor: Position,
    phase: Phase,
    /// The read that is under way: a heartbeat in the middle of it does not begin it anew.
    reading: Option<Reading>,
    retry: Duration,
    /// Comes before anything else.
    opening: Option<Bytes>,
    heartbeat: Duration,
    next_heartbeat: Instant,
    drain: CancellationToken,
    _counted: Held,
}

impl Subscription {
    /// Joins a stream and finds where to begin. `drain` ends the subscription with `$end`;
    /// `counted` is held as long as it lives.
    ///
    /// # Errors
    /// [`JoinError`], when nothing was handed out yet.
    pub async fn open(
        hub: Hub,
        stream: StreamName,
        begin: Begin,
        view: EventView,
        heartbeat: Duration,
        drain: CancellationToken,
        counted: Held,
    ) -> Result<Self, JoinError> {
        let following = hub.join(&stream).await?;
        let cursor = hub.resolve(&stream, begin).await?;
        let mut this = Self {
            hub,
            stream,
            view,
            following,
            cursor,
            phase: Phase::CatchUp,
            reading: None,
            retry: RETRY.0,
            opening: None,
            heartbeat: spread(heartbeat),
            next_heartbeat: Instant::now() + heartbeat,
            drain,
            _counted: counted,
        };
        let opening = Signal::open(&this.stream, cursor).frame(Some(cursor), this.view.framing);
        this.opening = Some(opening).filter(|opening| !opening.is_empty());
        Ok(this)
    }

    /// The next bytes to send; `None` when the subscription is over.
    ///
    /// # Errors
    /// What a retry alone does not mend, once: the subscription is over after it.
    /// # Cancel safety
    /// Safe: nothing is lost when dropped.
    pub async fn next(&mut self) -> Option<Result<Bytes, StoreError>> {
        if let Some(opening) = self.opening.take() {
            return Some(Ok(opening));
        }
        loop {
            let wait_until = match self.phase {
                Phase::Ended => return None,
                Phase::Away(until) => Some(until),
                Phase::CatchUp | Phase::Live => None,
            };
            let live = matches!(self.phase, Phase::Live);
            let step = tokio::select! {
                biased;
                () = self.drain.cancelled() => {
                    self.phase = Phase::Ended;
                    return Some(Ok(Closing::Draining.frame(Some(self.cursor), self.view.framing)));
                }
                () = sleep_until(self.next_heartbeat) => {
                    self.next_heartbeat = Instant::now() + self.heartbeat;
                    return Some(Ok(Bytes::from_static(self.view.framing.heartbeat().as_bytes())));
                }
                () = sleep_until(wait_until.unwrap_or_else(Instant::now)), if wait_until.is_some() => {
                    self.phase = Phase::CatchUp;
                    continue;
                }
                heard = self.following.next(), if live => self.hear(heard).map(Ok),
                read = read_on(&mut self.reading, &self.hub, &self.stream, self.cursor), if !live && wait_until.is_none() => {
                    self.reading = None;
                    self.catch_up(read)
                }
            };
            if let Some(bytes) = step {
                self.next_heartbeat = Instant::now() + self.heartbeat;
                return Some(bytes);
            }
        }
    }

    fn hear(&mut self, heard: Heard) -> Option<Bytes> {
        match heard {
            Heard::Page(page) if page.after.id <= self.cursor.id => {
                let bytes = page.frames(&self.view, self.cursor.id);
                if page.end().id > self.cursor.id {
                    self.cursor = page.end();
                }
                return Some(bytes).filter(|bytes| !bytes.is_empty());
            }
            Heard::Page(_) | Heard::Look => self.phase = Phase::CatchUp,
            Heard::Behind => {
                self.hub.0.metrics.fell_behind.inc();
                self.phase = Phase::CatchUp;
            }
            Heard::Closed => {
                self.phase = Phase::Ended;
                return Some(Closing::Draining.frame(Some(self.cursor), self.view.framing));
            }
        }
        None
    }

    fn catch_up(&mut self, read: Result<Stretch, StoreError>) -> Option<Result<Bytes, StoreError>> {
        match read {
            Ok(read) => self.read_on(read).map(Ok),
            Err(error) if error.is_outage() => {
                self.phase = Phase::Away(Instant::now() + spread(self.retry));
                self.retry = (self.retry * 2).min(RETRY.1);
                None
            }
            Err(error) => {
                self.phase = Phase::Ended;
                Some(Err(error))
            }
        }
    }

    fn read_on(&mut self, read: Stretch) -> Option<Bytes> {
        self.retry = RETRY.0;
        let mut bytes = Vec::new();
        match read.standing {
            Standing::Intact => {}
            Standing::Reset => {
                self.hub.0.metrics.resets.inc();
                self.cursor = Position::START;
                let reset = Signal::Reset { stream: self.stream.as_str() };
                return Some(reset.frame(Some(self.cursor), self.view.framing));
            }
            Standing::Overtaken { lost } => {
                self.hub.0.metrics.gaps.inc();
                let gap = Signal::Gap {
                    stream: self.stream.as_str(),
                    after: self.cursor.to_string(),
                    oldest: read.facts.oldest.map(|id| id.to_string()),
                    lost,
                };
                self.cursor = read.facts.after_gap();
                gap.write(&mut bytes, Some(self.cursor), self.view.framing);
            }
        }
        if read.at_tail {
            self.phase = Phase::Live;
        }
        let (after, end) = (self.cursor, read.end(self.cursor));
        self.cursor = end;
        if !read.entries.is_empty() {
            let page = Page::new(self.stream.clone(), after, read.entries, &read.numbers);
            bytes.extend_from_slice(&page.frames(&self.view, after.id));
        }
        Some(Bytes::from(bytes)).filter(|bytes| !bytes.is_empty())
    }
}

async fn read_on(
    reading: &mut Option<Reading>,
    hub: &Hub,
    stream: &StreamName,
    after: Position,
) -> Result<Stretch, StoreError> {
    let begin = || -> Reading {
        let (hub, stream) = (hub.clone(), stream.clone());
        Box::pin(async move {
            let (store, bytes) = (&hub.0.store, hub.0.settings.page_bytes);
            let (lane, end) = (Lane::Shared, EntryId::MAX);
            store.read_after(&lane, &stream, after, end, CATCH_UP_ENTRIES, bytes).await
        })
    };
    reading.get_or_insert_with(begin).await
}

impl Hub {
    /// The position a subscription begins at.
    async fn resolve(&self, stream: &StreamName, begin: Begin) -> Result<Position, StoreError> {
        let store = &self.0.store;
        let (position, facts) = match begin {
            Begin::Last(count) => {
                return Ok(store.before_last(stream, count, EntryId::MAX).await?.0);
            }
            Begin::Since(time) => store.before_time(stream, time).await?,
            Begin::After(_) | Begin::Tail => {
                let facts = store.facts(&Lane::Shared, stream).await?;
                let after = if let Begin::After(after) = begin { after } else { facts.tail() };
                (after, facts)
            }
        };
        let untouched = facts.entries_added == Some(facts.length);
        Ok(if position.is_oldest() && untouched { Position::START } else { position })
    }
}

/// ±20 %, so that what began together does not stay together.
fn spread(duration: Duration) -> Duration {
    duration.mul_f64(0.8 + 0.4 * fastrand::f64())
}
