//! The reader's side of one followed stream: its position, and reading on from there.

use std::sync::Arc;

use tokio::time::Instant;

use crate::live::context::LiveContext;
use crate::live::tail::Tail;
use crate::model::entry::Entry;
use crate::model::history::PositionStatus;
use crate::model::id::EntryId;
use crate::model::name::StreamName;
use crate::model::page::Page;
use crate::model::position::Position;
use crate::redis::{Lane, NodeRef, PositionCheck, StoreError};

/// Maximum number of entries in a page.
const PAGE_ENTRIES: usize = 512;
/// Maximum number of pages read in one turn, so that a stream far behind does not delay others.
const PAGES_AT_ONCE: usize = 16;

/// A tail and the position of its reader.
pub(super) struct Followed {
    pub(super) tail: Arc<Tail>,
    /// The position of the reader; `None` until the first check.
    at: Option<Position>,
    /// Whether the key is not a stream, or Redis denies access. Such a key is left out of XREAD and
    /// checked from time to time.
    unreadable: bool,
    /// Whether the stream has entries to read, or must be checked.
    pub(super) due: bool,
    /// The server that reports changes of the stream, if it is tracked. Written by the reader.
    pub(super) tracked_by: Option<NodeRef>,
    /// The server to which the slot is being moved, if the stream is there already. Written by the
    /// reader.
    pub(super) target: Option<NodeRef>,
    /// The time since which the stream has no followers. Written by the reader.
    pub(super) deserted: Option<Instant>,
}

impl Followed {
    pub(super) fn new(tail: Arc<Tail>) -> Self {
        Self {
            tail,
            at: None,
            unreadable: false,
            due: true,
            tracked_by: None,
            target: None,
            deserted: None,
        }
    }

    /// Returns the XREAD arguments for this stream, or `None` if XREAD must leave it out.
    pub(super) fn head(&self) -> Option<(&StreamName, Position)> {
        let at = self.at.filter(|_| !self.unreadable)?;
        Some((&self.tail.stream, at))
    }

    /// Returns the position of the reader, or `None` before the first check.
    pub(super) const fn at(&self) -> Option<Position> {
        self.at
    }

    /// Returns whether the stream is still the one that was read, without new entries.
    pub(super) fn is_quiet(&self, check: &PositionCheck) -> bool {
        let quiet = |at| check.facts.ends_at(at) && check.standing(at, 0) == PositionStatus::Intact;
        !self.unreadable && self.at.is_some_and(quiet)
    }

    /// Feeds entries returned by XREAD, if the check after it proves two things: there are no other
    /// new entries, and the stream is still the one that was read. Otherwise marks the stream as
    /// due.
    pub(super) fn take(
        &mut self,
        context: &LiveContext,
        entries: Vec<Entry>,
        check: Option<&PositionCheck>,
    ) {
        let count = entries.len() as u64;
        let last = entries.last().map(|last| last.id);
        let fits = |at: Position| {
            let (check, end) = (check?, Position::new(last?, Some(at.n? + count)));
            let proven =
                check.facts.tail() == end && check.standing(at, count) == PositionStatus::Intact;
            proven.then_some((at, end))
        };
        let Some((at, end)) = self.at.and_then(fits) else {
            self.due = true;
            return;
        };
        // The count equals the number of entries added since, so none is missing in between.
        let numbers: Vec<_> = (1..=count).map(|index| at.n.map(|n| n + index)).collect();
        let page = Page::new(self.tail.stream.clone(), (at, end), entries, &numbers);
        self.at = Some(end);
        self.due = false;
        self.tail.push(page, &context.wake_queues);
    }

    /// Feeds new entries, up to the tail of the stream or the page limit of one turn.
    ///
    /// # Errors
    /// [`StoreError`] if Redis is unreachable. Other failures only mark this stream as unreadable.
    pub(super) async fn advance(
        &mut self,
        context: &LiveContext,
        lane: &Lane,
    ) -> Result<(), StoreError> {
        let advanced = match self.at {
            None => context
                .store
                .facts(lane, &self.tail.stream)
                .await
                .map(|facts| {
                    self.at = Some(facts.tail());
                    match self.unreadable {
                        false => self.tail.begin(facts.tail()),
                        // Followers have read the stream themselves, up to an earlier position.
                        true => self.tail.note_change(facts.tail(), &context.wake_queues),
                    }
                    true
                }),
            Some(at) => self.feed_from(context, lane, at).await,
        };
        let mut all_fed = true;
        match advanced {
            Ok(fed) => {
                self.unreadable = false;
                all_fed = fed;
            }
            Err(error) if error.is_outage() || matches!(error, StoreError::Elsewhere(_)) => {
                return Err(error);
            }
            Err(error) => self.fail(context, &error),
        }
        self.due = !all_fed;
        self.tail
            .ready
            .send_if_modified(|ready| !std::mem::replace(ready, true));
        Ok(())
    }

    /// Marks the stream as unreadable, and keeps the position. Once the stream is readable again,
    /// the counters show whether it is the same one, and only new entries are read.
    fn fail(&mut self, context: &LiveContext, error: &StoreError) {
        if matches!(error, StoreError::NotAStream) {
            // No stream existed before, so a later one is new from its start.
            self.at.get_or_insert(Position::START);
        }
        if !std::mem::replace(&mut self.unreadable, true) {
            let stream = self.tail.stream.redis_key();
            tracing::info!(stream, %error, "cannot read a followed stream");
            self.tail.fail(&context.wake_queues);
        }
    }

    /// Feeds new entries after `from`. Returns whether the tail of the stream was reached.
    async fn feed_from(
        &mut self,
        context: &LiveContext,
        lane: &Lane,
        from: Position,
    ) -> Result<bool, StoreError> {
        let (stream, bytes) = (&self.tail.stream, context.settings.page_bytes);
        let mut at = from;
        for _ in 0..PAGES_AT_ONCE {
            let read = context
                .store
                .read_after(lane, stream, at, EntryId::MAX, PAGE_ENTRIES, bytes)
                .await?;
            match read.standing {
                PositionStatus::Intact => {}
                // Each follower counts its own lost entries, because some may have read more than
                // others.
                PositionStatus::Overtaken { .. } => {
                    at = read.facts.after_gap();
                    self.tail.note_change(at, &context.wake_queues);
                }
                PositionStatus::Reset => {
                    at = Position::START;
                    self.tail.note_change(at, &context.wake_queues);
                    self.at = Some(at);
                    continue;
                }
            }
            let (end, done) = (read.end(at), read.at_tail);
            if !read.entries.is_empty() {
                let page = Page::new(stream.clone(), (at, end), read.entries, &read.numbers);
                self.tail.push(page, &context.wake_queues);
            } else if end.id != at.id {
                // The new entries were removed already: there is no page, but all positions move.
                self.tail.note_change(end, &context.wake_queues);
            } else {
                self.tail.begin(end);
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
