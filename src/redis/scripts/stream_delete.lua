local kind = redis.call('TYPE', KEYS[1]).ok
if kind == 'none' then return 0 end
if kind ~= 'stream' then return redis.error_reply('WRONGTYPE the key holds no stream') end
local known = {}
for _, group in ipairs(ARGV) do known[group] = true end
for _, group in ipairs(redis.call('HKEYS', KEYS[4])) do
  if not known[group] then return redis.error_reply('CHANGED a group was given a policy') end
end
for i = 2, #KEYS do redis.call('DEL', KEYS[i]) end
return redis.call('DEL', KEYS[1])
