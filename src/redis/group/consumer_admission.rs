//! The limit on consumers per group. A read creates its consumer, and Redis keeps consumers
//! forever. A client that reads under a new name each time would make every XINFO of the group
//! slow.
//!
//! An admission is cached for one to two seconds, so that a busy consumer is not checked at each
//! read. Then Redis is queried again, because the consumer may have been deleted and another one
//! created. Native consumers count towards the limit, but are not rejected.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use crate::model::name::{ConsumerName, GroupName, StreamName};
use crate::redis::conn::send_options::RetryPolicy;
use crate::redis::decode::unsigned;
use crate::redis::keys;
use crate::redis::script::{LuaScript, lua};
use crate::redis::{Store, StoreError};

/// Minimum lifetime of a cached admission; the maximum is twice as long.
const HOLDS_FOR: Duration = Duration::from_secs(1);
/// Size of one generation of cached admissions; at most twice as many are cached.
const REMEMBERED: usize = 8192;

/// Recently admitted consumers, by hash.
#[derive(Default)]
pub(in crate::redis) struct Admissions {
    hash: RandomState,
    generations: Mutex<Generations>,
}

/// Two generations of admissions; the older one is evicted next.
struct Generations {
    young: HashSet<u64>,
    old: HashSet<u64>,
    /// Start of the young generation.
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
            .hash_one((stream.redis_key(), group.as_bytes(), consumer.as_bytes()))
    }

    fn generations(&self) -> MutexGuard<'_, Generations> {
        self.generations.lock()
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

    /// Removes a consumer that is being deleted through this gateway.
    pub(in crate::redis) fn forget(
        &self,
        stream: &StreamName,
        group: &GroupName,
        consumer: &ConsumerName,
    ) {
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

/// Returns 1 if the consumer exists or the group has fewer consumers than allowed. Also returns 1
/// if the group does not exist; the read then reports the error.
///
/// The script tries to create the consumer to find out whether it exists, because the cost of that
/// does not depend on the number of consumers. A server that is out of memory creates no consumer;
/// the script then searches the list of consumers. Consumers of the gateway itself (see
/// `leases/life.rs`) do not count.
static ADMIT: LuaScript = LuaScript::new(lua!["consumer_admit"]);

impl Store {
    /// Returns whether a consumer may read in a group with a limit of `most` consumers. An existing
    /// consumer always may.
    ///
    /// # Errors
    /// An outage of Redis.
    /// # Cancel safety
    /// Cancel safe: the script leaves the group unchanged.
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
        let reply = self.run_script(&ADMIT, RetryPolicy::Safe, |command| {
            command
                .arg(2)
                .arg(stream.redis_key())
                .arg(keys::policies(stream))
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
