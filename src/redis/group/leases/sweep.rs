//! Maintenance sweeps of groups, independent of readers. A sweep adds leases to entries that native
//! consumers took, moves entries with the maximum number of deliveries to the dead letters, and
//! deletes expired consumers.

use deadpool_redis::redis::{Cmd, Value};

use crate::model::id::EntryId;
use crate::model::name::{GroupName, StreamName};
use crate::redis::conn::send_options::RetryPolicy;
use crate::redis::decode::{id, tuple, unsigned};
use crate::redis::group::leases::begin;
use crate::redis::group::leases::life::new_life;
use crate::redis::group::leases::policy::indexed;
use crate::redis::keys;
use crate::redis::script::{LuaScript, lua};
use crate::redis::{DeadLetterCounts, Store, StoreError};

/// The position at which the next sweep of a group continues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SweepPosition {
    /// Position in the list of pending entries.
    pub enrol_after: EntryId,
    /// Position in the expired leases: the number of leases to skip.
    pub due_skip: u64,
}

/// The parts of a sweep and their limits; 0 skips a part.
#[derive(Clone, Copy, Debug)]
pub struct SweepParts {
    /// Maximum number of pending entries to examine.
    pub enrol: usize,
    /// Maximum number of expired leases to examine.
    pub due: usize,
    /// Whether to examine all consumers for expired ones, which blocks Redis for long if there are
    /// many.
    pub forget: bool,
}

/// The result of one sweep of a group.
#[derive(Clone, Copy, Debug, Default)]
pub struct SweepResult {
    /// Position of the next sweep.
    pub next: SweepPosition,
    /// Number of entries that got a lease.
    pub enrolled: u64,
    /// Approximate number of pending entries without a lease that this sweep did not examine.
    /// Leases of entries that are not pending reduce the number.
    pub backlog: u64,
    /// Counts of entries moved to the dead letters.
    pub dead: DeadLetterCounts,
    /// Number of removed leases whose entries were no longer pending.
    pub strays: u64,
    /// Whether there are more expired leases than were examined.
    pub more_due: bool,
    /// Number of deleted consumers, which held nothing and had been idle for long.
    pub forgotten: u64,
}

/// Sweeps a group. Returns false if the group has no policy, or no longer exists, in which case its
/// policy and leases are deleted.
///
/// A policy without a marker (see `life.rs`) was set by an older gateway and gets a marker.
///
/// The lease of a native consumer starts at the delivery of the entry. Expired leases of entries
/// that are not pending are strays. Expired entries that may be delivered again are left to
/// readers. A sweep examines at most about 4 MiB of entries, because they are copied into the
/// script.
static SWEEP: LuaScript = LuaScript::new(lua![
    "lib/groups",
    "lib/life",
    "lib/leases",
    "lib/bury",
    "sweep"
]);

impl SweepResult {
    /// Returns which parts should continue immediately rather than in the next round: adding leases
    /// while entries without a lease are known, and clearing expired leases while that removes any.
    #[must_use]
    pub fn remaining_parts(&self) -> (bool, bool) {
        let enrol =
            self.next.enrol_after != EntryId::MIN && (self.enrolled > 0 || self.backlog > 0);
        let cleared = self.strays + self.dead.exhausted + self.dead.gone;
        (enrol, self.more_due && cleared > 0)
    }
}

impl Store {
    /// Returns a page of the indexed groups with a policy, and the next cursor. Cursor 0 is the
    /// start and the end.
    ///
    /// # Errors
    /// An outage of Redis.
    /// # Cancel safety
    /// Cancel safe: only reads.
    pub async fn policy_index(
        &self,
        cursor: u64,
    ) -> Result<(Vec<(StreamName, GroupName)>, u64), StoreError> {
        let (members, next) = self.index_page(keys::POLICY_INDEX, cursor).await?;
        let named = |member: Vec<u8>| {
            let (stream, group) = std::str::from_utf8(&member).ok()?.split_once('\0')?;
            Some((StreamName::new(stream).ok()?, GroupName::new(group).ok()?))
        };
        Ok((members.into_iter().filter_map(named).collect(), next))
    }

    /// Sweeps a group. Removes a group without a policy from the index and returns `None`.
    ///
    /// # Errors
    /// An outage of Redis.
    /// # Cancel safety
    /// If dropped after the command was sent, the group may still be swept.
    pub async fn sweep(
        &self,
        stream: &StreamName,
        group: &GroupName,
        at: SweepPosition,
        parts: SweepParts,
    ) -> Result<Option<SweepResult>, StoreError> {
        let after = match at.enrol_after {
            EntryId::MIN => "-".to_owned(),
            id => format!("({id}"),
        };
        let life = new_life();
        let reply = self.run_script(&SWEEP, RetryPolicy::Unsafe, |command| {
            begin(command, stream, group);
            command
                .arg(after.as_str())
                .arg(at.due_skip)
                .arg(parts.enrol)
                .arg(parts.due);
            command.arg(u8::from(parts.forget)).arg(life.as_str());
        });
        let reply = reply.await?;
        if reply == Value::Nil {
            let limit = parts.due.max(1);
            if let Some(skip) = self.wind_down(stream, group, at.due_skip, limit).await? {
                let next = SweepPosition {
                    due_skip: skip,
                    ..SweepPosition::default()
                };
                return Ok(Some(SweepResult {
                    next,
                    ..SweepResult::default()
                }));
            }
            self.strike(stream, group).await?;
            return Ok(None);
        }
        let [
            enrol_after,
            due_skip,
            enrolled,
            exhausted,
            gone,
            stuck,
            forgotten,
            rest @ ..,
        ] = tuple::<10>(reply)?;
        let [backlog, strays, more_due] = rest;
        // A skipped part keeps its position.
        let mut next = at;
        if parts.enrol > 0 {
            next.enrol_after = id(enrol_after)?;
        }
        if parts.due > 0 {
            next.due_skip = unsigned(&due_skip)?;
        }
        Ok(Some(SweepResult {
            next,
            enrolled: unsigned(&enrolled)?,
            backlog: unsigned(&backlog)?,
            strays: unsigned(&strays)?,
            more_due: unsigned(&more_due)? == 1,
            dead: DeadLetterCounts {
                exhausted: unsigned(&exhausted)?,
                gone: unsigned(&gone)?,
                stuck: unsigned(&stuck)?,
            },
            forgotten: unsigned(&forgotten)?,
        }))
    }

    /// Removes a group from the index. Adds it again if it has a policy by then.
    async fn strike(&self, stream: &StreamName, group: &GroupName) -> Result<(), StoreError> {
        let mut command = Cmd::new();
        command
            .arg("SREM")
            .arg(keys::POLICY_INDEX)
            .arg(indexed(stream, group));
        self.write(&command).await?;
        match self.policy(stream, group).await? {
            Some(_) => self.enlist(stream, group).await,
            None => Ok(()),
        }
    }
}
