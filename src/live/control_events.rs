//! Control events of a subscription or push session. Their names begin with `$`.

use std::borrow::Cow;
use std::fmt::Display;

use bytes::Bytes;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::model::frame::{self, Framing};
use crate::model::name::GroupName;

/// A control event.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Signal<'a> {
    /// The start of the subscription.
    Open {
        streams: Vec<Cow<'a, str>>,
        cursor: &'a str,
    },
    /// The start of a push session.
    OpenPush {
        streams: [Cow<'a, str>; 1],
        group: &'a GroupName,
    },
    /// A loss of entries that were trimmed or deleted. `lost` is their number, if it is known.
    Gap {
        stream: &'a str,
        after: String,
        oldest: Option<String>,
        lost: Option<u64>,
    },
    /// A reset of the stream: it was deleted and recreated, or set back.
    Reset { stream: &'a str },
    /// A new position without an event.
    Progress { cursor: &'a str },
    /// The end of the subscription.
    End { reason: &'static str },
}

impl Signal<'_> {
    /// Appends the event to `out`.
    ///
    /// `$open` and `$end` carry a reconnection delay of 1 to 3 seconds, randomized so that clients
    /// do not all reconnect at once. In NDJSON, `$open` is omitted and the position is a separate
    /// member.
    pub(super) fn write(&self, out: &mut Vec<u8>, cursor: Option<&str>, framing: Framing) {
        let (name, retry) = match self {
            Self::Open { .. } | Self::OpenPush { .. } => ("$open", true),
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
                    &ControlLine {
                        name: &name[1..],
                        signal: self,
                        position: cursor,
                    },
                );
            }
        }
    }
}

/// A control event as an NDJSON line.
struct ControlLine<'a> {
    name: &'a str,
    signal: &'a Signal<'a>,
    position: Option<&'a str>,
}

impl Serialize for ControlLine<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(self.name, self.signal)?;
        if let Some(position) = self.position {
            map.serialize_entry("position", position)?;
        }
        map.end()
    }
}

/// The reason in the `$end` event of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// The gateway is shutting down.
    Draining,
    /// Redis is unreachable.
    RedisUnavailable,
    /// A limit is reached.
    Overloaded,
    /// The subscription has reached its maximum duration.
    SessionAge,
    /// The requested end is reached.
    Complete,
    /// The credential of the subscription is no longer valid.
    Expired,
    /// The credential cannot be verified at the moment.
    AuthUnavailable,
}

impl EndReason {
    /// Returns the only frame of a subscription that ends before it starts.
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
