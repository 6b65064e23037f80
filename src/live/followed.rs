//! One stream as its reader sees it: where it stands, and how it reads on.

use std::sync::Arc;

use tokio::time::Instant;

use crate::live::hub::Inner;
use crate::live::tail::Tail;
use crate::model::entry::Entry;
use crate::model::history::Standing;
use crate::model::id::EntryId;
use crate::model::name::StreamName;
use crate::model::page::Page;
use crate::model::position::Position;
use crate::redis::{Lane, StoreError, StreamCheck};

/// Entries in a page, at most.
const PAGE_ENTRIES: usize = 512;
/// Pages read in one turn, so that a stream far behind does not hold up others.
const PAGES_AT_ONCE: usize = 16;

/// A tail and where its reader stands.
pub(super) struct Followed {
    pub(super) tail: Arc<Tail>,
    /// `None` until it was looked at for the first time.
    at: Option<Position>,
    /// The key is no stream, or Redis denies it: left out of XREAD, looked at now and then.
    unreadable: bool,
    /// Has something to read, or must be looked at.
    pub(super) due: bool,
    /// Since when nobody has followed it. Written by the reader.
    pub(super) deserted: Option<Instant>,
}

impl Followed {
    pub(super) fn new(tail: Arc<Tail>) -> Self {
        Self {
            tail,
            at: None,
            unreadable: false,
            due: true,
            deserted: None,
        }
    }

    /// What XREAD is to be told of this stream.
    pub(super) fn head(&self) -> Option<(&StreamName, Position)> {
        let at = self.at.filter(|_| !self.unreadable)?;
        Some((&self.tail.stream, at))
    }

    /// Where the reader stands; `None` until it has looked for the first time.
    pub(super) const fn at(&self) -> Option<Position> {
        self.at
    }

    /// Whether the stream is the one that was read, and has not moved on since.
    pub(super) fn is_quiet(&self, check: &StreamCheck) -> bool {
        let quiet = |at| check.facts.ends_at(at) && check.standing(at, 0) == Standing::Intact;
        !self.unreadable && self.at.is_some_and(quiet)
    }

    /// Feeds entries that XREAD brought, if the check that followed proves that they are all there
    /// was, and that the stream is the one that was read; else the stream is due.
    pub(super) fn take(&mut self, hub: &Inner, entries: Vec<Entry>, check: Option<&StreamCheck>) {
        let count = entries.len() as u64;
        let last = entries.last().map(|last| last.id);
        let fits = |at: Position| {
            let (check, end) = (check?, Position::new(last?, Some(at.n? + count)));
            let proven = check.facts.tail() == end && check.standing(at, count) == Standing::Intact;
            proven.then_some((at, end))
        };
        let Some((at, end)) = self.at.and_then(fits) else {
            self.due = true;
            return;
        };
        // As many as were added since: nothing is missing between.
        let numbers: Vec<_> = (1..=count).map(|index| at.n.map(|n| n + index)).collect();
        let page = Page::new(self.tail.stream.clone(), (at, end), entries, &numbers);
        self.at = Some(end);
        self.tail.push(page, &hub.posts);
    }

    /// Feeds what is new, up to the tail of the stream or the end of this turn.
    ///
    /// # Errors
    /// That Redis is away; whatever else is wrong concerns this stream alone.
    pub(super) async fn advance(&mut self, hub: &Inner, lane: &Lane) -> Result<(), StoreError> {
        let advanced = match self.at {
            None => hub.store.facts(lane, &self.tail.stream).await.map(|facts| {
                self.at = Some(facts.tail());
                match self.unreadable {
                    false => self.tail.begin(facts.tail()),
                    // Those who follow have read by themselves, up to some place before this one.
                    true => self.tail.look(facts.tail(), &hub.posts),
                }
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
            Err(error) => self.fail(hub, &error),
        }
        self.due = !all_fed;
        self.tail
            .ready
            .send_if_modified(|ready| !std::mem::replace(ready, true));
        Ok(())
    }

    /// The stream cannot be read for now. The position stays: when the stream can be read again, the
    /// counters tell whether it is the same one, and only what is new is read.
    fn fail(&mut self, hub: &Inner, error: &StoreError) {
        if matches!(error, StoreError::NotAStream) {
            // There has been no stream yet, so what comes to stand there is new from its beginning.
            self.at.get_or_insert(Position::START);
        }
        if !std::mem::replace(&mut self.unreadable, true) {
            let stream = self.tail.stream.as_str();
            tracing::info!(stream, %error, "a followed stream cannot be read");
            self.tail.fail(&hub.posts);
        }
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
        for _ in 0..PAGES_AT_ONCE {
            let read = hub
                .store
                .read_after(lane, stream, at, EntryId::MAX, PAGE_ENTRIES, bytes)
                .await?;
            match read.standing {
                Standing::Intact => {}
                // Followers count their own losses: some may have read what the others have not.
                Standing::Overtaken { .. } => {
                    at = read.facts.after_gap();
                    self.tail.look(at, &hub.posts);
                }
                Standing::Reset => {
                    at = Position::START;
                    self.tail.look(at, &hub.posts);
                    self.at = Some(at);
                    continue;
                }
            }
            let (end, done) = (read.end(at), read.at_tail);
            if !read.entries.is_empty() {
                let page = Page::new(stream.clone(), (at, end), read.entries, &read.numbers);
                self.tail.push(page, &hub.posts);
            } else if end.id != at.id {
                // What came is gone already: nothing to show, but everybody's position moves.
                self.tail.look(end, &hub.posts);
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
