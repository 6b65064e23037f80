local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], 'LT', string.format('%.0f', now + ARGV[2]), ARGV[1])
redis.call('HINCRBY', KEYS[2], ARGV[1], 1)
if ARGV[3] == '1' then redis.call('PUBLISH', ARGV[4], ARGV[2]) end
return 1
