//! Removing entries: by id, and by trimming.

use deadpool_redis::redis::{Cmd, Value};

use super::decode::{int, list, unsigned};
use super::entries::Trim;
use super::{Store, StoreError};
use crate::model::id::EntryId;
use crate::model::name::StreamName;

/// What is done about groups that still refer to an entry that is to be deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum References {
    /// They keep their pending records, of an entry that is gone.
    #[default]
    Keep,
    /// Their pending records go, too.
    Delete,
    /// The entry is deleted only once every group has read and acknowledged it.
    Acked,
}

/// What became of an entry that was to be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// It is gone.
    Deleted,
    /// It was not there.
    NotFound,
    /// Some group has not read or not acknowledged it; it stays.
    Referenced,
}

/// Deletes entries under the conditions of XDELEX, on every server: 1 deleted, 2 referenced,
/// -1 not there.
const DELETE: &str = concat!(
    lua_below!(),
    "\
local how, groups, results = ARGV[1], {}, {}
if redis.call('EXISTS', KEYS[1]) == 1 then
  for _, flat in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
    local group = {}
    for i = 1, #flat, 2 do group[flat[i]] = flat[i + 1] end
    groups[#groups + 1] = group
  end
end
for i = 2, #ARGV do
  local id, result = ARGV[i], nil
  if #redis.call('XRANGE', KEYS[1], id, id) == 0 then result = -1 end
  for _, group in ipairs(groups) do
    if result then break end
    if how == 'acked' and (below(group['last-delivered-id'], id)
        or #redis.call('XPENDING', KEYS[1], group['name'], id, id, 1) > 0) then result = 2 end
  end
  if not result then
    redis.call('XDEL', KEYS[1], id)
    result = 1
  end
  if how == 'delete' and result ~= 2 then
    for _, group in ipairs(groups) do redis.call('XACK', KEYS[1], group['name'], id) end
  end
  results[#results + 1] = result
end
return results"
);

impl Store {
    /// Deletes entries; tells for each what became of it.
    ///
    /// # Errors
    /// [`StoreError::NotAStream`], or that Redis is away.
    /// # Cancel safety
    /// Dropped after it was sent, the entries may be gone all the same.
    pub async fn delete_entries(
        &self,
        stream: &StreamName,
        ids: &[EntryId],
        references: References,
    ) -> Result<Vec<Deletion>, StoreError> {
        let mut command = Cmd::new();
        command.arg("EVAL").arg(DELETE).arg(1).arg(stream.as_str());
        command.arg(match references {
            References::Keep => "keep",
            References::Delete => "delete",
            References::Acked => "acked",
        });
        for id in ids {
            command.arg(id.to_string());
        }
        let deletion = |value: &Value| match int(value)? {
            1 => Ok(Deletion::Deleted),
            2 => Ok(Deletion::Referenced),
            _ => Ok(Deletion::NotFound),
        };
        list(self.write(&command).await?)?.iter().map(deletion).collect()
    }

    /// Trims a stream; answers how many entries went. `limit` bounds the work of an approximate
    /// trim.
    ///
    /// # Errors
    /// [`StoreError::NotAStream`], or that Redis is away.
    /// # Cancel safety
    /// Dropped after it was sent, the stream may be trimmed all the same.
    pub async fn trim(
        &self,
        stream: &StreamName,
        trim: Trim,
        exact: bool,
        limit: Option<u64>,
    ) -> Result<u64, StoreError> {
        let mut command = Cmd::new();
        command.arg("XTRIM").arg(stream.as_str());
        trim.write(&mut command, exact);
        if let Some(limit) = limit {
            command.arg("LIMIT").arg(limit);
        }
        unsigned(&self.write(&command).await?)
    }
}
