//! One stream as its reader sees it: where it stands, and how it reads on.

use std::sync::Arc;

use tokio::time::Instant;

use super::hub::Inner;
use super::tail::Tail;
use crate::model::entry::Entry;
use crate::model::history::Standing;
use crate::model::id::EntryId;
use crate::model::name::StreamName;
use crate::model::page::Page;
use crate::model::position::Position;
use crate::store::{Lane, StoreError};

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
        Self { tail, at: None, unreadable: false, due: true, deserted: None }
    }

    /// What XREAD is to be told of this stream.
    pub(super) fn head(&self) -> Option<(&StreamName, EntryId)> {
        let at = self.at.filter(|_| !self.unreadable)?;
        Some((&self.tail.stream, at.id))
    }

    /// Whether this is where the stream was last seen to end.
    pub(super) fn ends_at(&self, end: Position) -> bool {
        !self.unreadable && self.at == Some(end)
    }

    /// Feeds entries that XREAD brought, if they are all there was when it was told where the stream
    /// ends; else the stream is due.
    pub(super) fn take(&mut self, hub: &Inner, entries: Vec<Entry>, end: Option<Position>) {
        let count = entries.len() as u64;
        let last = entries.last().map(|last| last.id);
        let expected = self.at.and_then(|at| Some(Position::new(last?, Some(at.n? + count))));
        let (Some(at), Some(end)) = (self.at, expected.filter(|expected| end == Some(*expected)))
        else {
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
                self.tail.begin(facts.tail());
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
                    tracing::info!(stream = self.tail.stream.as_str(), %error, "a followed stream cannot be read");
                }
                self.unreadable = true;
                // Whatever comes to stand there is new from its beginning.
                self.at = Some(Position::START);
                self.tail.look(Position::START, &hub.posts);
            }
        }
        self.due = !all_fed;
        self.tail.ready.send_if_modified(|ready| !std::mem::replace(ready, true));
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
        for _ in 0..PAGES_AT_ONCE {
            let read =
                hub.store.read_after(lane, stream, at, EntryId::MAX, PAGE_ENTRIES, bytes).await?;
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
