//! The plan of a subscription: its streams, and its start and end in each.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio_util::sync::CancellationToken;

use crate::live::context::JoinError;
use crate::live::hub::Hub;
use crate::live::prefix_watch::PrefixFollower;
use crate::live::tail::Following;
use crate::live::wake_queue::WakeHandle;
use crate::metrics::GaugeGuard;
use crate::model::cursor::{MAX_STREAMS, StreamsCursor};
use crate::model::history::PositionStatus;
use crate::model::id::EntryId;
use crate::model::name::StreamName;
use crate::model::position::Position;
use crate::model::time::Time;
use crate::model::validity::Validity;
use crate::model::view::EventView;
use crate::redis::{Lane, RangePage, StoreError};
use crate::shares::Held;

/// The start of a subscription in a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscribeStart {
    /// After this position.
    After(Position),
    /// After the current last entry.
    Tail,
    /// At the first entry of this time or later.
    Since(Time),
    /// At the start of the last entries, of this number.
    Last(usize),
}

/// The settings and limits of a subscription.
pub struct SubscribeOptions {
    /// Interval between heartbeats, ±20 %.
    pub heartbeat: Duration,
    /// Maximum duration, ±20 %.
    pub max_age: Option<Duration>,
    /// Ends the subscription with `$end` when cancelled.
    pub drain: CancellationToken,
    /// The validity of the credential.
    pub validity: Validity,
    /// Guards that count the subscription as open.
    pub counted: SubscriptionSlot,
}

/// Guards that count a subscription as open: among all, those of its principal, and in its share.
pub type SubscriptionSlot = (GaugeGuard, GaugeGuard, Option<Held>);

/// The end of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscribeEnd {
    /// At the last entry that exists when the subscription is opened.
    Tail,
    /// At this id: complete once the stream has this or a higher id.
    At(EntryId),
    /// At this time in Unix milliseconds: complete once the clock of Redis is past it.
    Time(u64),
}

/// The end of a subscription in one stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct EndOf {
    /// The last id to deliver.
    pub(super) id: EntryId,
    /// The time in Unix milliseconds after which the stream gets no more entries up to `id`,
    /// according to the clock of Redis.
    pub(super) time_ms: Option<u64>,
}

/// A page of a stream, read towards the end of the subscription.
pub(super) struct BoundedRead {
    pub(super) stretch: RangePage,
    /// Whether the end is reached and no more entries can follow.
    pub(super) complete: bool,
    /// The time until the clock of Redis reaches the end.
    pub(super) until_time: Option<Duration>,
}

/// The streams and options of a subscription.
pub struct SubscribeRequest {
    /// The named streams, without duplicates.
    pub streams: Vec<(StreamName, SubscribeStart)>,
    /// Prefixes: all streams with one of them are followed.
    pub prefixes: Vec<String>,
    /// The start in matching streams that exist already.
    pub matched: PrefixStart,
    /// The end in `streams`, if any. Cannot be combined with `prefixes`.
    pub end: Option<SubscribeEnd>,
    /// Whether the client requested a multi-stream subscription, whose cursor covers each stream.
    pub many: bool,
    /// A filter of the matching streams to follow; `None` for all.
    pub visible: Option<Visible>,
    /// The view: how entries are filtered and rendered.
    pub view: EventView,
}

/// A predicate for the matching streams to follow.
pub type Visible = Arc<dyn Fn(&StreamName) -> bool + Send + Sync>;

fn is_visible(visible: Option<&Visible>, stream: &StreamName) -> bool {
    visible.is_none_or(|visible| visible(stream))
}

/// The start in matching streams.
pub enum PrefixStart {
    /// The same start in all streams.
    At(SubscribeStart),
    /// The position in the cursor, or the start of a stream that the cursor does not contain.
    Resumed(StreamsCursor),
}

impl PrefixStart {
    fn begin(&self, stream: &StreamName) -> SubscribeStart {
        match self {
            Self::At(begin) => *begin,
            Self::Resumed(cursor) => {
                SubscribeStart::After(cursor.of(stream).unwrap_or(Position::START))
            }
        }
    }
}

/// Returns the visible streams that match now and are not in `named`.
async fn matching_now(
    wanted: &SubscribeRequest,
    matching: &[PrefixFollower],
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
        // Some streams may have been deleted since they were found.
        for matching in matching {
            matching.check();
            matching.checked().await?;
        }
        was_checked = true;
    }
}

