//! What a subscription is to follow, and from where.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::future::try_join_all;

use super::bell::Bell;
use super::hub::{Hub, JoinError};
use super::matching::Matching;
use super::tail::Following;
use crate::model::cursor::{Cursor, MAX_STREAMS};
use crate::model::id::EntryId;
use crate::model::name::StreamName;
use crate::model::position::Position;
use crate::model::time::Time;
use crate::model::view::EventView;
use crate::store::{Lane, StoreError};

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

/// What a subscription follows.
pub struct Wanted {
    /// These streams, each named once.
    pub streams: Vec<(StreamName, Begin)>,
    /// All streams whose names begin with one of these.
    pub prefixes: Vec<String>,
    /// Where to begin in streams that match and are there already.
    pub matched: Matched,
    /// It is asked for as a subscription to many: its cursor names each stream.
    pub many: bool,
    /// Which of the streams that match are to be followed, if not all.
    pub visible: Option<Visible>,
    /// What is seen of entries.
    pub view: EventView,
}

/// Tells whether a stream that matches is to be followed.
pub type Visible = Arc<dyn Fn(&StreamName) -> bool + Send + Sync>;

pub(super) fn is_visible(visible: Option<&Visible>, stream: &StreamName) -> bool {
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

impl Hub {
    /// Joins everything that is wanted. Answers each stream with its position and whether it was
    /// only matched; in this order they have their numbers.
    pub(super) async fn begin_all(
        &self,
        wanted: &Wanted,
        matching: &[Matching],
        bell: &Arc<Bell>,
    ) -> Result<Vec<(Following, Position, bool)>, JoinError> {
        let mut named: HashSet<StreamName> = HashSet::new();
        let mut all = Vec::new();
        for (stream, begin) in &wanted.streams {
            if named.insert(stream.clone()) {
                all.push((stream.clone(), *begin, false));
            }
        }
        for matching in matching {
            for stream in matching.streams()? {
                let visible = is_visible(wanted.visible.as_ref(), &stream);
                if visible && named.insert(stream.clone()) {
                    let begin = wanted.matched.begin(&stream);
                    all.push((stream, begin, true));
                }
            }
        }
        if all.len() > MAX_STREAMS {
            return Err(JoinError::TooManyForOne);
        }
        let begun = (0..).zip(all).map(async |(number, (stream, begin, matched))| {
            // In this order: what is appended from here on is heard, whatever is read below.
            let following = self.join_as(&stream, bell.clone(), number).await?;
            let at = self.resolve(&stream, begin).await?;
            Ok((following, at, matched))
        });
        try_join_all(begun).await
    }

    /// The position a subscription begins at.
    async fn resolve(&self, stream: &StreamName, begin: Begin) -> Result<Position, StoreError> {
        let store = &self.0.store;
        let (position, facts) = match begin {
            Begin::After(after) if !after.is_oldest() => return Ok(after),
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
