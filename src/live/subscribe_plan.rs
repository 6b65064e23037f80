//! What a subscription is to follow, and from where.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;

use crate::live::hub::{Hub, JoinError};
use crate::live::prefix_watch::Matching;
use crate::live::tail::Following;
use crate::live::wake_queue::Bell;
use crate::model::cursor::{Cursor, MAX_STREAMS};
use crate::model::history::Standing;
use crate::model::id::EntryId;
use crate::model::name::StreamName;
use crate::model::position::Position;
use crate::model::time::Time;
use crate::model::view::EventView;
use crate::redis::{Lane, StoreError, Stretch};

/// Where a subscription begins in a stream.
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

/// Where a subscription ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With the last entry there is when it is opened.
    Tail,
    /// With this id: complete when the stream has been given it, or one above it.
    At(EntryId),
    /// With this time, in Unix milliseconds: complete when the clock of Redis is past it.
    Time(u64),
}

/// The end of one stream of a subscription.
#[derive(Clone, Copy, Debug)]
pub(super) struct EndOf {
    /// Entries above this id are not handed out.
    pub(super) id: EntryId,
    /// Once the clock of Redis is past this, no entry up to the id comes any more.
    pub(super) time_ms: Option<u64>,
}

/// A part of a stream read towards its end.
pub(super) struct Towards {
    pub(super) stretch: Stretch,
    /// Nothing is left, and nothing comes any more.
    pub(super) complete: bool,
    /// How long to wait for the clock of Redis.
    pub(super) until_time: Option<Duration>,
}

/// What a subscription follows.
pub struct Wanted {
    /// These streams, each named once.
    pub streams: Vec<(StreamName, Begin)>,
    /// All streams whose names begin with one of these.
    pub prefixes: Vec<String>,
    /// Where to begin in streams that match and are there already.
    pub matched: Matched,
    /// Where it ends in `streams`, if it does; not together with `prefixes`.
    pub end: Option<End>,
    /// It is asked for as a subscription to many: its cursor names each stream.
    pub many: bool,
    /// Which of the streams that match are to be followed, if not all.
    pub visible: Option<Visible>,
    /// What is seen of entries.
    pub view: EventView,
}

/// Tells whether a stream that matches is to be followed.
pub type Visible = Arc<dyn Fn(&StreamName) -> bool + Send + Sync>;

fn is_visible(visible: Option<&Visible>, stream: &StreamName) -> bool {
    visible.is_none_or(|visible| visible(stream))
}

/// Where to begin in streams that match.
pub enum Matched {
    /// In all alike.
    At(Begin),
    /// Where the cursor says, and at the beginning of those it does not know.
    Resumed(Cursor),
}

impl Matched {
    fn begin(&self, stream: &StreamName) -> Begin {
        match self {
            Self::At(begin) => *begin,
            Self::Resumed(cursor) => Begin::After(cursor.of(stream).unwrap_or(Position::START)),
        }
    }
}

/// The visible streams that match now and are not among the `named`.
async fn matching_now(
    wanted: &Wanted,
    matching: &[Matching],
    named: &HashSet<StreamName>,
) -> Result<Vec<StreamName>, JoinError> {
    let mut was_checked = false;
    loop {
        let found = found(matching, wanted.visible.as_ref(), |stream| {
            named.contains(stream)
        });
        if named.len() + found.len() <= MAX_STREAMS {
            return Ok(found.into_keys().collect());
        }
        let confirmed = found.values().filter(|confirmed| **confirmed).count();
        if was_checked && named.len() + confirmed > MAX_STREAMS {
            return Err(JoinError::TooManyForOne);
        }
        // Some may be gone since they were found.
        for matching in matching {
            matching.check();
            matching.checked().await?;
        }
        was_checked = true;
    }
}

/// The visible streams that match, each with whether it is confirmed, but for those passed over.
pub(super) fn found(
    matching: &[Matching],
    visible: Option<&Visible>,
    passed_over: impl Fn(&StreamName) -> bool,
) -> HashMap<StreamName, bool> {
    let mut found = HashMap::new();
    for (stream, confirmed) in matching.iter().flat_map(Matching::streams) {
        if is_visible(visible, &stream) && !passed_over(&stream) {
            *found.entry(stream).or_default() |= confirmed;
        }
    }
    found
}

/// A stream that was joined.
pub(super) struct Begun {
    pub(super) following: Following,
    pub(super) at: Position,
    pub(super) end: Option<EndOf>,
    /// It is followed because its name matches.
    pub(super) matched: bool,
}

