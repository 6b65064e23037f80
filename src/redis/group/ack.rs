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
            leases::begin(command, stream, group);
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

    /// Acknowledges entries whichever consumer holds them. Deletes their leases in the same round
    /// trip but not atomically, because a lease of an entry that is not pending has no effect.
    async fn ack_plainly(
        &self,
        stream: &StreamName,
        group: &GroupName,
        items: &[Item],
    ) -> Result<Vec<LeaseOutcome>, StoreError> {
        let mut pipeline = Pipeline::with_capacity(items.len() + 1);
        let mut forget = Cmd::with_capacity(2 + items.len(), 128 + 24 * items.len());
        forget.arg("ZREM").arg(keys::leases(stream, group));
        for item in items {
            let (mut command, id) = (Cmd::with_capacity(4, 128), item.id.to_string());
            forget.arg(id.as_str());
            command
                .arg("XACK")
                .arg(stream.redis_key())
                .arg(group.as_bytes())
                .arg(id);
            pipeline.add_command(command);
        }
        pipeline.add_command(forget);
        let mut replies = self.write_pipeline(&pipeline).await?;
        replies.truncate(items.len());
        let settled = |reply: &Value| match int(reply)? {
            1 => Ok(LeaseOutcome::Acknowledged),
            _ => Ok(LeaseOutcome::NotPending),
        };
        let settled: Vec<LeaseOutcome> = replies
            .iter()
            .map(settled)
            .collect::<Result<_, StoreError>>()?;
        // XACK also returns 0 for a group that does not exist.
        if !settled.contains(&LeaseOutcome::Acknowledged)
            && let Some((_, error)) = self.lacks_group(slice::from_ref(stream), group).await?
        {
            return Err(error);
        }
        Ok(settled)
    }
}
