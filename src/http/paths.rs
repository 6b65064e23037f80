//! Paths of the API, shared by the router, the OpenAPI document and links.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::model::name::StreamName;

/// Streams.
pub const STREAMS: &str = "/v1/streams";
/// One stream.
pub const STREAM: &str = "/v1/streams/{stream}";
/// Entries of a stream.
pub const ENTRIES: &str = "/v1/streams/{stream}/entries";
/// Scheduled appends of a stream.
pub const SCHEDULED: &str = "/v1/streams/{stream}/scheduled";
/// One scheduled append.
pub const SCHEDULED_ONE: &str = "/v1/streams/{stream}/scheduled/{token}";
/// Entries of several streams.
pub const MANY: &str = "/v1/entries";
/// One entry.
pub const ENTRY: &str = "/v1/streams/{stream}/entries/{id}";
/// Trim of a stream.
pub const TRIM: &str = "/v1/streams/{stream}/trim";
/// Event stream of one stream.
pub const EVENTS: &str = "/v1/streams/{stream}/events";
/// Event stream of several streams.
pub const MANY_EVENTS: &str = "/v1/events";
/// Consumer groups of a stream.
pub const GROUPS: &str = "/v1/streams/{stream}/groups";
/// One consumer group.
pub const GROUP: &str = "/v1/streams/{stream}/groups/{group}";
/// Read as a consumer.
pub const GROUP_READ: &str = "/v1/streams/{stream}/groups/{group}/read";
/// Acknowledgement of entries.
pub const GROUP_ACK: &str = "/v1/streams/{stream}/groups/{group}/ack";
/// Event stream of a consumer that receives pushed entries.
pub const GROUP_EVENTS: &str = "/v1/streams/{stream}/groups/{group}/events";
/// Negative acknowledgement of entries.
pub const GROUP_NACK: &str = "/v1/streams/{stream}/groups/{group}/nack";
/// Rejection of entries.
pub const GROUP_REJECT: &str = "/v1/streams/{stream}/groups/{group}/reject";
/// Extension of leases.
pub const GROUP_EXTEND: &str = "/v1/streams/{stream}/groups/{group}/extend";
/// Read as a consumer from several streams.
pub const MANY_READ: &str = "/v1/groups/{group}/read";
/// Acknowledgement of entries of several streams.
pub const MANY_ACK: &str = "/v1/groups/{group}/ack";
/// Negative acknowledgement of entries of several streams.
pub const MANY_NACK: &str = "/v1/groups/{group}/nack";
/// Rejection of entries of several streams.
pub const MANY_REJECT: &str = "/v1/groups/{group}/reject";
/// Extension of leases in several streams.
pub const MANY_EXTEND: &str = "/v1/groups/{group}/extend";
/// Dead letters of a group.
pub const DEAD_LETTERS: &str = "/v1/streams/{stream}/groups/{group}/dead-letters";
/// One dead letter.
pub const DEAD_LETTER: &str = "/v1/streams/{stream}/groups/{group}/dead-letters/{id}";
/// Redrive of dead letters.
pub const REDRIVE: &str = "/v1/streams/{stream}/groups/{group}/dead-letters/redrive";
/// Pending entries of a group.
pub const GROUP_PENDING: &str = "/v1/streams/{stream}/groups/{group}/pending";
/// Consumers of a group.
pub const CONSUMERS: &str = "/v1/streams/{stream}/groups/{group}/consumers";
/// One consumer.
pub const CONSUMER: &str = "/v1/streams/{stream}/groups/{group}/consumers/{consumer}";
/// Keys of a group with an order.
pub const GROUP_KEYS: &str = "/v1/streams/{stream}/groups/{group}/keys";
/// One key of a group with an order.
pub const GROUP_KEY: &str = "/v1/streams/{stream}/groups/{group}/keys/{key}";
/// Claim of pending entries by id.
pub const GROUP_CLAIM: &str = "/v1/streams/{stream}/groups/{group}/claim";
/// Claim of entries that have been idle for some time.
pub const GROUP_AUTOCLAIM: &str = "/v1/streams/{stream}/groups/{group}/autoclaim";
/// Tickets: credentials for use in URLs.
pub const TICKETS: &str = "/v1/tickets";
/// A webhook source.
pub const SOURCE: &str = "/v1/sources/{name}";
/// Beginning of the paths of webhook sources.
pub const SOURCES: &str = "/v1/sources/";
/// Features that depend on the Redis server.
pub const CAPABILITIES: &str = "/v1/capabilities";

/// Characters to percent-encode: all but the unreserved characters of RFC 3986.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Percent-encodes text as one path segment or query value.
#[must_use]
pub fn encode(text: &str) -> String {
    utf8_percent_encode(text, SEGMENT).to_string()
}

/// Returns the path of an entry.
#[must_use]
pub fn entry(stream: &StreamName, id: &str) -> String {
    let stream = encode(&stream.public_name());
    format!("/v1/streams/{stream}/entries/{id}")
}

/// Returns the path of a group.
#[must_use]
pub fn group(stream: &StreamName, group: &str) -> String {
    format!(
        "/v1/streams/{}/groups/{}",
        encode(&stream.public_name()),
        encode(group)
    )
}

/// Returns the path of a scheduled append.
#[must_use]
pub fn scheduled(stream: &StreamName, token: &str) -> String {
    format!(
        "/v1/streams/{}/scheduled/{}",
        encode(&stream.public_name()),
        encode(token)
    )
}
