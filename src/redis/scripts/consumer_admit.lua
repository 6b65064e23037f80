local key, group, consumer, most = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3])
local made = redis.pcall('XGROUP', 'CREATECONSUMER', key, group, consumer)
if made == 0 then return 1 end
if made == 1 then redis.call('XGROUP', 'DELCONSUMER', key, group, consumer) end
local groups = redis.pcall('XINFO', 'GROUPS', key)
if groups.err then return 1 end
local kept = redis.call('HGET', KEYS[2], group)
local ours = kept and kept:sub(1, 1) == '@' and 2 or 0
for _, flat in ipairs(groups) do
  local info = {}
  for i = 1, #flat, 2 do info[flat[i]] = flat[i + 1] end
  if info['name'] == group and info['consumers'] - ours >= most then
    if made == 1 then return 0 end
    for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', key, group)) do
      for i = 1, #flat, 2 do if flat[i] == 'name' and flat[i + 1] == consumer then return 1 end end
    end
    return 0
  end
end
return 1
