//! A cache of whether groups had a policy at their last read through this gateway.
//!
//! A plain group, without a policy, is read with XREADGROUP. That costs Redis less than half as
//! much as the script. Only a group last seen as plain is read this way. A group that is new to
//! this gateway is read by the script, which checks the policy first.
//!
//! Another gateway may have set a policy since. `Store::read_work` detects this and completes the
//! read, so a stale cache entry only costs a round trip.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};

use parking_lot::RwLock;

use crate::model::name::{GroupName, StreamName};

/// Maximum number of cached groups. The cache is cleared when it is full.
const MAX_GROUPS: usize = 100_000;

/// The cached policy flags by the hash of stream and group.
#[derive(Default)]
pub(in crate::live) struct PolicyCache {
    hash: RandomState,
    has_policy: RwLock<HashMap<u64, bool>>,
}

impl PolicyCache {
    fn key(&self, stream: &StreamName, group: &GroupName) -> u64 {
        self.hash.hash_one((stream.as_str(), group.as_bytes()))
    }

    /// Returns whether all of these groups were plain at their last read through this gateway.
    pub(in crate::live) fn all_plain(&self, streams: &[StreamName], group: &GroupName) -> bool {
        let known = self.has_policy.read();
        streams
            .iter()
            .all(|stream| known.get(&self.key(stream, group)) == Some(&false))
    }

    /// Records whether a read found a policy.
    pub(in crate::live) fn note(&self, stream: &StreamName, group: &GroupName, has_policy: bool) {
        let key = self.key(stream, group);
        let known = self.has_policy.read();
        if known.get(&key) == Some(&has_policy) {
            return;
        }
        drop(known);
        let mut known = self.has_policy.write();
        if known.len() >= MAX_GROUPS {
            known.clear();
        }
        known.insert(key, has_policy);
    }
}
