local key, leases, group, channel, dead = KEYS[1], KEYS[3], ARGV[1], ARGV[2], KEYS[7]
local policy = policy_of(KEYS[2], key, group)
local queue = policy and queue_of(key, leases, KEYS[4], KEYS[5], group, policy)
for i = 3, queue and #ARGV or 0 do
  local fields = entry(dead, ARGV[i]) or {}
  local at = #fields - 14
  if at >= 0 and fields[at + 3] == LETTER_FIELD .. 'id' and fields[at + 6] == group then unblock(queue, fields[at + 4]) end
end
if queue and queue.freed then redis.call('PUBLISH', channel, '0') end
return redis.call('XDEL', dead, unpack(ARGV, 3))