/// Returns the visible matching streams, each with whether it is confirmed, except those for which
/// `passed_over` returns true.
pub(super) fn found(
    matching: &[PrefixFollower],
    visible: Option<&Visible>,
    passed_over: impl Fn(&StreamName) -> bool,
) -> HashMap<StreamName, bool> {
    let mut found = HashMap::new();
    for (stream, confirmed) in matching.iter().flat_map(PrefixFollower::streams) {
        if is_visible(visible, &stream) && !passed_over(&stream) {
            *found.entry(stream).or_default() |= confirmed;
        }
    }
    found
}

/// A joined stream of a subscription.
pub(super) struct JoinedStream {
    pub(super) following: Following,
    pub(super) at: Position,
    pub(super) end: Option<EndOf>,
    /// Whether the stream is followed because its name matches a prefix.
    pub(super) matched: bool,
}

impl Hub {
    /// Joins all streams of a subscription. Their order in the result gives their numbers.
    pub(super) async fn begin_all(
        &self,
        wanted: &SubscribeRequest,
        matching: &[PrefixFollower],
        wake_handle: &Arc<WakeHandle>,
    ) -> Result<Vec<JoinedStream>, JoinError> {
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
                // Join before reading, so that no entry appended during the reads below is missed.
                let following = self.join_as(&stream, wake_handle.clone(), number).await?;
                let end = match wanted.end {
                    Some(end) => Some(self.end_of(&stream, end).await?),
                    None => None,
                };
                let last = end.map_or(EntryId::MAX, |end| end.id);
                let at = self.resolve(&stream, begin, last).await?;
                Ok(JoinedStream {
                    following,
                    at,
                    end,
                    matched,
                })
            });
        try_join_all(begun).await
    }

    /// Returns whether a resuming client has received everything up to the end, so that there are
    /// neither entries nor control events to send.
    ///
    /// # Errors
    /// [`StoreError`] if Redis is unreachable or a key is not a stream.
    /// # Cancel safety
    /// Reads only.
    pub async fn is_complete(&self, wanted: &SubscribeRequest) -> Result<bool, StoreError> {
        let Some(end) = wanted.end else {
            return Ok(false);
        };
        for (stream, begin) in &wanted.streams {
            let SubscribeStart::After(after) = *begin else {
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

    async fn end_of(&self, stream: &StreamName, end: SubscribeEnd) -> Result<EndOf, StoreError> {
        Ok(match end {
            SubscribeEnd::At(id) => EndOf { id, time_ms: None },
            SubscribeEnd::Time(ms) => EndOf {
                id: EntryId::new(ms, u64::MAX),
                time_ms: Some(ms),
            },
            SubscribeEnd::Tail => {
                let facts = self.0.context.store.facts(&Lane::Shared, stream).await?;
                EndOf {
                    id: facts.last_id,
                    time_ms: None,
                }
            }
        })
    }

    /// Reads up to an end, at most `limit` entries and `bytes` bytes.
    ///
    /// # Errors
    /// Same as [`Store::read_after`](crate::redis::Store::read_after).
    /// # Cancel safety
    /// Reads only.
    pub(super) async fn read_towards(
        &self,
        stream: &StreamName,
        after: Position,
        end: EndOf,
        (limit, bytes): (usize, usize),
    ) -> Result<BoundedRead, StoreError> {
        let store = &self.0.context.store;
        // Read the clock first: if it is past the time, the range read afterwards is complete.
        let left_ms = match end.time_ms {
            Some(time_ms) => (time_ms + 1).checked_sub(store.now_ms().await?),
            None => Some(0),
        };
        let read = store.read_after(&Lane::Shared, stream, after, end.id, limit, bytes);
        let stretch = read.await?;
        let is_past = end.time_ms.is_some() && left_ms.is_none_or(|left| left == 0);
        let reached = is_past || stretch.facts.last_id >= end.id;
        let complete = reached && stretch.ended && stretch.standing != PositionStatus::Reset;
        let until_time = left_ms
            .filter(|_| end.time_ms.is_some())
            .map(Duration::from_millis);
        Ok(BoundedRead {
            stretch,
            complete,
            until_time,
        })
    }

    /// Returns the position at which a subscription starts.
    async fn resolve(
        &self,
        stream: &StreamName,
        begin: SubscribeStart,
        end: EntryId,
    ) -> Result<Position, StoreError> {
        let store = &self.0.context.store;
        let (position, facts) = match begin {
            SubscribeStart::After(after) if !after.is_oldest() => return Ok(after),
            SubscribeStart::Last(count) => {
                return Ok(store.before_last(stream, count, end).await?.0);
            }
            SubscribeStart::Since(time) => store.before_time(stream, time).await?,
            SubscribeStart::After(_) | SubscribeStart::Tail => {
                let facts = store.facts(&Lane::Shared, stream).await?;
                let after = if let SubscribeStart::After(after) = begin {
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
