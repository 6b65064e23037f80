local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local moved, size, more = 0, 0, 0
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'none' and kind ~= 'stream' then return {0, 0, '', redis.call('ZCARD', KEYS[2]) > 0 and 1 or 0} end
for _, token in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, 1000)) do
  if moved >= 1000 or size >= 1048576 then
    more = 1
    break
  end
  local text = redis.call('HGET', KEYS[3], token)
  local at = text and text:find('\n', 1, true) or 0
  local count = text and tonumber(text:sub(1, at - 1)) or 0
  for _ = 1, count do
    local ends = text:find('\n', at + 1, true)
    local words = {'XADD', KEYS[1], '*'}
    local from = ends + 1
    for length in text:sub(at + 1, ends - 1):gmatch('%d+') do
      words[#words + 1] = text:sub(from, from + length - 1)
      from = from + length
    end
    at = from - 1
    redis.call(unpack(words))
  end
  release(KEYS[2], KEYS[3], token, text and #text or 0)
  moved, size = moved + count, size + (text and #text or 0)
end
local next = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
return {moved, more, next[2] or '', 0}
