//! Redrive of dead letters: returns the original entry to its group only, or appends a copy.

use deadpool_redis::redis::Value;

use crate::model::id::EntryId;
use crate::model::name::{GroupName, StreamName};
use crate::redis::conn::pool::Repeat;
use crate::redis::decode::{id, list, text, tuple};
use crate::redis::group::leases::lua::lua_leases;
use crate::redis::group::leases::{NOBODY, Verb, begin};
use crate::redis::{Store, StoreError};

/// The target of a redrive.
#[derive(Clone, Debug)]
pub enum Redrive {
    /// Returns the original entry to its group, if the entry still exists.
    Original,
    /// Returns the original entry to its group, or appends a copy to its stream, for all groups, if
    /// the entry no longer exists.
    OrCopy,
    /// Appends a copy to this stream, for all its groups.
    To(StreamName),
}

/// The outcome of redriving a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redriven {
    /// The original entry was returned to its group; the dead letter was deleted.
    Redriven,
    /// A copy was appended with this id; the dead letter was deleted.
    Copied(EntryId),
    /// The original entry no longer exists; the dead letter stays.
    Gone,
    /// The original entry is already pending in the group; the dead letter stays.
    Pending,
    /// The group has no such dead letter.
    NotFound,
}

/// Redrives dead letters. Returns `{what, id}` for each, up to the first one whose copy has too
/// many fields for a script. `Store::copy_packed` copies that letter before the script continues,
/// so that copies keep the order of their letters.
///
/// XCLAIM with FORCE adds an entry to the pending list of one group with a delivery count of 0. The
/// entry gets an expired lease, so the next read delivers it.
static REDRIVE: Verb = Verb::new(concat!(
    lua_leases!(),
    "\
local key, leases, group, channel = KEYS[1], KEYS[3], ARGV[1], ARGV[2]
local nobody, copy, to = ARGV[3], ARGV[4] == '1', ARGV[5]
local policy, refused = needed(KEYS[2], key, group)
if refused then return refused end
for _, stream in ipairs({policy.dead, to ~= '' and to or key}) do
  local kind = redis.call('TYPE', stream).ok
  if kind ~= 'none' and kind ~= 'stream' then return redis.error_reply('DEADLETTER it is no stream') end
end
local now, freed, results = now_us(), {}, {}
local function redrive(id)
  local letter = redis.call('XRANGE', policy.dead, id, id)[1]
  local fields = letter and letter[2]
  local at = fields and #fields - 14 or -1
  if at < 0 or fields[at + 1] ~= 'streamgate-stream' or fields[at + 2] ~= shown(key, policy.hidden)
      or fields[at + 5] ~= 'streamgate-group' or fields[at + 6] ~= group then return {'not-found', ''} end
  local original = fields[at + 4]
  if to == '' then
    if held_by(key, group, original) then return {'pending', ''} end
    if #redis.call('XRANGE', key, original, original) > 0 then
      redis.call('XCLAIM', key, group, nobody, 0, original, 'RETRYCOUNT', 0, 'FORCE', 'JUSTID')
      redis.call('XDEL', policy.dead, id)
      freed[#freed + 1] = original
      return {'redriven', ''}
    end
  end
  if to == '' and not copy or at == 0 then return {'gone', ''} end
  if at == 2 and fields[1] == 'streamgate-fields' then
    local packed, whole = pcall(cmsgpack.unpack, fields[2])
    if packed and type(whole) == 'table' then
      if #whole > 7000 then return {'packed', ''} end
      fields, at = whole, #whole
    end
  end
  local words = {'XADD', to ~= '' and to or key, '*'}
  for i = 1, at do words[i + 3] = fields[i] end
  local copied = redis.call(unpack(words))
  redis.call('XDEL', policy.dead, id)
  return {'copied', copied}
end
for i = 6, #ARGV do
  results[i - 5] = redrive(ARGV[i])
  if results[i - 5][1] == 'packed' then break end
end
lend(leases, freed, now)
if #freed > 0 then redis.call('PUBLISH', channel, '0') end
return results"
));

impl Store {
    /// Redrives dead letters of a group and returns the outcome for each, in order.
    ///
    /// # Errors
    /// Same as [`Store::needed_policy`], and [`StoreError::DeadLetterNotAStream`] when the
    /// dead-letter key or the target of the copies is not a stream.
    /// # Cancel safety
    /// If dropped after the command was sent, the dead letters may still be redriven.
    pub async fn redrive(
        &self,
        stream: &StreamName,
        group: &GroupName,
        ids: &[EntryId],
        how: &Redrive,
    ) -> Result<Vec<Redriven>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let (copy, to) = match how {
            Redrive::Original => (0, ""),
            Redrive::OrCopy => (1, ""),
            Redrive::To(to) => (1, to.as_str()),
        };
        let mut all = Vec::with_capacity(ids.len());
        while let Some(rest) = ids.get(all.len()..).filter(|rest| !rest.is_empty()) {
            let reply = self.verb(&REDRIVE, Repeat::Unsafe, |command| {
                begin(command, stream, group);
                command.arg(NOBODY).arg(copy).arg(to);
                for id in rest {
                    command.arg(id.to_string());
                }
            });
            let answers = list(reply.await?)?;
            if answers.is_empty() {
                return Err(StoreError::Unexpected(
                    "an empty reply to a redrive".to_owned(),
                ));
            }
            for (id, answer) in rest.iter().zip(answers) {
                all.push(match redriven(answer)? {
                    Some(redriven) => redriven,
                    None => self.copy_packed(stream, group, *id, how).await?,
                });
            }
        }
        Ok(all)
    }
}

/// Decodes the outcome for a letter; `None` for a copy that the script leaves to the gateway.
pub(super) fn redriven(value: Value) -> Result<Option<Redriven>, StoreError> {
    let [what, copy] = tuple(value)?;
    Ok(Some(match text(what)?.as_str() {
        "redriven" => Redriven::Redriven,
        "copied" => Redriven::Copied(id(copy)?),
        "gone" => Redriven::Gone,
        "pending" => Redriven::Pending,
        "packed" => return Ok(None),
        _ => Redriven::NotFound,
    }))
}
