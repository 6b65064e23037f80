//! Group identity: detects that a native client deleted a group and created another one of the same
//! name.
//!
//! Redis gives groups no creation id. A group with a policy therefore has a marker: a consumer
//! `streamgate:life:<random>`, whose name is stored with the policy. XGROUP CREATECONSUMER returns
//! 0 while the marker exists. It returns 1 in a recreated group: the policy and the leases belong
//! to the deleted group, and are discarded before they have any effect.
//!
//! When a policy is removed while leases remain, `- <time>` replaces it, so that the receipts of
//! these leases stay valid.

use deadpool_redis::redis::{Cmd, Value};

use crate::model::name::{GroupName, StreamName};
use crate::redis::conn::pool::Repeat;
use crate::redis::decode::{bytes, int, list};
use crate::redis::group::leases::{Verb, begin};
use crate::redis::{Store, StoreError};

/// Prefix of the names of marker consumers.
pub(super) const MARKER_PREFIX: &str = "streamgate:life:";

/// Number of the gateway's own consumers in a group with a marker: the marker, and the holder of
/// returned entries.
pub(super) const OWN_CONSUMERS: u64 = 2;

/// Lua: `kept_of(policies, key, group)` returns the stored policy of a group and the random part of
/// its marker, or nothing if there is neither. If the policy was set on an earlier group of this
/// name, it ends the script with `OTHERLIFE` before anything was written.
///
/// A server that is read-only or out of memory cannot detect this; the group then counts as
/// unchanged.
macro_rules! lua_life {
    () => {
        "\
local function is_other_life(key, group, life)
  local marker = 'streamgate:life:' .. life
  if redis.pcall('XGROUP', 'CREATECONSUMER', key, group, marker) ~= 1 then return false end
  redis.call('XGROUP', 'DELCONSUMER', key, group, marker)
  return true
end
local function split_life(kept)
  local life, text = kept:match('^@(%x+) (.*)$')
  return text or kept, life
end
local function kept_of(policies, key, group)
  local kept = redis.call('HGET', policies, group)
  if not kept then return nil end
  local text, life = split_life(kept)
  if life and is_other_life(key, group, life) then error('OTHERLIFE the group was made anew', 0) end
  return text, life
end
local function retired_at(text) return text and tonumber(text:match('^%- (%d+)$')) end
local function begin_life(key, group, life)
  redis.call('XGROUP', 'CREATECONSUMER', key, group, 'streamgate:life:' .. life)
  redis.call('XGROUP', 'CREATECONSUMER', key, group, 'streamgate:nobody')
end
local function end_life(key, group, life)
  if life then redis.call('XGROUP', 'DELCONSUMER', key, group, 'streamgate:life:' .. life) end
  if #redis.call('XPENDING', key, group, '-', '+', 1, 'streamgate:nobody') == 0 then
    redis.call('XGROUP', 'DELCONSUMER', key, group, 'streamgate:nobody')
  end
end\n"
    };
}
pub(in crate::redis) use lua_life;

/// Discards the policies and leases of deleted groups. Returns the streams whose group had a
/// policy. Takes the keys and the group of any script that can find such a policy.
static DISCARD: Verb = Verb::new(concat!(
    lua_life!(),
    "\
local group, discarded = ARGV[1], {}
for i = 1, #KEYS, 3 do
  local kept = redis.call('HGET', KEYS[i + 1], group)
  local text, life = split_life(kept or '')
  if life and is_other_life(KEYS[i], group, life) then
    redis.call('HDEL', KEYS[i + 1], group)
    redis.call('DEL', KEYS[i + 2])
    if not retired_at(text) then discarded[#discarded + 1] = KEYS[i] end
  end
end
return discarded"
));

/// Cleans up after a removed policy: removes leases of entries that are no longer pending. Returns
/// the offset from which to continue, or -1 when nothing is left.
static WIND_DOWN: Verb = Verb::new(concat!(
    crate::redis::group::leases::lua::lua_leases!(),
    "\
local key, leases, group = KEYS[1], KEYS[3], ARGV[1]
local skip, limit = tonumber(ARGV[3]), tonumber(ARGV[4])
local text, life = kept_of(KEYS[2], key, group)
if not retired_at(text) then return -1 end
if not redis.pcall('XPENDING', key, group, '-', '+', 1).err then
  local ids, strays = redis.call('ZRANGE', leases, skip, skip + limit - 1), {}
  for _, id in ipairs(ids) do
    if not held_by(key, group, id) then strays[#strays + 1] = id end
  end
  forget(leases, strays)
  if redis.call('EXISTS', leases) == 1 then return #ids == limit and skip + limit - #strays or 0 end
  end_life(key, group, life)
end
redis.call('HDEL', KEYS[2], group)
redis.call('DEL', leases)
return -1"
));

impl Store {
    /// Discards and logs the policies of deleted groups that a script has found.
    pub(super) async fn discard_other_lives(
        &self,
        write: &impl Fn(&mut Cmd),
    ) -> Result<(), StoreError> {
        let discarded = self.run(&DISCARD, Repeat::Safe, write).await?;
        for stream in list(discarded)? {
            self.discarded.policy();
            let stream = String::from_utf8_lossy(&bytes(stream)?).into_owned();
            tracing::warn!(
                stream,
                "another client deleted and recreated a group; discarded its old policy"
            );
        }
        Ok(())
    }

    /// Cleans up a group whose policy was removed, `limit` leases at a time starting at `skip`.
    /// Returns the offset from which to continue, or `None` when nothing is left to do.
    ///
    /// # Errors
    /// An outage of Redis.
    /// # Cancel safety
    /// If dropped after the command was sent, the clean-up may still run.
    pub(super) async fn wind_down(
        &self,
        stream: &StreamName,
        group: &GroupName,
        skip: u64,
        limit: usize,
    ) -> Result<Option<u64>, StoreError> {
        let reply = self.verb(&WIND_DOWN, Repeat::Unsafe, |command| {
            begin(command, stream, group);
            command.arg(skip).arg(limit);
        });
        Ok(u64::try_from(int(&reply.await?)?).ok())
    }
}

/// Returns a new random part of a marker.
pub(super) fn new_life() -> String {
    format!("{:016x}", fastrand::u64(..))
}

/// Decodes a stored policy, unless it was removed or belongs to a deleted group, and returns the
/// number of the gateway's own consumers in the group.
pub(super) fn kept(value: Value) -> Result<(Option<Vec<u8>>, u64), StoreError> {
    match value {
        Value::Nil => Ok((None, 0)),
        Value::Int(_) => Ok((None, OWN_CONSUMERS)),
        text => bytes(text).map(|text| (Some(text), OWN_CONSUMERS)),
    }
}
