-- `take(id, held, min_idle, words)` claims one entry and records it for a lease. An entry
-- deleted from the stream becomes a tombstone.
local key, leases, group, consumer, just_id = KEYS[1], KEYS[3], ARGV[1], ARGV[3], ARGV[4] == '1'
local policy, now = policy_of(KEYS[2], key, group), now_us()
if not policy then return false end
expect_dead(policy, leases, KEYS[6])
if policy.order then return redis.error_reply('ORDERED the group has an order') end
local until_us = now + policy.lease
local taken, gone, lent = {}, {}, {}
local function take(id, held, min_idle, words)
  if #redis.call('XRANGE', key, id, id) == 0 then
    if held and bury(key, leases, group, policy, id, nil, held[2], held[4], 'gone', now) then
      gone[#gone + 1] = id
    end
    return
  end
  local got = redis.call('XCLAIM', key, group, consumer, min_idle, id, unpack(words))[1]
  if not got then return end
  lent[#lent + 1] = id
  local now_held = held_by(key, group, id)
  taken[#taken + 1] = {just_id and {id, false} or got, now_held and now_held[4] or 0}
end
