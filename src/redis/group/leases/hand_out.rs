//! The script that delivers entries of groups, with or without a policy.
use crate::redis::script::{LuaScript, lua};

/// Delivers entries of each stream: due entries, whose lease or delay has ended, up to half of the
/// count, then new entries, then more due entries. Reads a group without a policy like XREADGROUP.
///
/// Entries read by XREADGROUP cannot be put back. With a byte limit, the script therefore first
/// examines the entries after the last delivered one, and tells XREADGROUP how many to read. The
/// streams take turns at being read first, and so do due and new entries, because either may
/// exhaust the byte limit.
///
/// The script examines at most 16 entries at a time, because large entries may follow small ones.
///
/// A read creates its consumer and resets the consumer's idle time, even if it delivers nothing. In
/// a plain group, this follows XREADGROUP on the server. In a group with a policy, it happens on
/// every server, because `consumer_expiry` deletes consumers that do not read. A history read after
/// the second-to-last possible id does just that; the very last id would mean `>`.
///
/// A pending entry that XCLAIM does not return was deleted from the stream. Redis 7.0 silently
/// removes the entry from the pending list; Redis 6.2 returns nil. Either way the entry becomes a
/// tombstone.
pub(super) static READ: LuaScript = LuaScript::new(lua![
    "lib/life",
    "lib/leases",
    "lib/order",
    "lib/bury",
    "lib/allowance",
    "lib/read_ahead",
    "read"
]);
