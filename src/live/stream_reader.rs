//! One stream of a subscription: joins it, reads it up to its tail, then follows new entries.
//!
//! A feed that falls behind reads the stream again, without a special case. Ids prevent duplicate
//! entries, and counters detect lost ones.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::live::context::JoinError;
use crate::live::control_events::Signal;
use crate::live::cursors::Cursors;
use crate::live::hub::Hub;
use crate::live::send_queue::SendQueue;
use crate::live::subscribe_plan::{BoundedRead, EndOf, JoinedStream};
use crate::live::tail::{Following, News, TailState};
use crate::live::timing::spread;
use crate::live::wake_queue::WakeHandle;
use crate::model::history::PositionStatus;
use crate::model::id::EntryId;
use crate::model::name::StreamName;
use crate::model::page::Page;
use crate::model::position::Position;
use crate::model::view::EventView;
use crate::redis::{Lane, StoreError};
use crate::shares;

/// Maximum number of entries in one read while catching up.
const CATCH_UP_ENTRIES: usize = 512;
/// Retry delay while Redis is unreachable: the first delay, and the maximum factor. The delay
/// doubles with each attempt.
const RETRY: (Duration, u32) = (Duration::from_millis(100), 10);
/// Maximum delay of a delivery that counts.
const LONGEST_DELAY: Duration = Duration::from_secs(3600);
/// Number of bytes after which a stream yields to other streams and to the socket.
pub(super) const TURN: usize = 64 << 10;

type Doing<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

/// The current activity of a feed.
enum FeedPhase {
    /// Joining the stream.
    Join(Option<Doing<Following, JoinError>>),
    /// Reading from the cursor.
    CatchUp(Option<Doing<BoundedRead, StoreError>>),
    /// Waiting to retry at this time, because Redis is unreachable.
    Away(Instant),
    /// Following new entries.
    Live,
    /// Finished: the end was reached and no entries follow.
    Complete,
}

/// One stream of one subscription.
pub(super) struct Feed {
    stream: StreamName,
    /// `Some` once the stream is joined.
    following: Option<Following>,
    phase: FeedPhase,
    /// The end of the feed, if it has one, and the time at which the clock of Redis should reach
    /// it.
    end: Option<(EndOf, Option<Instant>)>,
    /// Number of consecutive attempts that failed because Redis is unreachable.
    attempts: u32,
    /// The state of the tail before the last read of the stream.
    known: Option<TailState>,
    /// Whether the tail may have new entries.
    pub(super) news: bool,
    /// Whether the stream is followed because its name matches a prefix. The feed then ends when
    /// the stream is deleted.
    pub(super) matched: bool,
}

/// The context that a feed writes with.
pub(super) struct WriteContext<'a> {
    pub(super) hub: &'a Hub,
    pub(super) view: &'a Arc<EventView>,
    pub(super) wake_handle: &'a Arc<WakeHandle>,
    pub(super) cursors: &'a mut Cursors,
    pub(super) out: &'a mut SendQueue,
}

/// The outcome of polling a feed.
pub(super) enum Step {
    /// The feed has written its share for now and may have more.
    Turn,
    /// The key is no longer a stream, and was followed only because its name matches.
    Gone,
}

impl Feed {
    /// Returns a feed of a joined stream, to be read from the cursor.
    pub(super) fn joined(begun: JoinedStream) -> Self {
        let stream = begun.following.stream().clone();
        Self {
            following: Some(begun.following),
            phase: FeedPhase::CatchUp(None),
            end: begun.end.map(|end| (end, None)),
            ..Self::new(stream, begun.matched)
        }
    }

    /// Returns a feed of a stream that is not joined yet.
    pub(super) fn new(stream: StreamName, matched: bool) -> Self {
        Self {
            stream,
            following: None,
            phase: FeedPhase::Join(None),
            end: None,
            attempts: 0,
            known: None,
            news: true,
            matched,
        }
    }

    pub(super) fn stream(&self) -> &StreamName {
        &self.stream
    }

    /// Returns whether polling the feed may make progress.
    pub(super) fn is_due(&self) -> bool {
        !self.is_complete() && (self.news || !self.is_live() || self.is_past_end())
    }

    /// Returns whether the end was reached and no entries follow.
    pub(super) fn is_complete(&self) -> bool {
        matches!(self.phase, FeedPhase::Complete)
    }

    /// Returns whether the clock of Redis should have reached the end.
    fn is_past_end(&self) -> bool {
        self.end
            .is_some_and(|(_, at)| at.is_some_and(|at| at <= Instant::now()))
    }

