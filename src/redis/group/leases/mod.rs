//! Leases on entries delivered to consumers of groups with a policy (ADR 7).
//!
//! Each stream has, in its slot, a hash with the policies of its groups, and for each of these
//! groups a sorted set of leases. The members of the set are entry ids. The scores are the times
//! when the leases end, in microseconds by the clock of Redis.
//!
//! Every operation is one script over the stream and the set, so it is atomic. The end of a lease
//! is never the same twice for one entry, so it distinguishes the current holder from an earlier
//! one.
//!
//! The list of pending entries decides which consumer holds an entry; the set only holds the end of
//! the lease. A member that is not pending has no effect and is removed when a script finds it. A
//! pending entry without a lease was taken by a native consumer, and the sweep gives it a lease.
//! Commands of other clients on the stream or group (XACK, XDEL, XTRIM, XCLAIM, DELCONSUMER)
//! therefore cannot break anything.

pub(in crate::redis) mod ack_publish;
pub(in crate::redis) mod claim;
pub(in crate::redis) mod copy;
pub(in crate::redis) mod dead_letter_keys;
pub(in crate::redis) mod dead_letters;
pub(in crate::redis) mod first_use;
pub(in crate::redis) mod hand_out;
pub(in crate::redis) mod history;
pub(in crate::redis) mod holds;
pub(in crate::redis) mod life;
pub(in crate::redis) mod order;
pub(in crate::redis) mod policy;
pub(in crate::redis) mod read;
mod read_slots;
pub(in crate::redis) mod redrive;
pub(in crate::redis) mod settle;
pub(in crate::redis) mod sweep;
pub(in crate::redis) mod wake;

use crate::model::name::RawName;
use crate::redis::constants::{MARKER_PREFIX, NOBODY, PARKED};

pub use crate::redis::group::leases::ack_publish::{AckPublish, AckPublished};
pub use crate::redis::group::leases::dead_letters::{DeadLetter, DeadLetters};
pub use crate::redis::group::leases::first_use::FirstUse;
pub use crate::redis::group::leases::order::{KeyName, OrderState, OrderedKey, OrderedKeys};
pub use crate::redis::group::leases::policy::{GroupChange, GroupStart};
pub use crate::redis::group::leases::read::{
    ConsumerRead, DeadLetterCounts, GroupDelivery, Lease, StreamDelivery,
};
pub use crate::redis::group::leases::redrive::{Redrive, Redriven};
pub(in crate::redis) use crate::redis::group::leases::settle::write_items;
pub use crate::redis::group::leases::settle::{Item, LeaseOperation, LeaseOutcome};

pub use crate::redis::group::leases::sweep::{SweepParts, SweepPosition, SweepResult};
pub use crate::redis::group::leases::wake::{WakeMessages, WakeSubscriber};

/// Returns whether a consumer belongs to the gateway and is hidden from clients: the holder of
/// returned entries, the one of entries that wait for their key, or a marker.
pub(in crate::redis) fn is_nobody(consumer: &RawName) -> bool {
    let name = consumer.as_bytes();
    name == NOBODY.as_bytes()
        || name == PARKED.as_bytes()
        || name.starts_with(MARKER_PREFIX.as_bytes())
}
