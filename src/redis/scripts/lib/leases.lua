-- the clock in microseconds, numbers as text, policies, and leases.
--
-- Lua numbers and sorted-set scores are doubles, which hold the microseconds of this century. The
-- scripts must format them explicitly, because Lua prints only 14 digits.
local function now_us()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end
local function digits(number) return string.format('%.0f', number) end
local function parsed(text, life)
  if not text or retired_at(text) then return nil end
  local lease, max, expiry, hidden, steps, options, dead =
    text:match('^(%d+) (%d+) (%d+) (%d+) ([%d,]*)(%S*) (.+)$')
  local policy = {lease = lease * 1000, max = tonumber(max), expiry = tonumber(expiry), hidden = tonumber(hidden),
    steps = steps, dead = dead, text = text, life = life}
  for name, value in options:gmatch(';(%a+)=([^;]*)') do
    if name == 'order' then
      policy.order = value:gsub('..', function(hex) return string.char(tonumber(hex, 16)) end)
    else policy[name] = tonumber(value) or value end
  end
  return policy
end
local function policy_of(policies, key, group) return parsed(kept_of(policies, key, group)) end
local function hex_of(text)
  return (text:gsub('.', function(byte) return string.format('%02x', byte:byte()) end))
end
-- Ends the script unless `dead` is the dead-letter stream of the policy.
local function expect_dead(policy, leases, dead)
  if policy and policy.dead ~= dead then
    error('OTHERDEAD ' .. hex_of(leases) .. ' ' .. hex_of(policy.dead), 0)
  end
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
local function is_own(consumer) return consumer == NOBODY or consumer == PARKED end
local function held_by(key, group, id) return redis.call('XPENDING', key, group, id, id, 1)[1] end
local function entry(key, id)
  local found = redis.call('XRANGE', key, id, id)[1]
  return found and found[2]
end
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
end
