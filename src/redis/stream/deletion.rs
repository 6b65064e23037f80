//! Deletion of entries by id.

use deadpool_redis::redis::{Cmd, Value};

use crate::model::id::EntryId;
use crate::model::name::StreamName;
use crate::redis::decode::{int, list};
use crate::redis::{Store, StoreError};

/// The treatment of groups that still refer to an entry to be deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum References {
    /// The groups keep their pending records of the deleted entry.
    #[default]
    Keep,
    /// The groups' pending records are deleted, too.
    Delete,
    /// The entry is deleted only once every group has read and acknowledged it.
    Acked,
}

impl References {
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

/// Lua: `remove(key, groups, how, id)` deletes one entry under the conditions of XDELEX, on every
/// server. Returns 1 if deleted, 2 if referenced, -1 if the entry does not exist.
macro_rules! lua_remove {
    () => {
        concat!(
            lua_below!(),
            lua_groups!(),
            "\
local function remove(key, groups, how, id)
  local result
  if #redis.call('XRANGE', key, id, id) == 0 then result = -1 end
  for _, group in ipairs(groups) do
    if result then break end
    if how == 'acked' and (below(group['last-delivered-id'], id)
        or #redis.call('XPENDING', key, group['name'], id, id, 1) > 0) then result = 2 end
  end
  if not result then
    redis.call('XDEL', key, id)
    result = 1
  end
  if how == 'delete' and result ~= 2 then
    for _, group in ipairs(groups) do redis.call('XACK', key, group['name'], id) end
  end
  return result
end\n"
        )
    };
}
pub(in crate::redis) use lua_remove;

/// Deletes entries. Returns the result of `remove` for each.
const DELETE: &str = concat!(
    lua_remove!(),
    "\
local groups, results = groups_of(KEYS[1]), {}
for i = 2, #ARGV do results[#results + 1] = remove(KEYS[1], groups, ARGV[1], ARGV[i]) end
return results"
);

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
        references: References,
    ) -> Result<Vec<Deletion>, StoreError> {
        let mut command = Cmd::new();
        command.arg("EVAL").arg(DELETE).arg(1).arg(stream.as_str());
        command.arg(references.word());
        for id in ids {
            command.arg(id.to_string());
        }
        let deletion = |value: &Value| match int(value)? {
            1 => Ok(Deletion::Deleted),
            2 => Ok(Deletion::Referenced),
            _ => Ok(Deletion::NotFound),
        };
        list(self.write(&command).await?)?
            .iter()
            .map(deletion)
            .collect()
    }
}
