local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
local streams = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now), 'LIMIT', 0, 100)
local editions = {}
for i, stream in ipairs(streams) do editions[i] = redis.call('HGET', KEYS[2], stream) or '' end
return {streams, editions, first[2] and math.max(0, first[2] - now) or -1}
