local kind = redis.call('TYPE', KEYS[1]).ok
if kind == 'none' then return false end
if kind ~= 'stream' then return redis.error_reply('WRONGTYPE the key holds no stream') end
local facts = facts_of(KEYS[1], ARGV[1])
if #ARGV == 1 then return facts end
return {redis.call(ARGV[2], KEYS[1], ARGV[3], ARGV[4], 'COUNT', ARGV[5]), facts}
