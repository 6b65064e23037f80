//! Operations of consumers on leased entries: ack, nack, return, reject and extend.

use std::time::Duration;

use deadpool_redis::redis::{Cmd, Value};

use crate::model::id::EntryId;
use crate::model::name::{GroupName, StreamName};
use crate::redis::conn::send_options::RetryPolicy;
use crate::redis::constants::NOBODY;
use crate::redis::decode::{int, list, tuple};
use crate::redis::group::leases::begin;
use crate::redis::group::leases::read::micros;
use crate::redis::script::{LuaScript, lua};
use crate::redis::{Store, StoreError};

/// An entry with the lease under which a consumer operates on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    /// Id of the entry.
    pub id: EntryId,
    /// Required end of the current lease, in Unix microseconds; `None` applies to any holder.
    pub until_us: Option<u64>,
}

/// An operation on a leased entry, other than [`Store::ack`].
#[derive(Clone, Debug)]
pub enum LeaseOperation {
    /// Releases the entry for another delivery after a delay. An entry with the maximum number of
    /// deliveries becomes a dead letter instead.
    Nack {
        /// Delay before the next delivery; the policy's delay if `None`.
        delay: Option<Duration>,
        /// Reason, stored in the dead letter.
        reason: Option<String>,
    },
    /// Returns an unprocessed entry, as if it had not been delivered.
    HandBack,
    /// Moves the entry to the dead letters.
    Reject {
        /// Reason, stored in the dead letter.
        reason: Option<String>,
    },
    /// Extends the lease.
    Extend {
        /// New duration from now; the policy's duration if `None`.
        lease: Option<Duration>,
    },
}

/// The outcome for one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseOutcome {
    /// The entry was not pending; nothing was changed.
    NotPending,
    /// The entry was acknowledged.
    Acknowledged,
    /// The entry was acknowledged and deleted.
    Deleted,
    /// The lease is no longer the current one; nothing was changed.
    LeaseLost,
    /// The entry was released for another delivery.
    Released,
    /// The entry was moved to the dead letters.
    DeadLettered,
    /// The lease was extended; contains its new end in Unix microseconds.
    Extended(u64),
}

/// Acknowledges entries: 0 not pending, 1 acknowledged, 2 lease lost. One XACK acknowledges all
/// permitted entries. Entries that a native client acknowledged meanwhile count as acknowledged
/// with them.
static ACK: LuaScript = LuaScript::new(lua!["lib/life", "lib/leases", "lib/items", "ack"]);

/// Releases, dead-letters or extends entries. Returns `{code, end}` for each, with the codes of
/// `settled`.
///
/// The consumer `NOBODY` holds released entries. XCLAIM omits entries deleted from the stream;
/// these become tombstones.
static SETTLE: LuaScript = LuaScript::new(lua![
    "lib/life",
    "lib/leases",
    "lib/items",
    "lib/bury",
    "settle"
]);

/// Appends ids with the ends of their leases, as script arguments.
pub(in crate::redis) fn write_items(command: &mut Cmd, items: &[Item]) {
    for item in items {
        command.arg(item.id.to_string());
        command.arg(item.until_us.map(|end| end.to_string()).unwrap_or_default());
    }
}

impl Store {
    /// Acknowledges leased entries.
    ///
    /// # Errors
    /// [`StoreError::GroupNotFound`], [`StoreError::NotAStream`], or an outage of Redis.
    /// # Cancel safety
    /// If dropped after the command was sent, the entries may still be acknowledged.
    pub(in crate::redis) async fn ack_leased(
        &self,
        stream: &StreamName,
        group: &GroupName,
        items: &[Item],
    ) -> Result<Vec<LeaseOutcome>, StoreError> {
        let reply = self.run_script(&ACK, RetryPolicy::Unsafe, |command| {
            begin(command, stream, group);
            write_items(command, items);
        });
        let one = |value: &Value| {
            Ok(match int(value)? {
                1 => LeaseOutcome::Acknowledged,
                2 => LeaseOutcome::LeaseLost,
                _ => LeaseOutcome::NotPending,
            })
        };
        list(reply.await?)?.iter().map(one).collect()
    }

    /// Applies an operation to leased entries and returns the outcome for each, in order.
    ///
    /// # Errors
    /// [`StoreError::GroupHasNoPolicy`], [`StoreError::GroupNotFound`],
    /// [`StoreError::DeadLetterNotAStream`] (nothing was done in any of these cases),
    /// [`StoreError::NotAStream`], or an outage of Redis.
    /// # Cancel safety
    /// If dropped after the command was sent, the operation may still be applied.
    pub async fn settle_leases(
        &self,
        stream: &StreamName,
        group: &GroupName,
        items: &[Item],
        settlement: &LeaseOperation,
    ) -> Result<Vec<LeaseOutcome>, StoreError> {
        let millis = |duration: &Option<Duration>| {
            duration
                .map(|duration| duration.as_millis().to_string())
                .unwrap_or_default()
        };
        let (how, given, reason) = match settlement {
            LeaseOperation::Nack { delay, reason } => {
                ("nack", millis(delay), reason.as_deref().unwrap_or_default())
            }
            LeaseOperation::HandBack => ("hand-back", String::new(), ""),
            LeaseOperation::Reject { reason } => (
                "reject",
                String::new(),
                reason.as_deref().unwrap_or("rejected"),
            ),
            LeaseOperation::Extend { lease } => ("extend", millis(lease), ""),
        };
        let reply = self.run_script(&SETTLE, RetryPolicy::Unsafe, |command| {
            begin(command, stream, group);
            command.arg(how).arg(given.as_str()).arg(reason).arg(NOBODY);
            write_items(command, items);
        });
        list(reply.await?)?.into_iter().map(settled).collect()
    }
}

fn settled(value: Value) -> Result<LeaseOutcome, StoreError> {
    let [code, end] = tuple(value)?;
    Ok(match int(&code)? {
        2 => LeaseOutcome::LeaseLost,
        3 => LeaseOutcome::Released,
        4 => LeaseOutcome::DeadLettered,
        5 => LeaseOutcome::Extended(micros(end)?.unwrap_or_default()),
        _ => LeaseOutcome::NotPending,
    })
}
