//! Which groups had a policy when they were last read: a guess that saves plain groups a script.
//! A wrong one costs a round trip and nothing else, see `Store::read_work`.

use std::collections::HashSet;
use std::sync::{PoisonError, RwLock};

use crate::model::name::{GroupName, StreamName};

/// More than this are not remembered: it begins anew.
const MAX_KNOWN: usize = 100_000;

/// Groups that had a policy.
#[derive(Default)]
pub(super) struct Leased(RwLock<HashSet<(StreamName, GroupName)>>);

impl Leased {
    /// Whether any of these had one.
    pub(super) fn any(&self, streams: &[StreamName], group: &GroupName) -> bool {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        !known.is_empty()
            && streams.iter().any(|stream| known.contains(&(stream.clone(), group.clone())))
    }

    /// Notes what was seen.
    pub(super) fn note(&self, stream: &StreamName, group: &GroupName, leased: bool) {
        let key = (stream.clone(), group.clone());
        let is_known = |known: &HashSet<_>| known.contains(&key) == leased;
        if is_known(&self.0.read().unwrap_or_else(PoisonError::into_inner)) {
            return;
        }
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if !leased {
            known.remove(&key);
            return;
        }
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(key);
    }
}
