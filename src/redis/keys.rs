//! Names of the Redis keys and channels of the gateway. Keys of a stream share its slot.

use crate::model::name::{GroupName, OWN_PREFIX, StreamName};

/// Index of the groups with a policy.
pub(in crate::redis) const POLICY_INDEX: &str = "streamgate:{policies}:index";
/// Index of the streams with a retention.
pub(in crate::redis) const RETENTION_INDEX: &str = "streamgate:{retention}:index";
/// Random version of the index of retentions; changes with the index.
pub(in crate::redis) const RETENTION_VERSION: &str = "streamgate:{retention}:edition";
/// Index of the streams with idempotency keys. It is in a separate slot and is written after the
/// keys.
pub(in crate::redis) const IDEMPOTENCY_INDEX: &str = "streamgate:{idempotency}:index";
/// Index of the streams with scheduled appends, by due time.
pub(in crate::redis) const SCHEDULED_INDEX: &str = "streamgate:{scheduled}:index";
/// Versions of the streams in the index of scheduled appends.
pub(in crate::redis) const SCHEDULED_VERSIONS: &str = "streamgate:{scheduled}:editions";
/// Channel for announcements of a new due time, in milliseconds from now.
pub(in crate::redis) const SCHEDULED_CHANNEL: &str = "streamgate:{scheduled}:bell";
/// Secret that signs the tickets of all gateways.
pub(in crate::redis) const TICKET_SECRET: &str = "streamgate:{tickets}:secret";

/// Returns the key of the hash with the policies of a stream's groups.
pub(in crate::redis) fn policies(stream: &StreamName) -> String {
    // Runs for every read and acknowledgement. `concat` allocates once; `format!` reallocates.
    [
        OWN_PREFIX,
        "{",
        stream.tag(),
        "}:policies:",
        stream.redis_key(),
    ]
    .concat()
}

/// Returns the prefix of the keys of all leases of a stream. Names may contain any character, so
/// the key includes the length of the stream's name to mark where the group's name begins.
pub(in crate::redis) fn leases_prefix(stream: &StreamName) -> String {
    let (key, length) = (stream.redis_key(), stream.redis_key().len().to_string());
    [
        OWN_PREFIX,
        "{",
        stream.tag(),
        "}:leases:",
        &length,
        ":",
        key,
        ":",
    ]
    .concat()
}

/// Returns the prefixes of the keys that hold the order of a stream's groups: a sorted set of entries,
/// and a hash.
pub(in crate::redis) fn order_prefixes(stream: &StreamName) -> [String; 2] {
    let (key, tag) = (stream.redis_key(), stream.tag());
    ["order", "turns"].map(|kind| format!("{OWN_PREFIX}{{{tag}}}:{kind}:{}:{key}:", key.len()))
}

/// Returns the keys that hold the order of a group: a sorted set of entries, and a hash.
pub(in crate::redis) fn order(stream: &StreamName, group: &GroupName) -> [Vec<u8>; 2] {
    order_prefixes(stream).map(|prefix| [prefix.as_bytes(), group.as_bytes()].concat())
}

/// Returns the key of the sorted set with the leases of a group.
pub(in crate::redis) fn leases(stream: &StreamName, group: &GroupName) -> Vec<u8> {
    [leases_prefix(stream).as_bytes(), group.as_bytes()].concat()
}

/// Returns the channel on which released entries of a group are announced.
pub(in crate::redis) fn wake_channel(stream: &StreamName, group: &GroupName) -> String {
    let key = stream.redis_key();
    format!(
        "{OWN_PREFIX}{{{}}}:wake:{}:{key}:{group}",
        stream.tag(),
        key.len()
    )
}

/// Returns the key of the retention of a stream.
pub(in crate::redis) fn retention(stream: &StreamName) -> String {
    let (key, tag) = (stream.redis_key(), stream.tag());
    format!("{OWN_PREFIX}{{{tag}}}:retention:{key}")
}

/// Returns the keys that store the idempotency keys of a stream: a hash of the keys, and a sorted
/// set of their expiry times.
pub(in crate::redis) fn idempotency(stream: &StreamName) -> [String; 2] {
    let (name, tag) = (stream.redis_key(), stream.tag());
    // Streams with the same hash tag share a slot, but not these keys.
    ["known", "ends"].map(|kind| format!("{OWN_PREFIX}{{{tag}}}:idempotency:{kind}:{name}"))
}

/// Returns the keys of the scheduled appends of a stream: due times and entries.
pub(in crate::redis) fn scheduled(stream: &StreamName) -> [String; 2] {
    let (key, tag) = (stream.redis_key(), stream.tag());
    ["due", "entries"].map(|kind| format!("{OWN_PREFIX}{{{tag}}}:scheduled:{kind}:{key}"))
}
