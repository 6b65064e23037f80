//! Acknowledging entries, and deleting them in the same step.

use std::slice;

use deadpool_redis::redis::{Cmd, Pipeline, Value};

use super::decode::{int, list};
use super::deletion::{References, lua_remove};
use super::{Store, StoreError};
use crate::model::id::EntryId;
use crate::model::name::{GroupName, StreamName};

/// What became of an entry that was to be acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acked {
    /// It was not pending in this group; nothing was done about it.
    NotPending,
    /// It was pending, and is no more. It was not deleted: that was not asked for, or another group
    /// needs it still, or it was gone already.
    Acknowledged,
    /// As [`Acked::Acknowledged`], and it was deleted.
    Deleted,
}

/// Acknowledges entries and deletes those that were pending; answers for each what `remove` does,
/// and 0 for one that was not pending.
///
/// XACKDEL means nearly the same, but does not tell a group that is not there from entries that are
/// not pending, and calls an entry deleted that was gone before. So this runs everywhere.
const ACK_AND_DELETE: &str = concat!(
    lua_remove!(),
    "\
local groups, known, results = groups_of(KEYS[1]), false, {}
for _, group in ipairs(groups) do known = known or group['name'] == ARGV[1] end
if not known then return redis.error_reply('NOGROUP there is none of this name') end
for i = 3, #ARGV do
  local acked = redis.call('XACK', KEYS[1], ARGV[1], ARGV[i])
  results[#results + 1] = acked == 0 and 0 or remove(KEYS[1], groups, ARGV[2], ARGV[i])
end
return results"
);

impl Store {
    /// Acknowledges entries and, if told to, deletes those that were pending in the same step;
    /// tells for each what became of it.
    ///
    /// # Errors
    /// [`StoreError::GroupNotFound`] (nothing was acknowledged then), [`StoreError::NotAStream`],
    /// or that Redis is away.
    /// # Cancel safety
    /// Dropped after it was sent, the entries may be acknowledged and deleted all the same.
    pub async fn ack(
        &self,
        stream: &StreamName,
        group: &GroupName,
        ids: &[EntryId],
        delete: Option<References>,
    ) -> Result<Vec<Acked>, StoreError> {
        match delete {
            Some(references) => self.ack_and_delete(stream, group, ids, references).await,
            None => self.ack_only(stream, group, ids).await,
        }
    }

    async fn ack_and_delete(
        &self,
        stream: &StreamName,
        group: &GroupName,
        ids: &[EntryId],
        references: References,
    ) -> Result<Vec<Acked>, StoreError> {
        let mut command = Cmd::new();
        command.arg("EVAL").arg(ACK_AND_DELETE).arg(1).arg(stream.as_str());
        command.arg(group.as_str()).arg(references.word());
        for id in ids {
            command.arg(id.to_string());
        }
        let acked = |value: &Value| match int(value)? {
            0 => Ok(Acked::NotPending),
            1 => Ok(Acked::Deleted),
            _ => Ok(Acked::Acknowledged),
        };
        list(self.write(&command).await?)?.iter().map(acked).collect()
    }

    async fn ack_only(
        &self,
        stream: &StreamName,
        group: &GroupName,
        ids: &[EntryId],
    ) -> Result<Vec<Acked>, StoreError> {
        let mut pipeline = Pipeline::with_capacity(ids.len());
        for id in ids {
            let mut command = Cmd::new();
            command.arg("XACK").arg(stream.as_str()).arg(group.as_str()).arg(id.to_string());
            pipeline.add_command(command);
        }
        let replies = self.write_pipeline(&pipeline).await?;
        let acked = |reply: &Value| match int(reply)? {
            1 => Ok(Acked::Acknowledged),
            _ => Ok(Acked::NotPending),
        };
        let acked: Vec<Acked> = replies.iter().map(acked).collect::<Result<_, StoreError>>()?;
        // XACK answers 0 for a group that is not there, too.
        if !acked.contains(&Acked::Acknowledged)
            && let Some((_, error)) = self.lacks_group(slice::from_ref(stream), group).await?
        {
            return Err(error);
        }
        Ok(acked)
    }
}
