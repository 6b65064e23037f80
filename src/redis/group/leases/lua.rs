//! Lua functions shared by the scripts of this module.

/// Lua: the clock in microseconds, numbers as text, policies, and leases.
///
/// Lua numbers and sorted-set scores are doubles, which hold the microseconds of this century. The
/// scripts must format them explicitly, because Lua prints only 14 digits.
macro_rules! lua_leases {
    () => {
        concat!(
            $crate::redis::group::leases::lua_life!(),
            "\
local function now_us()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end
local function digits(number) return string.format('%.0f', number) end
local function policy_of(policies, key, group)
  local text, life = kept_of(policies, key, group)
  if not text or retired_at(text) then return nil end
  local lease, max, expiry, hidden, steps, dead = text:match('^(%d+) (%d+) (%d+) (%d+) ([%d,]*) (.+)$')
  return {lease = lease * 1000, max = tonumber(max), expiry = tonumber(expiry), hidden = tonumber(hidden),
    steps = steps, dead = dead, text = text, life = life}
end
local function needed(policies, key, group)
  local policy = policy_of(policies, key, group)
  if policy then return policy end
  redis.call('XPENDING', key, group, '-', '+', 1)
  return nil, redis.error_reply('NOPOLICY the group has none')
end
local function shown(key, hidden)
  if hidden == 0 then return key end
  if key:sub(1, 1) == '{' then return '{' .. key:sub(hidden + 2) end
  return key:sub(hidden + 1)
end
local function held_by(key, group, id) return redis.call('XPENDING', key, group, id, id, 1)[1] end
local function lend(leases, ids, until_us)
  local words, text = {'ZADD', leases}, digits(until_us)
  for i, id in ipairs(ids) do
    words[2 * i + 1] = text
    words[2 * i + 2] = id
  end
  if #ids > 0 then redis.call(unpack(words)) end
end
local function forget(leases, ids)
  if #ids > 0 then redis.call('ZREM', leases, unpack(ids)) end
end\n"
        )
    };
}
pub(in crate::redis) use lua_leases;

/// Lua: `bury(…)` moves an entry to the dead letters of its group and acknowledges it, atomically.
/// Returns false and changes nothing if the dead-letter key holds another type.
///
/// An entry deleted from the stream becomes a tombstone with its id. If an entry has more than 3500
/// fields, which XADD does not accept from a script, the fields are packed into one. A single field
/// of the same name is packed as well, because it would be taken for packed fields otherwise.
macro_rules! lua_bury {
    () => {
        "\
local function can_bury(dead)
  local kind = redis.call('TYPE', dead).ok
  return kind == 'stream' or kind == 'none'
end
local function bury(key, leases, group, policy, id, fields, consumer, count, reason, now)
  local words, said = {'XADD', policy.dead, '*'}, {
    'stream', shown(key, policy.hidden), 'id', id, 'group', group, 'consumer', consumer == 'streamgate:nobody' and '' or consumer,
    'deliveries', digits(count), 'reason', reason, 'time', digits(math.floor(now / 1000))}
  if fields and (#fields > 7000 or #fields == 2 and fields[1] == 'streamgate-fields') then
    fields = {'streamgate-fields', cmsgpack.pack(fields)}
  end
  for i = 1, fields and #fields or 0 do words[i + 3] = fields[i] end
  local at = #words
  for i = 1, #said, 2 do
    words[at + i] = 'streamgate-' .. said[i]
    words[at + i + 1] = said[i + 1]
  end
  local done = redis.pcall(unpack(words))
  if type(done) == 'table' and done.err then return false end
  redis.call('XACK', key, group, id)
  redis.call('ZREM', leases, id)
  return true
end
local function entry(key, id)
  local found = redis.call('XRANGE', key, id, id)[1]
  return found and found[2]
end\n"
    };
}
pub(super) use lua_bury;
