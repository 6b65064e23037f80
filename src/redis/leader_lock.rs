//! What one gateway does for all: who does it holds a lock in Redis, which falls to another soon
//! after its holder is gone. Two that do the same at once would do no harm.

use std::time::Duration;

use crate::redis::conn::pool::Repeat;
use crate::redis::decode::unsigned;
use crate::redis::group::leases::Verb;
use crate::redis::{Store, StoreError};

/// What is done for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// Looking after groups with a policy.
    Groups,
    /// Keeping streams to their retention.
    Retention,
    /// Appending what was scheduled.
    Scheduled,
}

impl Duty {
    const fn lock(self) -> &'static str {
        match self {
            Self::Groups => "streamgate:{policies}:sweeper",
            Self::Retention => "streamgate:{retention}:sweeper",
            Self::Scheduled => "streamgate:{scheduled}:mover",
        }
    }
}

/// Takes the lock, or keeps it: 1 if it is held now.
static HOLD: Verb = Verb::new(
    "\
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1",
);

/// Lets go of the lock.
static RELEASE: Verb = Verb::new(
    "\
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0",
);

impl Store {
    /// Takes a duty on, or keeps it for `hold` from now on; whether it is held.
    ///
    /// # Errors
    /// That Redis is away.
    /// # Cancel safety
    /// Dropped after it was sent, the duty may be held until `hold` is over.
    pub async fn take_duty(
        &self,
        duty: Duty,
        holder: &str,
        hold: Duration,
    ) -> Result<bool, StoreError> {
        let reply = self.verb(&HOLD, Repeat::Unsafe, |command| {
            command
                .arg(1)
                .arg(duty.lock())
                .arg(holder)
                .arg(hold.as_millis().to_string());
        });
        Ok(unsigned(&reply.await?)? == 1)
    }

    /// Lets go of a duty, if it is held.
    ///
    /// # Errors
    /// That Redis is away.
    pub async fn leave_duty(&self, duty: Duty, holder: &str) -> Result<(), StoreError> {
        let released = self.verb(&RELEASE, Repeat::Unsafe, |command| {
            command.arg(1).arg(duty.lock()).arg(holder);
        });
        released.await.map(drop)
    }
}
