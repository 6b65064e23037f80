//! Lives of groups: tells a group from another one of the same name that a native client made after
//! it deleted the first.
//!
//! Redis gives groups no creation id. So a group with a policy has a marker: a consumer
//! `streamgate:life:<random>`, whose name is kept with the policy. XGROUP CREATECONSUMER answers 0
//! while the marker is there. It answers 1 in a group that was made anew: the policy and the leases
//! belong to another life, and are discarded before anything is done by them.
//!
//! A policy that is taken away leaves `- <time>` in its place while leases are left, so that their
//! receipts stay good.

use deadpool_redis::redis::{Cmd, Value};

use super::{Verb, begin};
use crate::model::name::{GroupName, StreamName};
use crate::store::decode::{bytes, int, list};
use crate::store::pool::Repeat;
use crate::store::{Store, StoreError};

/// The beginning of the names of marker consumers.
pub(super) const MARKER_PREFIX: &str = "streamgate:life:";

/// How many consumers of ours a group with a marker has: the marker, and the one that is nobody.
pub(super) const OWN_CONSUMERS: u64 = 2;

/// Lua: `kept_of(policies, key, group)` answers what is kept of a group's policy and the random
/// part of its marker, nothing where there is neither. It ends the script with `OTHERLIFE`, before
/// anything was written, where the group is not the one the policy was given to.
///
/// A server that may not write, or is full, cannot tell: the life is then believed to be the same.
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
pub(in crate::store) use lua_life;

/// Discards policies and leases of another life; answers the streams whose group had a policy. It
/// takes the keys and the group of any verb that can meet one.
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

/// Ends what is left of a policy that was taken away: forgets leases of entries that are no longer
/// pending. Answers where to go on, or -1 when nothing is left.
static WIND_DOWN: Verb = Verb::new(concat!(
    super::lua::lua_leases!(),
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
    /// Discards the policies of other lives that a verb met, and says so in the log.
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
                "a group was deleted and made anew by another client: its old policy was discarded"
            );
        }
        Ok(())
    }

    /// Looks after a group whose policy was taken away, `limit` leases at a time from `skip` on;
    /// answers where to go on, `None` when nothing is left to do.
    ///
    /// # Errors
    /// An outage of Redis.
    /// # Cancel safety
    /// If dropped after the command was sent, it may still be done.
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

/// The random part of a marker.
pub(super) fn new_life() -> String {
    format!("{:016x}", fastrand::u64(..))
}

/// What is kept of a policy, unless it was taken away or belongs to another life; and how many
/// consumers of the group are ours.
pub(super) fn kept(value: Value) -> Result<(Option<Vec<u8>>, u64), StoreError> {
    match value {
        Value::Nil => Ok((None, 0)),
        Value::Int(_) => Ok((None, OWN_CONSUMERS)),
        text => bytes(text).map(|text| (Some(text), OWN_CONSUMERS)),
    }
}
