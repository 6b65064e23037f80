local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'none' and kind ~= 'stream' then return redis.error_reply('WRONGTYPE the key holds no stream') end
if redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[1]) then return false end
if (redis.call('HGET', KEYS[3], 'bytes') or 0) + #ARGV[4] > tonumber(ARGV[5]) then return false end
local time = redis.call('TIME')
local due = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[2])
local token = string.format('%.0f', time[1] * 1000000 + time[2]) .. ARGV[3]
redis.call('ZADD', KEYS[2], due, token)
redis.call('HSET', KEYS[3], token, ARGV[4])
redis.call('HINCRBY', KEYS[3], 'bytes', #ARGV[4])
return {token, due}
