local key, group, consumer, fate = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local pending = redis.call('XPENDING', key, group, '-', '+', 1, consumer)
local found = false
for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', key, group)) do
  for i = 1, #flat, 2 do found = found or (flat[i] == 'name' and flat[i + 1] == consumer) end
end
if not found then return redis.error_reply('NOCONSUMER there is none of this name') end
if #pending > 0 and fate == 'refuse' then return redis.error_reply('CONSUMERPENDING it has entries') end
local moved, from = 0, '-'
while #pending > 0 and fate == 'transfer' do
  local batch = redis.call('XPENDING', key, group, from, '+', 1000, consumer)
  if #batch == 0 then break end
  for _, entry in ipairs(batch) do
    redis.call('XCLAIM', key, group, ARGV[4], 0, entry[1], 'IDLE', entry[3], 'RETRYCOUNT', entry[4], 'JUSTID')
    moved, from = moved + 1, '(' .. entry[1]
  end
end
return moved + redis.call('XGROUP', 'DELCONSUMER', key, group, consumer)
