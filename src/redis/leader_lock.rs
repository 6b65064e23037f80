//! Leader locks for background jobs. One gateway at a time runs a job and holds its lock in Redis;
//! the lock expires soon after that gateway dies. Two gateways running a job at once do no harm.

use std::time::Duration;

use crate::redis::conn::send_options::RetryPolicy;
use crate::redis::decode::unsigned;
use crate::redis::script::{LuaScript, lua};
use crate::redis::{Store, StoreError};

/// A background job that one gateway runs for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaderLock {
    /// Maintenance of groups with a policy.
    Groups,
    /// Trimming of streams to their retention.
    Retention,
    /// Delivery of scheduled entries that are due.
    Scheduled,
}

impl LeaderLock {
    const fn lock(self) -> &'static str {
        match self {
            Self::Groups => "streamgate:{policies}:sweeper",
            Self::Retention => "streamgate:{retention}:sweeper",
            Self::Scheduled => "streamgate:{scheduled}:mover",
        }
    }
}

/// Acquires or extends the lock. Returns 1 if this gateway holds the lock now, 0 otherwise.
static HOLD: LuaScript = LuaScript::new(lua!["lock_acquire"]);

/// Releases the lock.
static RELEASE: LuaScript = LuaScript::new(lua!["lock_release"]);

impl Store {
    /// Acquires or extends the leader lock of a job for `hold` from now. Returns whether `holder`
    /// has the lock.
    ///
    /// # Errors
    /// An outage of Redis.
    /// # Cancel safety
    /// If dropped after the command was sent, the lock may stay held until `hold` has passed.
    pub async fn take_lock(
        &self,
        duty: LeaderLock,
        holder: &str,
        hold: Duration,
    ) -> Result<bool, StoreError> {
        let reply = self.run_script(&HOLD, RetryPolicy::Unsafe, |command| {
            command
                .arg(1)
                .arg(duty.lock())
                .arg(holder)
                .arg(hold.as_millis().to_string());
        });
        Ok(unsigned(&reply.await?)? == 1)
    }

    /// Releases the leader lock of a job if `holder` has it.
    ///
    /// # Errors
    /// An outage of Redis.
    pub async fn leave_duty(&self, duty: LeaderLock, holder: &str) -> Result<(), StoreError> {
        let released = self.run_script(&RELEASE, RetryPolicy::Unsafe, |command| {
            command.arg(1).arg(duty.lock()).arg(holder);
        });
        released.await.map(drop)
    }
}
