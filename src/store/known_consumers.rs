//! How many consumers a group may have. Reading makes one, and Redis keeps it for ever: whoever reads
//! under a new name each time makes every look at the group dear, for everybody.
//!
//! Names that were lately let in cost nothing. Native consumers are counted, but not held up.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::decode::unsigned;
use super::leases::Verb;
use super::pool::Repeat;
use super::{Store, StoreError};
use crate::model::name::{ConsumerName, GroupName, StreamName};

/// How long a name is known at least after it was last used, unless there are too many.
const KNOWN_FOR: Duration = Duration::from_secs(60);
/// So many are known at least, and twice as many at most.
const KNOWN: usize = 8192;

/// Consumers that were let in, by hash, in two generations: those of the older are forgotten next.
pub(super) struct KnownConsumers {
    hash: RandomState,
    generations: Mutex<(HashSet<u64>, HashSet<u64>, Instant)>,
}

impl Default for KnownConsumers {
    fn default() -> Self {
        let generations = (HashSet::new(), HashSet::new(), Instant::now());
        Self { hash: RandomState::new(), generations: Mutex::new(generations) }
    }
}

impl KnownConsumers {
    fn knows(&self, of: u64) -> bool {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        let (young, old, since) = &mut *generations;
        if since.elapsed() > KNOWN_FOR || young.len() >= KNOWN {
            // Nobody was asked for since: what is in them is older still.
            let is_long_ago = since.elapsed() > 2 * KNOWN_FOR;
            *old = std::mem::take(young);
            if is_long_ago {
                old.clear();
            }
            *since = Instant::now();
        }
        young.contains(&of) || (old.remove(&of) && young.insert(of))
    }

    fn learn(&self, of: u64) {
        self.generations.lock().unwrap_or_else(PoisonError::into_inner).0.insert(of);
    }
}

/// Whether a consumer may read: if it is there, or there is room for one more. Without such a group
/// it may: the read tells what is wrong.
///
/// Where there is no room, making it tells whether it is there, which costs the same however many
/// there are; a Redis that is full makes none, and then lets those in who are there.
static ADMIT: Verb = Verb::new(
    "\
local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])
if groups.err then return 1 end
for _, flat in ipairs(groups) do
  local info = {}
  for i = 1, #flat, 2 do info[flat[i]] = flat[i + 1] end
  if info['name'] == ARGV[1] and info['consumers'] >= tonumber(ARGV[3]) then
    local made = redis.pcall('XGROUP', 'CREATECONSUMER', KEYS[1], ARGV[1], ARGV[2])
    if made == 0 then return 1 end
    if made == 1 then
      redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
      return 0
    end
    for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
      for i = 1, #flat, 2 do if flat[i] == 'name' and flat[i + 1] == ARGV[2] then return 1 end end
    end
    return 0
  end
end
return 1",
);

impl Store {
    /// Whether a consumer may read in a group that may have `most`; one that is there always may.
    ///
    /// # Errors
    /// That Redis is away.
    /// # Cancel safety
    /// Leaves nothing behind.
    pub async fn admits(
        &self,
        stream: &StreamName,
        group: &GroupName,
        consumer: &ConsumerName,
        most: usize,
    ) -> Result<bool, StoreError> {
        let of = self.known.hash.hash_one((stream.as_str(), group.as_str(), consumer.as_str()));
        if self.known.knows(of) {
            return Ok(true);
        }
        let reply = self.verb(&ADMIT, Repeat::Safe, |command| {
            command.arg(1).arg(stream.as_str()).arg(group.as_str());
            command.arg(consumer.as_str()).arg(most);
        });
        let admitted = unsigned(&reply.await?)? == 1;
        if admitted {
            self.known.learn(of);
        }
        Ok(admitted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_is_known_and_never_too_much() {
        let known = KnownConsumers::default();
        known.learn(7);
        for other in 1000..1000 + 5 * KNOWN as u64 {
            assert!(known.knows(7), "{other}");
            assert!(!known.knows(other));
            known.learn(other);
        }
        assert!(!known.knows(1000), "long ago");
        let generations = known.generations.lock().unwrap();
        assert!(generations.0.len() + generations.1.len() <= 2 * KNOWN);
    }
}
