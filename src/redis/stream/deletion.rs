//! Deletion of entries by id.

use deadpool_redis::redis::Value;

use crate::model::id::EntryId;
use crate::model::name::StreamName;
use crate::redis::conn::send_options::RetryPolicy;
use crate::redis::decode::{int, list};
use crate::redis::script::{LuaScript, lua};
use crate::redis::{Store, StoreError};

/// The treatment of groups that still refer to an entry to be deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReferencePolicy {
    /// The groups keep their pending records of the deleted entry.
    #[default]
    Keep,
    /// The groups' pending records are deleted, too.
    Delete,
    /// The entry is deleted only once every group has read and acknowledged it.
    Acked,
}

impl ReferencePolicy {
    /// Returns the name used as a script argument.
    pub(in crate::redis) const fn word(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Delete => "delete",
            Self::Acked => "acked",
        }
    }
}

/// The outcome of deleting an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// The entry was deleted.
    Deleted,
    /// The entry did not exist.
    NotFound,
    /// A group has not read or not acknowledged the entry, so the entry was kept.
    Referenced,
}

/// Deletes entries. Returns the result of `remove` for each.
static DELETE: LuaScript = LuaScript::new(lua![
    "lib/below",
    "lib/groups",
    "lib/remove",
    "entries_delete"
]);

impl Store {
    /// Deletes entries and returns the outcome for each, in order.
    ///
    /// # Errors
    /// [`StoreError::NotAStream`], or an outage of Redis.
    /// # Cancel safety
    /// If dropped after the command was sent, the entries may still be deleted.
    pub async fn delete_entries(
        &self,
        stream: &StreamName,
        ids: &[EntryId],
        references: ReferencePolicy,
    ) -> Result<Vec<Deletion>, StoreError> {
        let deletions = self.run_script(&DELETE, RetryPolicy::Unsafe, |command| {
            command
                .arg(1)
                .arg(stream.redis_key())
                .arg(references.word());
            for id in ids {
                command.arg(id.to_string());
            }
        });
        let deletion = |value: &Value| match int(value)? {
            1 => Ok(Deletion::Deleted),
            2 => Ok(Deletion::Referenced),
            _ => Ok(Deletion::NotFound),
        };
        list(deletions.await?)?.iter().map(deletion).collect()
    }
}
