local kind = redis.call('TYPE', KEYS[1]).ok
if kind == 'none' then return 0 end
if kind ~= 'stream' then return redis.error_reply('WRONGTYPE the key holds no stream') end
for _, group in ipairs(redis.call('HKEYS', KEYS[4])) do
  for _, prefix in ipairs(ARGV) do redis.call('UNLINK', prefix .. group) end
end
redis.call('DEL', unpack(KEYS, 2))
return redis.call('DEL', KEYS[1])
