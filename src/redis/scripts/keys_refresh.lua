local stream, known, ends = KEYS[1], KEYS[2], KEYS[3]
if redis.call('EXISTS', known) == 0 then return 0 end
local counters, record = counters_of(stream), redis.call('HGET', known, 'life')
if not counters or record and is_replaced(stream, counters, record) then
  redis.call('DEL', known, ends)
  return 2
end
local time = redis.call('TIME')
redis.call('HSET', known, 'life', record_of(counters) .. ' ' .. time[1] .. '000')
local count = redis.call('HLEN', known)
if count > 1 and count <= 10000 and redis.call('EXISTS', ends) == 0 then
  local flat = redis.call('HGETALL', known)
  for i = 1, #flat, 2 do
    local till = flat[i + 1]:match('^(%d+) %x+ ')
    if till then redis.call('ZADD', ends, till, flat[i]) end
  end
  redis.call('PEXPIRE', ends, math.max(1, redis.call('PTTL', known)))
end
return 1