    /// Returns whether the stream was read up to its tail.
    pub(super) fn is_live(&self) -> bool {
        matches!(self.phase, FeedPhase::Live)
    }

    /// Returns the time at which to poll the feed again.
    pub(super) fn until(&self) -> Option<Instant> {
        match self.phase {
            FeedPhase::Away(until) => Some(until),
            FeedPhase::Live => self.end.and_then(|(_, at)| at),
            _ => None,
        }
    }

    /// Writes available entries, up to about [`TURN`] bytes. Pending if there are none.
    ///
    /// # Errors
    /// [`JoinError`] if a retry cannot succeed.
    pub(super) fn poll(
        &mut self,
        number: usize,
        writer: &mut WriteContext<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Step, JoinError>> {
        let before = writer.out.len();
        loop {
            let is_past_end = self.is_past_end();
            match &mut self.phase {
                FeedPhase::Join(joining) => {
                    let joining = joining.get_or_insert_with(|| {
                        let (hub, wake_handle) = (writer.hub.clone(), writer.wake_handle.clone());
                        let (stream, number) = (self.stream.clone(), u32::try_from(number));
                        Box::pin(async move {
                            hub.join_as(&stream, wake_handle, number.unwrap_or(0)).await
                        })
                    });
                    match ready!(joining.as_mut().poll(cx)) {
                        Ok(following) => {
                            self.following = Some(following);
                            self.phase = FeedPhase::CatchUp(None);
                        }
                        Err(JoinError::Store(error)) if error.is_passing() => self.away(),
                        Err(error) => return Poll::Ready(Err(error)),
                    }
                }
                FeedPhase::Away(until) if Instant::now() < *until => return Poll::Pending,
                FeedPhase::Away(_) if self.following.is_some() => {
                    self.phase = FeedPhase::CatchUp(None);
                }
                FeedPhase::Away(_) => self.phase = FeedPhase::Join(None),
                FeedPhase::CatchUp(reading) => {
                    let following = &mut self.following;
                    let reading = reading.get_or_insert_with(|| {
                        if let Some(following) = following {
                            self.known = Some(following.mark_seen());
                        }
                        let end = self.end.map(|(end, _)| end);
                        read_on(writer.hub, &self.stream, writer.cursors.at(number), end)
                    });
                    match ready!(reading.as_mut().poll(cx)) {
                        Ok(read) => self.read(number, writer, read),
                        Err(error) if error.is_passing() => self.away(),
                        Err(StoreError::NotAStream) if self.matched => {
                            return Poll::Ready(Ok(Step::Gone));
                        }
                        Err(error) => return Poll::Ready(Err(error.into())),
                    }
                }
                FeedPhase::Complete => return Poll::Pending,
                FeedPhase::Live if is_past_end => self.phase = FeedPhase::CatchUp(None),
                FeedPhase::Live => {
                    let (after, end) = (writer.cursors.at(number), self.end);
                    match self
                        .following
                        .as_ref()
                        .map_or(News::Look, |tail| tail.after(after))
                    {
                        // A page may extend beyond the end, but a read stops there.
                        News::Page(page) if end.is_some_and(|(end, _)| page.end.id >= end.id) => {
                            self.phase = FeedPhase::CatchUp(None);
                        }
                        News::Page(page) => {
                            observe_delay(writer, page.end.id);
                            write_page(number, writer, &page);
                        }
                        News::Nothing => {
                            self.news = false;
                            return Poll::Pending;
                        }
                        News::Look => self.phase = FeedPhase::CatchUp(None),
                        News::Behind => {
                            writer.hub.0.context.metrics.fell_behind.inc();
                            self.phase = FeedPhase::CatchUp(None);
                        }
                    }
                }
            }
            if writer.out.len() - before >= TURN {
                return Poll::Ready(Ok(Step::Turn));
            }
        }
    }

    fn away(&mut self) {
        let longer = 1_u32
            .checked_shl(self.attempts)
            .unwrap_or(u32::MAX)
            .min(RETRY.1);
        self.attempts += 1;
        self.phase = FeedPhase::Away(Instant::now() + spread(RETRY.0 * longer));
    }

    fn read(&mut self, number: usize, writer: &mut WriteContext<'_>, towards: BoundedRead) {
        let BoundedRead {
            stretch: read,
            complete,
            until_time,
        } = towards;
        self.attempts = 0;
        if let Some((following, known)) = self.following.as_ref().zip(self.known) {
            writer.hub.compare(following, known, &read.facts);
        }
        if let Some((_, at)) = &mut self.end {
            *at = until_time.and_then(|left| Instant::now().checked_add(left));
        }
        self.phase = match () {
            () if complete => FeedPhase::Complete,
            () if read.at_tail => FeedPhase::Live,
            () => FeedPhase::CatchUp(None),
        };
        match read.standing {
            PositionStatus::Intact => {}
            PositionStatus::Reset => {
                writer.hub.0.context.metrics.resets.inc();
                writer.cursors.set(number, Position::START);
                self.phase = FeedPhase::CatchUp(None);
                let view = writer.view.clone();
                let stream = view.namespace.public_name_of(&self.stream);
                return write_signal(writer, &Signal::Reset { stream: &stream });
            }
            PositionStatus::Overtaken { lost } => {
                writer.hub.0.context.metrics.gaps.inc();
                let after = writer.cursors.at(number).to_string();
                let oldest = read.facts.oldest.map(|id| id.to_string());
                writer.cursors.set(number, read.facts.after_gap());
                let view = writer.view.clone();
                let stream = view.namespace.public_name_of(&self.stream);
                write_signal(
                    writer,
                    &Signal::Gap {
                        stream: &stream,
                        after,
                        oldest,
                        lost,
                    },
                );
            }
        }
        let after = writer.cursors.at(number);
        let end = read.end(after);
        if read.entries.is_empty() {
            return writer.cursors.set(number, end);
        }
        let page = Page::new(
            self.stream.clone(),
            (after, end),
            read.entries,
            &read.numbers,
        );
        write_page(number, writer, &page);
    }
}

fn read_on(
    hub: &Hub,
    stream: &StreamName,
    after: Position,
    end: Option<EndOf>,
) -> Doing<BoundedRead, StoreError> {
    let (hub, stream) = (hub.clone(), stream.clone());
    Box::pin(shares::scope(hub.account(), async move {
        let (store, bytes) = (&hub.0.context.store, hub.0.context.settings.page_bytes);
        if let Some(end) = end {
            return hub
                .read_towards(&stream, after, end, (CATCH_UP_ENTRIES, bytes))
                .await;
        }
        let (limit, last) = (CATCH_UP_ENTRIES, EntryId::MAX);
        let read = store
            .read_after(&Lane::Shared, &stream, after, last, limit, bytes)
            .await;
        Ok(BoundedRead {
            stretch: read?,
            complete: false,
            until_time: None,
        })
    }))
}

/// Writes a control event with the current cursor.
pub(super) fn write_signal(writer: &mut WriteContext<'_>, signal: &Signal<'_>) {
    let cursor = writer.cursors.text();
    writer
        .out
        .write(|out| signal.write(out, Some(&cursor), writer.view.framing));
    writer.cursors.untold = false;
}

/// Counts the time since the append of an entry that is delivered live. An id that is not a recent
/// time was chosen by its writer and says nothing.
fn observe_delay(writer: &WriteContext<'_>, id: EntryId) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.unwrap_or_default();
    let delay = now.saturating_sub(Duration::from_millis(id.ms));
    if delay <= LONGEST_DELAY {
        let metrics = &writer.hub.0.context.metrics;
        metrics.delivery_times.observe(delay);
    }
}

/// Writes the entries of a page after the cursor, and moves the cursor to the end of the page.
fn write_page(number: usize, writer: &mut WriteContext<'_>, page: &Page) {
    let rendered = page.rendered(writer.view);
    let from = rendered.above(writer.cursors.at(number).id);
    writer
        .hub
        .0
        .context
        .metrics
        .delivered
        .inc_by((rendered.len() - from) as u64);
    if !writer.cursors.are_many() {
        writer.out.page(&rendered, from);
        writer.cursors.set(number, page.end);
        let shown = rendered.last().filter(|_| from < rendered.len());
        let told = shown.is_some_and(|last| page.positions[last] == page.end);
        writer.cursors.untold &= !told;
        return;
    }
    // The data is shared by all subscriptions; the id differs for each.
    let cursors = &mut *writer.cursors;
    writer.out.write(|out| {
        for (index, data) in rendered.without_ids(from) {
            cursors.set(number, page.positions[index]);
            out.extend_from_slice(&data);
            out.extend_from_slice(b"id: ");
            cursors.write(out);
            out.extend_from_slice(b"\n\n");
            cursors.untold = false;
        }
    });
    writer.cursors.set(number, page.end);
}
