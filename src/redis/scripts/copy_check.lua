local key, leases, dead, to, group = KEYS[1], KEYS[3], KEYS[6], KEYS[7], ARGV[1]
local channel, id, packed = ARGV[2], ARGV[3], ARGV[4]
local fields, made = cmsgpack.unpack(packed), redis.call('XREVRANGE', to, '+', '-', 'COUNT', 1)[1]
local same = made and #made[2] == #fields
for i = 1, #fields do same = same and made[2][i] == fields[i] end
if not same then return redis.error_reply('ERR the copy was not appended') end
local letter = redis.call('XRANGE', dead, id, id)[1]
if not letter or letter[2][2] ~= packed then
  redis.call('XDEL', to, made[1])
  return {'not-found', ''}
end
redis.call('XDEL', dead, id)
-- The copy is appended, so nothing here may end the script.
local is_known, policy = pcall(policy_of, KEYS[2], key, group)
local queue = is_known and policy and queue_of(key, leases, KEYS[4], KEYS[5], group, policy)
if queue then unblock(queue, letter[2][#letter[2] - 10]) end
if queue and queue.freed then redis.call('PUBLISH', channel, '0') end
return {'copied', made[1]}
