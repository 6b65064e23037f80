if (redis.call('HGET', KEYS[2], ARGV[1]) or '') ~= ARGV[2] then return 0 end
local again = ARGV[3]
if again:sub(1, 1) == '+' then
  local time = redis.call('TIME')
  again = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000) + again:sub(2))
end
if again == '' then
  redis.call('ZREM', KEYS[1], ARGV[1])
  redis.call('HDEL', KEYS[2], ARGV[1])
else redis.call('ZADD', KEYS[1], again, ARGV[1]) end
return 1
