//! Keys of scripts on groups, which include the dead-letter stream of each group.
//!
//! A policy names any stream of the slot for its dead letters, and a script must get it as a key. The
//! gateway remembers the names it has seen, and otherwise assumes the default one. A script that finds
//! another name in the policy refuses with it before it writes anything, and runs again.

use std::collections::HashMap;

use deadpool_redis::redis::Cmd;
use parking_lot::RwLock;

use crate::model::name::{GroupName, StreamName};
use crate::model::policy::default_dead_letter;
use crate::redis::keys;
use crate::redis::{Store, StoreError};

/// Maximum number of remembered names. All are forgotten when it is reached.
const MAX_NAMES: usize = 100_000;

/// Dead-letter streams other than the default ones, by the key of the leases of their group.
#[derive(Default)]
pub(in crate::redis) struct DeadLetterKeys(RwLock<HashMap<Vec<u8>, Vec<u8>>>);

impl DeadLetterKeys {
    /// Remembers the name in the text of a refusal. Returns whether there is one.
    fn learn(&self, refusal: &str) -> bool {
        let mut words = refusal.split_whitespace();
        let found = words.find(|word| word.ends_with("OTHERDEAD"));
        let mut name = || from_hex(words.next()?);
        let (Some(_), Some(leases), Some(dead)) = (found, name(), name()) else {
            return false;
        };
        let mut known = self.0.write();
        if known.len() >= MAX_NAMES {
            known.clear();
        }
        known.insert(leases, dead);
        true
    }

    fn of(&self, stream: &StreamName, leases: &[u8]) -> Vec<u8> {
        let known = self.0.read().get(leases).cloned();
        known.unwrap_or_else(|| match default_dead_letter(stream) {
            Ok(dead) => dead.redis_key().as_bytes().to_vec(),
            // No name fits, so the policy has another one, which the script tells.
            Err(_) => stream.redis_key().as_bytes().to_vec(),
        })
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    let byte = |pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.map(byte).collect()
}

impl Store {
    /// Remembers the dead-letter stream that a script has named in its refusal. Returns whether the
    /// script can run again.
    pub(in crate::redis) fn learn_dead_letter(&self, error: &StoreError) -> bool {
        matches!(error, StoreError::OtherDeadLetter(text) if self.dead_letter_keys.learn(text))
    }

    /// Returns the keys that every script on a group takes: the stream, its policies, the leases of
    /// the group, the two keys of its order, and its dead-letter stream.
    pub(in crate::redis) fn group_keys(
        &self,
        stream: &StreamName,
        group: &GroupName,
    ) -> [Vec<u8>; 6] {
        let leases = keys::leases(stream, group);
        let [order, turns] = keys::order(stream, group);
        let dead = self.dead_letter_keys.of(stream, &leases);
        let (stream, policies) = (
            stream.redis_key().as_bytes().to_vec(),
            keys::policies(stream),
        );
        [stream, policies.into_bytes(), leases, order, turns, dead]
    }

    /// Appends the common arguments of scripts on one group: keys, group name and channel.
    pub(in crate::redis) fn begin(
        &self,
        command: &mut Cmd,
        stream: &StreamName,
        group: &GroupName,
    ) {
        self.begin_with(command, stream, group, &[]);
    }

    /// Appends the common arguments, with more keys of the same slot.
    pub(in crate::redis) fn begin_with(
        &self,
        command: &mut Cmd,
        stream: &StreamName,
        group: &GroupName,
        more: &[&str],
    ) {
        let own = self.group_keys(stream, group);
        command.arg(own.len() + more.len()).arg(&own).arg(more);
        command
            .arg(group.as_bytes())
            .arg(keys::wake_channel(stream, group));
    }

    /// Appends the keys of the groups of several streams, and the group name.
    pub(super) fn write_keys(&self, command: &mut Cmd, streams: &[StreamName], group: &GroupName) {
        command.arg(6 * streams.len());
        for stream in streams {
            command.arg(&self.group_keys(stream, group));
        }
        command.arg(group.as_bytes());
    }
}
