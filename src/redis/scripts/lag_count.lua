local key, group, limit = KEYS[1], ARGV[1], tonumber(ARGV[2])
local at
for _, flat in ipairs(redis.call('XINFO', 'GROUPS', key)) do
  local info = {}
  for i = 1, #flat, 2 do info[flat[i]] = flat[i + 1] end
  if info['name'] == group then at = info['last-delivered-id'] end
end
if not at then return redis.error_reply('NOGROUP there is none of this name') end
local function count(command, from, to)
  local counted = 0
  while counted < limit do
    local page = redis.call(command, key, from, to, 'COUNT', math.min(100, limit - counted))
    counted = counted + #page
    if #page < 100 then return counted < limit and counted end
    from = '(' .. page[#page][1]
  end
  return false
end
local after = count('XRANGE', '(' .. at, '+')
if after then return after end
local before = count('XREVRANGE', at, '-')
return before and redis.call('XLEN', key) - before
