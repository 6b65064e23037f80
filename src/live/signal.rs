//! What a subscription is told besides entries: events whose names begin with `$`.

use bytes::Bytes;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::model::frame::{self, Framing};
use crate::model::name::StreamName;
use crate::model::position::Position;

/// Something to tell a subscriber.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Signal<'a> {
    /// The subscription begins.
    Open { streams: [&'a str; 1], cursor: String },
    /// Entries are gone; how many, if that is known.
    Gap { stream: &'a str, after: String, oldest: Option<String>, lost: Option<u64> },
    /// The stream was deleted and made anew, or set back.
    Reset { stream: &'a str },
    /// The subscription ends.
    End { reason: &'static str },
}

impl<'a> Signal<'a> {
    pub(super) fn open(stream: &'a StreamName, cursor: Position) -> Self {
        Self::Open { streams: [stream.as_str()], cursor: cursor.to_string() }
    }

    /// Appends the event. Where a client should wait before it comes back, it is told how long:
    /// 1 to 3 seconds, spread so that not all come at once. As a line, what opens a subscription is
    /// left out, and the position stands beside the rest as `cursor`.
    pub(super) fn write(&self, out: &mut Vec<u8>, at: Option<Position>, framing: Framing) {
        let (name, retry) = match self {
            Self::Open { .. } => ("$open", true),
            Self::Gap { .. } => ("$gap", false),
            Self::Reset { .. } => ("$reset", false),
            Self::End { .. } => ("$end", true),
        };
        match framing {
            Framing::Events => {
                let retry_ms = retry.then(|| fastrand::u64(1_000..3_000));
                frame::write_event(out, at, Some(name), retry_ms, self);
            }
            Framing::Lines if matches!(self, Self::Open { .. }) => {}
            Framing::Lines => frame::write_line(out, &Line { name: &name[1..], signal: self, at }),
        }
    }

    /// The event by itself.
    pub(super) fn frame(&self, at: Option<Position>, framing: Framing) -> Bytes {
        let mut frame = Vec::new();
        self.write(&mut frame, at, framing);
        frame.into()
    }
}

/// A signal as a line.
struct Line<'a> {
    name: &'a str,
    signal: &'a Signal<'a>,
    at: Option<Position>,
}

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(self.name, self.signal)?;
        if let Some(at) = self.at {
            map.serialize_entry("cursor", &format_args!("{at}"))?;
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
}

impl Closing {
    /// The last frame of a subscription, or its only one when it ends before it has begun.
    #[must_use]
    pub fn frame(self, at: Option<Position>, framing: Framing) -> Bytes {
        let reason = match self {
            Self::Draining => "draining",
            Self::RedisUnavailable => "redis-unavailable",
            Self::Overloaded => "overloaded",
        };
        Signal::End { reason }.frame(at, framing)
    }
}
