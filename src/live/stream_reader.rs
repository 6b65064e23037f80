//! One stream of a subscription: joining it, reading it up to its tail, and then what comes.
//!
//! To fall behind is no special case: it means reading the stream again. Ids guard against hearing
//! an entry twice, counters against losing one in silence.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Instant;

use crate::live::control_events::Signal;
use crate::live::cursors::Cursors;
use crate::live::hub::{Hub, JoinError};
use crate::live::send_queue::Out;
use crate::live::subscribe_plan::{Begun, EndOf, Towards};
use crate::live::tail::{Following, Known, News};
use crate::live::wake_queue::Bell;
use crate::model::history::Standing;
use crate::model::id::EntryId;
use crate::model::name::StreamName;
use crate::model::page::Page;
use crate::model::position::Position;
use crate::model::view::EventView;
use crate::redis::{Lane, StoreError};

/// Entries of one read while catching up.
const CATCH_UP_ENTRIES: usize = 512;
/// Between attempts while Redis is away: doubled up to the greatest.
const RETRY: (Duration, u32) = (Duration::from_millis(100), 10);
/// Bytes after which a stream lets others have their turn, and the socket.
pub(super) const TURN: usize = 64 << 10;

type Doing<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

/// What is done about the stream now.
enum Phase {
    /// It is joined.
    Join(Option<Doing<Following, JoinError>>),
    /// It is read from the cursor.
    CatchUp(Option<Doing<Towards, StoreError>>),
    /// Redis is away: the same again, at that time.
    Away(Instant),
    /// What comes is heard.
    Live,
    /// Its end was reached: nothing comes any more.
    Complete,
}

/// One stream as one subscription follows it.
pub(super) struct Feed {
    stream: StreamName,
    /// There once it was joined.
    following: Option<Following>,
    phase: Phase,
    /// Where it ends, if it does, and when the clock of Redis should have reached that.
    end: Option<(EndOf, Option<Instant>)>,
    /// Attempts that failed because Redis is away.
    attempts: u32,
    /// What its tail said of the stream when it was last begun to be read.
    known: Option<Known>,
    /// The tail may have something.
    pub(super) news: bool,
    /// It is followed because its name matches: when it is gone, so is this.
    pub(super) matched: bool,
}

/// What a feed writes with.
pub(super) struct Pen<'a> {
    pub(super) hub: &'a Hub,
    pub(super) view: &'a Arc<EventView>,
    pub(super) bell: &'a Arc<Bell>,
    pub(super) cursors: &'a mut Cursors,
    pub(super) out: &'a mut Out,
}

/// How far a feed has come.
pub(super) enum Step {
    /// It has had its turn, and may have more.
    Turn,
    /// The key is no stream any more, and was followed only as one of many that match.
    Gone,
}

impl Feed {
    /// A stream that was joined already, to be read from the cursor on.
    pub(super) fn joined(begun: Begun) -> Self {
        let stream = begun.following.stream().clone();
        Self {
            following: Some(begun.following),
            phase: Phase::CatchUp(None),
            end: begun.end.map(|end| (end, None)),
            ..Self::new(stream, begun.matched)
        }
    }

    /// A stream that is yet to be joined.
    pub(super) fn new(stream: StreamName, matched: bool) -> Self {
        Self {
            stream,
            following: None,
            phase: Phase::Join(None),
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

    /// Whether there may be something to do.
    pub(super) fn is_due(&self) -> bool {
        !self.is_complete() && (self.news || !self.is_live() || self.is_past_end())
    }

    /// Whether its end was reached, so that nothing comes any more.
    pub(super) fn is_complete(&self) -> bool {
        matches!(self.phase, Phase::Complete)
    }

    /// Whether the clock of Redis should have reached the end.
    fn is_past_end(&self) -> bool {
        self.end
            .is_some_and(|(_, at)| at.is_some_and(|at| at <= Instant::now()))
    }

    /// Whether all that is in the stream was read.
    pub(super) fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Live)
    }

