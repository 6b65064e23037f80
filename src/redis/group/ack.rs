//! Acknowledgement of entries, optionally with deletion in the same step.

use std::slice;

use deadpool_redis::redis::{Cmd, Pipeline, Value};

use crate::model::name::{GroupName, StreamName};
use crate::redis::conn::send_options::RetryPolicy;
use crate::redis::decode::{int, list};
use crate::redis::group::leases::{self};
use crate::redis::keys;
use crate::redis::script::{LuaScript, lua};
use crate::redis::stream::deletion::ReferencePolicy;
use crate::redis::{Item, LeaseOutcome, Store, StoreError};

/// Acknowledges entries and deletes those that were pending. Returns for each the result of
/// `remove`, 0 if the entry was not pending, or 3 if its lease was lost.
///
/// The script runs on every server. XACKDEL is similar, but does not distinguish a missing group
/// from entries that are not pending, and reports an entry as deleted that no longer existed.
static ACK_AND_DELETE: LuaScript = LuaScript::new(lua![
    "lib/below",
    "lib/groups",
    "lib/remove",
    "lib/life",
    "lib/leases",
    "lib/order",
    "lib/items",
    "ack_and_delete"
]);

impl Store {
    /// Acknowledges entries and returns the outcome for each, in order. With `delete`, also deletes
    /// the entries that were pending, in the same step.
    ///
    /// # Errors
    /// [`StoreError::GroupNotFound`] (nothing was acknowledged then), [`StoreError::NotAStream`],
    /// or an outage of Redis.
    /// # Cancel safety
    /// If dropped after the command was sent, the entries may still be acknowledged and deleted.
    pub async fn ack(
        &self,
        stream: &StreamName,
        group: &GroupName,
        items: &[Item],
        delete: Option<ReferencePolicy>,
    ) -> Result<Vec<LeaseOutcome>, StoreError> {
        match delete {
            Some(references) => self.ack_and_delete(stream, group, items, references).await,
            None if items.iter().any(|item| item.until_us.is_some()) => {
                self.ack_leased(stream, group, items).await
            }
            None => self.ack_plainly(stream, group, items).await,
        }
    }

    async fn ack_and_delete(
        &self,
        stream: &StreamName,
        group: &GroupName,
        items: &[Item],
        references: ReferencePolicy,
    ) -> Result<Vec<LeaseOutcome>, StoreError> {
        let reply = self.run_script(&ACK_AND_DELETE, RetryPolicy::Unsafe, |command| {
            self.begin(command, stream, group);
            command.arg(references.word());
            leases::write_items(command, items);
        });
        let settled = |value: &Value| match int(value)? {
            0 => Ok(LeaseOutcome::NotPending),
            1 => Ok(LeaseOutcome::Deleted),
            3 => Ok(LeaseOutcome::LeaseLost),
            _ => Ok(LeaseOutcome::Acknowledged),
        };
        list(reply.await?)?.iter().map(settled).collect()
    }

    /// Acknowledges entries whichever consumer holds them. If the group has leases, a script ends those
    /// of the entries in a second round trip. A gateway that dies in between leaves leases that have
    /// no effect, and end.
    async fn ack_plainly(
        &self,
        stream: &StreamName,
        group: &GroupName,
        items: &[Item],
    ) -> Result<Vec<LeaseOutcome>, StoreError> {
        let mut pipeline = Pipeline::with_capacity(items.len() + 1);
        for item in items {
            let mut command = Cmd::with_capacity(4, 128);
            command
                .arg("XACK")
                .arg(stream.redis_key())
                .arg(group.as_bytes())
                .arg(item.id.to_string());
            pipeline.add_command(command);
        }
        pipeline.cmd("EXISTS").arg(keys::leases(stream, group));
        let mut replies = self.write_pipeline(&pipeline).await?;
        let is_leased = replies
            .pop()
            .is_some_and(|reply| matches!(int(&reply), Ok(1)));
        let settled = |reply: &Value| match int(reply)? {
            1 => Ok(LeaseOutcome::Acknowledged),
            _ => Ok(LeaseOutcome::NotPending),
        };
        let settled: Vec<LeaseOutcome> = replies
            .iter()
            .map(settled)
            .collect::<Result<_, StoreError>>()?;
        if is_leased {
            self.ack_leased(stream, group, items).await?;
        }
        // XACK also returns 0 for a group that does not exist.
        if !settled.contains(&LeaseOutcome::Acknowledged)
            && let Some((_, error)) = self.lacks_group(slice::from_ref(stream), group).await?
        {
            return Err(error);
        }
        Ok(settled)
    }
}
