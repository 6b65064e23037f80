//! Groups by whether they had a policy at their last read through this gateway.
//!
//! Groups that were plain are read with XREADGROUP, which costs Redis less than half of a script.
//! Only a group seen plain before is read like this. A group that is new to this gateway is read by
//! the script, which looks at the policy first. The policy may have been set elsewhere since:
//! `Store::read_work` notices and completes the read, so a stale answer costs a round trip only.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{PoisonError, RwLock};

use crate::model::name::{GroupName, StreamName};

/// Groups remembered at most. The cache is cleared when it is full.
const MAX_GROUPS: usize = 100_000;

/// Whether groups had a policy, by the hash of stream and group.
#[derive(Default)]
pub(in crate::live) struct PolicyCache {
    hash: RandomState,
    has_policy: RwLock<HashMap<u64, bool>>,
}

impl PolicyCache {
    fn key(&self, stream: &StreamName, group: &GroupName) -> u64 {
        self.hash.hash_one((stream.as_str(), group.as_bytes()))
    }

    /// Whether each of these groups was plain at its last read here.
    pub(in crate::live) fn all_plain(&self, streams: &[StreamName], group: &GroupName) -> bool {
        let known = self
            .has_policy
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        streams
            .iter()
            .all(|stream| known.get(&self.key(stream, group)) == Some(&false))
    }

    /// Notes what a read saw.
    pub(in crate::live) fn note(&self, stream: &StreamName, group: &GroupName, has_policy: bool) {
        let key = self.key(stream, group);
        let known = self
            .has_policy
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        if known.get(&key) == Some(&has_policy) {
            return;
        }
        drop(known);
        let mut known = self
            .has_policy
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_GROUPS {
            known.clear();
        }
        known.insert(key, has_policy);
    }
}