    /// When it wants to be polled again.
    pub(super) fn until(&self) -> Option<Instant> {
        match self.phase {
            Phase::Away(until) => Some(until),
            Phase::Live => self.end.and_then(|(_, at)| at),
            _ => None,
        }
    }

    /// Writes what there is, up to about [`TURN`] bytes; pending when there is nothing.
    ///
    /// # Errors
    /// What a retry alone does not mend.
    pub(super) fn poll(
        &mut self,
        number: usize,
        pen: &mut Pen<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Step, JoinError>> {
        let before = pen.out.len();
        loop {
            let is_past_end = self.is_past_end();
            match &mut self.phase {
                Phase::Join(joining) => {
                    let joining = joining.get_or_insert_with(|| {
                        let (hub, bell) = (pen.hub.clone(), pen.bell.clone());
                        let (stream, number) = (self.stream.clone(), u32::try_from(number));
                        Box::pin(
                            async move { hub.join_as(&stream, bell, number.unwrap_or(0)).await },
                        )
                    });
                    match ready!(joining.as_mut().poll(cx)) {
                        Ok(following) => {
                            self.following = Some(following);
                            self.phase = Phase::CatchUp(None);
                        }
                        Err(JoinError::Store(error)) if error.is_passing() => self.away(),
                        Err(error) => return Poll::Ready(Err(error)),
                    }
                }
                Phase::Away(until) if Instant::now() < *until => return Poll::Pending,
                Phase::Away(_) if self.following.is_some() => self.phase = Phase::CatchUp(None),
                Phase::Away(_) => self.phase = Phase::Join(None),
                Phase::CatchUp(reading) => {
                    let following = &mut self.following;
                    let reading = reading.get_or_insert_with(|| {
                        if let Some(following) = following {
                            self.known = Some(following.looks());
                        }
                        let end = self.end.map(|(end, _)| end);
                        read_on(pen.hub, &self.stream, pen.cursors.at(number), end)
                    });
                    match ready!(reading.as_mut().poll(cx)) {
                        Ok(read) => self.read(number, pen, read),
                        Err(error) if error.is_passing() => self.away(),
                        Err(StoreError::NotAStream) if self.matched => {
                            return Poll::Ready(Ok(Step::Gone));
                        }
                        Err(error) => return Poll::Ready(Err(error.into())),
                    }
                }
                Phase::Complete => return Poll::Pending,
                Phase::Live if is_past_end => self.phase = Phase::CatchUp(None),
                Phase::Live => {
                    let (after, end) = (pen.cursors.at(number).id, self.end);
                    match self
                        .following
                        .as_ref()
                        .map_or(News::Look, |tail| tail.after(after))
                    {
                        // Reading stops at the end, which a page may go beyond.
                        News::Page(page) if end.is_some_and(|(end, _)| page.end.id >= end.id) => {
                            self.phase = Phase::CatchUp(None);
                        }
                        News::Page(page) => show(number, pen, &page),
                        News::Nothing => {
                            self.news = false;
                            return Poll::Pending;
                        }
                        News::Look => self.phase = Phase::CatchUp(None),
                        News::Behind => {
                            pen.hub.0.metrics.fell_behind.inc();
                            self.phase = Phase::CatchUp(None);
                        }
                    }
                }
            }
            if pen.out.len() - before >= TURN {
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
        self.phase = Phase::Away(Instant::now() + spread(RETRY.0 * longer));
    }

    fn read(&mut self, number: usize, pen: &mut Pen<'_>, towards: Towards) {
        let Towards {
            stretch: read,
            complete,
            until_time,
        } = towards;
        self.attempts = 0;
        if let Some((following, known)) = self.following.as_ref().zip(self.known) {
            following.compare(known, &read.facts, &pen.hub.0);
        }
        if let Some((_, at)) = &mut self.end {
            *at = until_time.and_then(|left| Instant::now().checked_add(left));
        }
        self.phase = match () {
            () if complete => Phase::Complete,
            () if read.at_tail => Phase::Live,
            () => Phase::CatchUp(None),
        };
        match read.standing {
            Standing::Intact => {}
            Standing::Reset => {
                pen.hub.0.metrics.resets.inc();
                pen.cursors.set(number, Position::START);
                self.phase = Phase::CatchUp(None);
                let view = pen.view.clone();
                let stream = view.namespace.show(&self.stream);
                return tell(pen, &Signal::Reset { stream: &stream });
            }
            Standing::Overtaken { lost } => {
                pen.hub.0.metrics.gaps.inc();
                let after = pen.cursors.at(number).to_string();
                let oldest = read.facts.oldest.map(|id| id.to_string());
                pen.cursors.set(number, read.facts.after_gap());
                let view = pen.view.clone();
                let stream = view.namespace.show(&self.stream);
                tell(
                    pen,
                    &Signal::Gap {
                        stream: &stream,
                        after,
                        oldest,
                        lost,
                    },
                );
            }
        }
        let after = pen.cursors.at(number);
        let end = read.end(after);
        if read.entries.is_empty() {
            return pen.cursors.set(number, end);
        }
        let page = Page::new(
            self.stream.clone(),
            (after, end),
            read.entries,
            &read.numbers,
        );
        show(number, pen, &page);
    }
}

fn read_on(
    hub: &Hub,
    stream: &StreamName,
    after: Position,
    end: Option<EndOf>,
) -> Doing<Towards, StoreError> {
    let (hub, stream) = (hub.clone(), stream.clone());
    Box::pin(async move {
        let (store, bytes) = (&hub.0.store, hub.0.settings.page_bytes);
        if let Some(end) = end {
            return hub
                .read_towards(&stream, after, end, (CATCH_UP_ENTRIES, bytes))
                .await;
        }
        let (limit, last) = (CATCH_UP_ENTRIES, EntryId::MAX);
        let read = store
            .read_after(&Lane::Shared, &stream, after, last, limit, bytes)
            .await;
        Ok(Towards {
            stretch: read?,
            complete: false,
            until_time: None,
        })
    })
}

/// Writes a signal, with the cursor as it is now.
pub(super) fn tell(pen: &mut Pen<'_>, signal: &Signal<'_>) {
    let cursor = pen.cursors.text();
    pen.out
        .write(|out| signal.write(out, Some(&cursor), pen.view.framing));
    pen.cursors.untold = false;
}

/// Writes the entries of a page that lie above the cursor, and moves that to its end.
fn show(number: usize, pen: &mut Pen<'_>, page: &Page) {
    let rendered = page.rendered(pen.view);
    let from = rendered.above(pen.cursors.at(number).id);
    pen.hub
        .0
        .metrics
        .delivered
        .inc_by((rendered.len() - from) as u64);
    if !pen.cursors.are_many() {
        pen.out.page(&rendered, from);
        pen.cursors.set(number, page.end);
        let shown = rendered.last().filter(|_| from < rendered.len());
        let told = shown.is_some_and(|last| page.positions[last] == page.end);
        pen.cursors.untold &= !told;
        return;
    }
    // The data is the same for all; the id is each subscription's own.
    let cursors = &mut *pen.cursors;
    pen.out.write(|out| {
        for (index, data) in rendered.without_ids(from) {
            cursors.set(number, page.positions[index]);
            out.extend_from_slice(&data);
            out.extend_from_slice(b"id: ");
            cursors.write(out);
            out.extend_from_slice(b"\n\n");
            cursors.untold = false;
        }
    });
    pen.cursors.set(number, page.end);
}

/// ±20 %, so that what began together does not stay together.
pub(super) fn spread(duration: Duration) -> Duration {
    duration.mul_f64(0.8 + 0.4 * fastrand::f64())
}
