local key, leases, group = KEYS[1], KEYS[3], ARGV[1]
local policy = policy_of(KEYS[2], key, group)
if not policy then return {'', {unpack(ARGV, 3)}} end
local queue = queue_of(key, leases, KEYS[4], KEYS[5], group, policy)
local now, lent, due = now_us(), {}, {}
local function put_away(id, to) redis.call('XCLAIM', key, group, to, 0, id, 'RETRYCOUNT', 0, 'JUSTID') end
for i = 3, #ARGV do
  local id = ARGV[i]
  local fields = queue and entry(key, id)
  local hash = fields and hash_of(policy, fields)
  if queue and not queue.is_ready then put_away(id, PARKED)
  elseif hash and room_of(queue, hash) == 0 then
    put_away(id, PARKED)
    redis.call('ZADD', queue.order, 0, hash .. spell(id))
  else
    if hash then take_up(queue, id, hash) end
    if policy.paused then
      put_away(id, NOBODY)
      due[#due + 1] = id
    else lent[#lent + 1] = id end
  end
end
local until_us = now + policy.lease
lend(leases, lent, until_us)
lend(leases, due, now)
if policy.lease < 5000000 then redis.call('PUBLISH', ARGV[2], digits(policy.lease / 1000)) end
return {digits(until_us), lent}
