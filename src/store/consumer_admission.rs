//! The bound on consumers of a group. A read makes its consumer, and Redis keeps consumers for ever:
//! a client that reads under a new name each time makes every look at the group slow, for everybody.
//!
//! An admission holds for one to two seconds, so that a busy consumer is not checked at each read.
//! Then Redis is asked again, because the consumer may have been deleted and its place taken. Native
//! consumers count, but are not refused.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::decode::unsigned;
use super::leases::{Verb, policies};
use super::pool::Repeat;
use super::{Store, StoreError};
use crate::model::name::{ConsumerName, GroupName, StreamName};

/// How long an admission holds at least, and half of the longest time.
const HOLDS_FOR: Duration = Duration::from_secs(1);
/// Admissions remembered at least; twice as many at most.
const REMEMBERED: usize = 8192;

/// Consumers that were admitted lately, by hash.
#[derive(Default)]
pub(super) struct Admissions {
    hash: RandomState,
    generations: Mutex<Generations>,
}

/// Two generations of admissions: the older one is forgotten next.
struct Generations {
    young: HashSet<u64>,
    old: HashSet<u64>,
    /// When the young generation began.
    since: Instant,
}

impl Default for Generations {
    fn default() -> Self {
        Self {
            young: HashSet::new(),
            old: HashSet::new(),
            since: Instant::now(),
        }
    }
}

impl Admissions {
    fn key(&self, stream: &StreamName, group: &GroupName, consumer: &ConsumerName) -> u64 {
        self.hash
            .hash_one((stream.as_str(), group.as_bytes(), consumer.as_bytes()))
    }

    fn generations(&self) -> MutexGuard<'_, Generations> {
        self.generations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn contains(&self, key: u64) -> bool {
        let mut generations = self.generations();
        generations.age();
        generations.young.contains(&key) || generations.old.contains(&key)
    }

    fn insert(&self, key: u64) {
        let mut generations = self.generations();
        generations.age();
        generations.young.insert(key);
    }

    /// Forgets a consumer that is deleted through this gateway.
    pub(super) fn forget(&self, stream: &StreamName, group: &GroupName, consumer: &ConsumerName) {
        let key = self.key(stream, group, consumer);
        let mut generations = self.generations();
        generations.young.remove(&key);
        generations.old.remove(&key);
    }
}

impl Generations {
    fn age(&mut self) {
        let elapsed = self.since.elapsed();
        if elapsed < HOLDS_FOR && self.young.len() < REMEMBERED {
            return;
        }
        self.old = std::mem::take(&mut self.young);
        if elapsed >= 2 * HOLDS_FOR {
            self.old.clear();
        }
        self.since = Instant::now();
    }
}

/// Answers 1 if the consumer exists or the group has fewer than the allowed number. Without such a
/// group it answers 1 too: the read says what is wrong.
///
/// Making the consumer tells whether it exists, which costs the same however many there are. A server
/// that is out of memory makes none; then the list of consumers is searched. Consumers of the gateway
/// (see `leases/life.rs`) do not count.
static ADMIT: Verb = Verb::new(
    "\
local key, group, consumer, most = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3])
local made = redis.pcall('XGROUP', 'CREATECONSUMER', key, group, consumer)
if made == 0 then return 1 end
if made == 1 then redis.call('XGROUP', 'DELCONSUMER', key, group, consumer) end
local groups = redis.pcall('XINFO', 'GROUPS', key)
if groups.err then return 1 end
local kept = redis.call('HGET', KEYS[2], group)
local ours = kept and kept:sub(1, 1) == '@' and 2 or 0
for _, flat in ipairs(groups) do
  local info = {}
  for i = 1, #flat, 2 do info[flat[i]] = flat[i + 1] end
  if info['name'] == group and info['consumers'] - ours >= most then
    if made == 1 then return 0 end
    for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', key, group)) do
      for i = 1, #flat, 2 do if flat[i] == 'name' and flat[i + 1] == consumer then return 1 end end
    end
    return 0
  end
end
return 1",
);

impl Store {
    /// Whether a consumer may read in a group that may have `most`; an existing consumer always may.
    ///
    /// # Errors
    /// An outage of Redis.
    /// # Cancel safety
    /// Leaves nothing behind.
    pub async fn admits(
        &self,
        stream: &StreamName,
        group: &GroupName,
        consumer: &ConsumerName,
        most: usize,
    ) -> Result<bool, StoreError> {
        let key = self.admissions.key(stream, group, consumer);
        if self.admissions.contains(key) {
            return Ok(true);
        }
        let reply = self.verb(&ADMIT, Repeat::Safe, |command| {
            command
                .arg(2)
                .arg(stream.as_str())
                .arg(policies(stream))
                .arg(group.as_bytes());
            command.arg(consumer.as_bytes()).arg(most);
        });
        let admitted = unsigned(&reply.await?)? == 1;
        if admitted {
            self.admissions.insert(key);
        }
        Ok(admitted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admissions_are_forgotten_in_time_and_when_there_are_too_many() {
        let admissions = Admissions::default();
        admissions.insert(7);
        assert!(admissions.contains(7));
        for other in 1000..1000 + 5 * REMEMBERED as u64 {
            assert!(!admissions.contains(other));
            admissions.insert(other);
            assert!(admissions.contains(other));
        }
        assert!(
            !admissions.contains(7),
            "using an admission does not prolong it"
        );
        let generations = admissions.generations();
        assert!(generations.young.len() + generations.old.len() <= 2 * REMEMBERED);
    }
}
