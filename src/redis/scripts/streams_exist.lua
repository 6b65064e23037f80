local are = {}
for i, key in ipairs(KEYS) do are[i] = redis.call('TYPE', key).ok == 'stream' and 1 or 0 end
return are
