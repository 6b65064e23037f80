//! The paths, in one place for router, document and links.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::model::name::StreamName;

/// All streams.
pub const STREAMS: &str = "/v1/streams";
/// One stream.
pub const STREAM: &str = "/v1/streams/{stream}";
/// Its entries.
pub const ENTRIES: &str = "/v1/streams/{stream}/entries";
/// What is to be appended to it later.
pub const SCHEDULED: &str = "/v1/streams/{stream}/scheduled";
/// One append that is to come.
pub const SCHEDULED_ONE: &str = "/v1/streams/{stream}/scheduled/{token}";
/// Entries of several streams.
pub const MANY: &str = "/v1/entries";
/// One entry.
pub const ENTRY: &str = "/v1/streams/{stream}/entries/{id}";
/// Trimming it.
pub const TRIM: &str = "/v1/streams/{stream}/trim";
/// Its entries as they come.
pub const EVENTS: &str = "/v1/streams/{stream}/events";
/// Entries of many streams as they come.
pub const MANY_EVENTS: &str = "/v1/events";
/// Its groups.
pub const GROUPS: &str = "/v1/streams/{stream}/groups";
/// One group.
pub const GROUP: &str = "/v1/streams/{stream}/groups/{group}";
/// Reading as a consumer.
pub const GROUP_READ: &str = "/v1/streams/{stream}/groups/{group}/read";
/// Acknowledging.
pub const GROUP_ACK: &str = "/v1/streams/{stream}/groups/{group}/ack";
/// Having entries pushed.
pub const GROUP_EVENTS: &str = "/v1/streams/{stream}/groups/{group}/events";
/// Handing entries back.
pub const GROUP_NACK: &str = "/v1/streams/{stream}/groups/{group}/nack";
/// Putting entries away.
pub const GROUP_REJECT: &str = "/v1/streams/{stream}/groups/{group}/reject";
/// Keeping entries for longer.
pub const GROUP_EXTEND: &str = "/v1/streams/{stream}/groups/{group}/extend";
/// Reading as a consumer, from several streams.
pub const MANY_READ: &str = "/v1/groups/{group}/read";
/// Acknowledging in several streams.
pub const MANY_ACK: &str = "/v1/groups/{group}/ack";
/// Handing entries of several streams back.
pub const MANY_NACK: &str = "/v1/groups/{group}/nack";
/// Putting entries of several streams away.
pub const MANY_REJECT: &str = "/v1/groups/{group}/reject";
/// Keeping entries of several streams for longer.
pub const MANY_EXTEND: &str = "/v1/groups/{group}/extend";
/// The dead letters of a group.
pub const DEAD_LETTERS: &str = "/v1/streams/{stream}/groups/{group}/dead-letters";
/// One of them.
pub const DEAD_LETTER: &str = "/v1/streams/{stream}/groups/{group}/dead-letters/{id}";
/// Giving them back.
pub const REDRIVE: &str = "/v1/streams/{stream}/groups/{group}/dead-letters/redrive";
/// What is pending.
pub const GROUP_PENDING: &str = "/v1/streams/{stream}/groups/{group}/pending";
/// Its consumers.
pub const CONSUMERS: &str = "/v1/streams/{stream}/groups/{group}/consumers";
/// One consumer.
pub const CONSUMER: &str = "/v1/streams/{stream}/groups/{group}/consumers/{consumer}";
/// Taking pending entries by id.
pub const GROUP_CLAIM: &str = "/v1/streams/{stream}/groups/{group}/claim";
/// Taking what has been pending for long.
pub const GROUP_AUTOCLAIM: &str = "/v1/streams/{stream}/groups/{group}/autoclaim";
/// Rights that fit into a URL.
pub const TICKETS: &str = "/v1/tickets";
/// What depends on the server.
pub const CAPABILITIES: &str = "/v1/capabilities";

/// Unreserved characters of RFC 3986 stay as they are.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Text as one segment of a path or one value of a query.
#[must_use]
pub fn encode(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

/// Where an entry can be read.
#[must_use]
pub fn entry(stream: &StreamName, id: &str) -> String {
    let stream = encode(&stream.shown());
    format!("/v1/streams/{stream}/entries/{id}")
}

/// Where a group can be looked at.
#[must_use]
pub fn group(stream: &StreamName, group: &str) -> String {
    format!(
        "/v1/streams/{}/groups/{}",
        encode(&stream.shown()),
        encode(group)
    )
}

/// Where an append that is to come can be looked at.
#[must_use]
pub fn scheduled(stream: &StreamName, token: &str) -> String {
    format!(
        "/v1/streams/{}/scheduled/{}",
        encode(&stream.shown()),
        encode(token)
    )
}
