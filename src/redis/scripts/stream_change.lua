local stream, kept, known = KEYS[1], KEYS[2], KEYS[3]
local seen, wanted, create = ARGV[2], ARGV[3], ARGV[4] == '1'
local kind = redis.call('TYPE', stream).ok
if kind == 'none' and not create then return redis.error_reply('ERR no such key') end
if kind ~= 'none' and kind ~= 'stream' then return redis.error_reply('WRONGTYPE the key holds no stream') end
local rules = rules_in(stream, counters_of(stream), redis.call('GET', kept))
if wanted ~= '' and (rules or '-') ~= seen then return redis.error_reply('CHANGED by someone else') end
if kind == 'none' then
  redis.call('XGROUP', 'CREATE', stream, 'streamgate', '0', 'MKSTREAM')
  redis.call('XGROUP', 'DESTROY', stream, 'streamgate')
end
if #ARGV > 4 then
  local set = redis.pcall('XSETID', stream, unpack(ARGV, 5))
  if type(set) == 'table' and set.err then
    if kind == 'none' then redis.call('DEL', stream) end
    return set
  end
end
local record = record_of(counters_of(stream))
if wanted == '' then wanted = rules or '-' end
if wanted == '-' then redis.call('DEL', kept) else redis.call('SET', kept, wanted .. ' ' .. record) end
if #ARGV > 4 and redis.call('EXISTS', known) == 1 then redis.call('HSET', known, 'life', record .. ' 0') end
return kind == 'none' and 1 or 0
