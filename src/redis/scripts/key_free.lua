local key, leases, group, channel = KEYS[1], KEYS[3], ARGV[1], ARGV[2]
local hash = ARGV[3] == 'hash' and ARGV[4] or redis.sha1hex(ARGV[4]):sub(1, 16)
local policy, refused = needed(KEYS[2], key, group)
if refused then return refused end
local queue = queue_of(key, leases, KEYS[4], KEYS[5], group, policy)
if not queue then return redis.error_reply('UNORDERED the group has no order') end
local freed = 0
local blocks = redis.call('ZRANGEBYLEX', queue.order, '[' .. hash .. '#', '(' .. hash .. '$', 'LIMIT', 0, 1000)
for _, member in ipairs(blocks) do
  drop(queue, unspell(member:sub(18)))
  freed = freed + 1
end
for _, member in ipairs(redis.call('ZRANGEBYLEX', queue.order, '[' .. hash .. '!', '(' .. hash .. '"', 'LIMIT', 0, 1000)) do
  local id = unspell(member:sub(18))
  if not held_by(key, group, id) then
    forget(leases, {id})
    drop(queue, id)
    freed = freed + 1
  end
end
promote(queue, hash)
if queue.freed then redis.call('PUBLISH', channel, '0') end
if freed > 0 then return freed end
return count_in(queue, hash, hash .. '~') > 0 and 0 or -1
