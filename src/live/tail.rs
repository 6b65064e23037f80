//! One followed stream: what everybody who follows it hears.

use std::sync::Arc;

use tokio::sync::{broadcast, watch};

use crate::model::name::StreamName;
use crate::model::page::Page;

/// What a tail tells its followers.
#[derive(Clone, Debug)]
pub enum Feed {
    /// The next entries.
    Page(Arc<Page>),
    /// Something other than appending has happened (a gap, a reset, another type of key): look at
    /// the stream yourself.
    Look,
}

/// A followed stream. Made by the hub, fed by one reader, dropped when nobody has listened for a
/// while.
pub struct Tail {
    /// Which stream.
    pub stream: StreamName,
    /// Written by the reader alone. Bounded: who is too slow is told so, and reads the range.
    pub feed: broadcast::Sender<Feed>,
    /// Turned true by the reader once it knows where the stream ends: from then on whatever is
    /// appended is fed.
    pub ready: watch::Sender<bool>,
}

impl Tail {
    /// A tail that nobody reads yet.
    #[must_use]
    pub fn new(stream: StreamName, capacity: usize) -> Self {
        Self { stream, feed: broadcast::Sender::new(capacity), ready: watch::Sender::new(false) }
    }
}

/// The receiving end of a [`Tail`] that is ready.
pub struct Following {
    pub(super) feed: broadcast::Receiver<Feed>,
}

/// What a follower hears next.
#[derive(Debug)]
pub enum Heard {
    /// The next entries.
    Page(Arc<Page>),
    /// Look at the stream: something else has happened.
    Look,
    /// Look at the stream: more has happened than is kept here.
    Behind,
    /// Nothing will follow, the gateway stops.
    Closed,
}

impl Following {
    /// The next thing that happens.
    ///
    /// # Cancel safety
    /// Safe: nothing is lost when dropped.
    pub async fn next(&mut self) -> Heard {
        match self.feed.recv().await {
            Ok(Feed::Page(page)) => Heard::Page(page),
            Ok(Feed::Look) => Heard::Look,
            Err(broadcast::error::RecvError::Lagged(_)) => Heard::Behind,
            Err(broadcast::error::RecvError::Closed) => Heard::Closed,
        }
    }
}