impl Hub {
    /// Joins everything that is wanted; in this order the streams have their numbers.
    pub(super) async fn begin_all(
        &self,
        wanted: &Wanted,
        matching: &[Matching],
        bell: &Arc<Bell>,
    ) -> Result<Vec<Begun>, JoinError> {
        let mut named: HashSet<StreamName> = HashSet::new();
        let mut all = Vec::new();
        for (stream, begin) in &wanted.streams {
            if named.insert(stream.clone()) {
                all.push((stream.clone(), *begin, false));
            }
        }
        for stream in matching_now(wanted, matching, &named).await? {
            let begin = wanted.matched.begin(&stream);
            all.push((stream, begin, true));
        }
        if all.len() > MAX_STREAMS {
            return Err(JoinError::TooManyForOne);
        }
        let begun = (0..)
            .zip(all)
            .map(async |(number, (stream, begin, matched))| {
                // In this order: what is appended from here on is heard, whatever is read below.
                let following = self.join_as(&stream, bell.clone(), number).await?;
                let end = match wanted.end {
                    Some(end) => Some(self.end_of(&stream, end).await?),
                    None => None,
                };
                let last = end.map_or(EntryId::MAX, |end| end.id);
                let at = self.resolve(&stream, begin, last).await?;
                Ok(Begun {
                    following,
                    at,
                    end,
                    matched,
                })
            });
        try_join_all(begun).await
    }

    /// Whether a client that resumes has had everything up to the end: there is nothing to hand out
    /// and nothing to tell.
    ///
    /// # Errors
    /// That Redis is away, or a key holds no stream.
    /// # Cancel safety
    /// Reads only.
    pub async fn is_complete(&self, wanted: &Wanted) -> Result<bool, StoreError> {
        let Some(end) = wanted.end else {
            return Ok(false);
        };
        for (stream, begin) in &wanted.streams {
            let Begin::After(after) = *begin else {
                return Ok(false);
            };
            let end = self.end_of(stream, end).await?;
            let read = self.read_towards(stream, after, end, (1, 1)).await?;
            if !read.complete || !read.stretch.is_quiet() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn end_of(&self, stream: &StreamName, end: End) -> Result<EndOf, StoreError> {
        Ok(match end {
            End::At(id) => EndOf { id, time_ms: None },
            End::Time(ms) => EndOf {
                id: EntryId::new(ms, u64::MAX),
                time_ms: Some(ms),
            },
            End::Tail => {
                let facts = self.0.store.facts(&Lane::Shared, stream).await?;
                EndOf {
                    id: facts.last_id,
                    time_ms: None,
                }
            }
        })
    }

    /// Reads up to an end, at most so many entries and bytes.
    ///
    /// # Errors
    /// As [`Store::read_after`](crate::redis::Store::read_after).
    /// # Cancel safety
    /// Reads only.
    pub(super) async fn read_towards(
        &self,
        stream: &StreamName,
        after: Position,
        end: EndOf,
        (limit, bytes): (usize, usize),
    ) -> Result<Towards, StoreError> {
        let store = &self.0.store;
        // In this order: once the clock is past the time, the range has all there will be.
        let left_ms = match end.time_ms {
            Some(time_ms) => (time_ms + 1).checked_sub(store.now_ms().await?),
            None => Some(0),
        };
        let read = store.read_after(&Lane::Shared, stream, after, end.id, limit, bytes);
        let stretch = read.await?;
        let is_past = end.time_ms.is_some() && left_ms.is_none_or(|left| left == 0);
        let reached = is_past || stretch.facts.last_id >= end.id;
        let complete = reached && stretch.ended && stretch.standing != Standing::Reset;
        let until_time = left_ms
            .filter(|_| end.time_ms.is_some())
            .map(Duration::from_millis);
        Ok(Towards {
            stretch,
            complete,
            until_time,
        })
    }

    /// The position a subscription begins at.
    async fn resolve(
        &self,
        stream: &StreamName,
        begin: Begin,
        end: EntryId,
    ) -> Result<Position, StoreError> {
        let store = &self.0.store;
        let (position, facts) = match begin {
            Begin::After(after) if !after.is_oldest() => return Ok(after),
            Begin::Last(count) => {
                return Ok(store.before_last(stream, count, end).await?.0);
            }
            Begin::Since(time) => store.before_time(stream, time).await?,
            Begin::After(_) | Begin::Tail => {
                let facts = store.facts(&Lane::Shared, stream).await?;
                let after = if let Begin::After(after) = begin {
                    after
                } else {
                    facts.tail()
                };
                (after, facts)
            }
        };
        let untouched = facts.entries_added == Some(facts.length);
        Ok(if position.is_oldest() && untouched {
            Position::START
        } else {
            position
        })
    }
}
