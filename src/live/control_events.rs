//! What a subscription is told besides entries: events whose names begin with `$`.

use std::borrow::Cow;
use std::fmt::Display;

use bytes::Bytes;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::model::frame::{self, Framing};

/// Something to tell a subscriber.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Signal<'a> {
    /// The subscription begins.
    Open {
        streams: Vec<Cow<'a, str>>,
        cursor: &'a str,
    },
    /// Entries are gone; how many, if that is known.
    Gap {
        stream: &'a str,
        after: String,
        oldest: Option<String>,
        lost: Option<u64>,
    },
    /// The stream was deleted and made anew, or set back.
    Reset { stream: &'a str },
    /// The position has moved without an event.
    Progress { cursor: &'a str },
    /// The subscription ends.
    End { reason: &'static str },
}

impl Signal<'_> {
    /// Appends the event. Where a client should wait before it comes back, it is told how long:
    /// 1 to 3 seconds, spread so that not all come at once. As a line, what opens a subscription is
    /// left out, and the position stands beside the rest.
    pub(super) fn write(&self, out: &mut Vec<u8>, cursor: Option<&str>, framing: Framing) {
        let (name, retry) = match self {
            Self::Open { .. } => ("$open", true),
            Self::Gap { .. } => ("$gap", false),
            Self::Reset { .. } => ("$reset", false),
            Self::Progress { .. } => ("$progress", false),
            Self::End { .. } => ("$end", true),
        };
        match framing {
            Framing::Events => {
                let retry_ms = retry.then(|| fastrand::u64(1_000..3_000));
                frame::begin_event(out, Some(name), retry_ms, self);
                frame::end_event(out, cursor.as_ref().map(|cursor| cursor as &dyn Display));
            }
            Framing::Lines if matches!(self, Self::Open { .. }) => {}
            Framing::Lines => {
                frame::write_line(
                    out,
                    &Line {
                        name: &name[1..],
                        signal: self,
                        position: cursor,
                    },
                );
            }
        }
    }
}

/// A signal as a line.
struct Line<'a> {
    name: &'a str,
    signal: &'a Signal<'a>,
    position: Option<&'a str>,
}

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(self.name, self.signal)?;
        if let Some(position) = self.position {
            map.serialize_entry("position", position)?;
        }
        map.end()
    }
}

/// Why a subscription ends, as the `$end` event says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// The gateway stops.
    Draining,
    /// Redis cannot be reached.
    RedisUnavailable,
    /// A bound is met.
    Overloaded,
    /// It has lasted as long as one may.
    SessionAge,
    /// The end that was asked for is reached.
    Complete,
    /// The credential it was opened with is no longer good.
    Expired,
    /// It cannot be told for the moment whether the credential is good.
    AuthUnavailable,
}

impl Closing {
    /// The only frame of a subscription that ends before it has begun.
    #[must_use]
    pub fn frame(self, framing: Framing) -> Bytes {
        let mut frame = Vec::new();
        self.write(&mut frame, None, framing);
        frame.into()
    }

    pub(super) fn write(self, out: &mut Vec<u8>, cursor: Option<&str>, framing: Framing) {
        let reason = match self {
            Self::Draining => "draining",
            Self::RedisUnavailable => "redis-unavailable",
            Self::Overloaded => "overloaded",
            Self::SessionAge => "session-age",
            Self::Complete => "complete",
            Self::Expired => "expired",
            Self::AuthUnavailable => "auth-unavailable",
        };
        Signal::End { reason }.write(out, cursor, framing);
    }
}
