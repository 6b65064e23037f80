local from = 0
if ARGV[2] ~= '' then
  local rank = redis.call('ZRANK', KEYS[1], ARGV[3])
  from = rank and rank + 1 or redis.call('ZCOUNT', KEYS[1], '-inf', '(' .. ARGV[2])
end
local flat, found = redis.call('ZRANGE', KEYS[1], from, from + ARGV[1] - 1, 'WITHSCORES'), {}
for i = 1, #flat, 2 do
  local text = redis.call('HGET', KEYS[2], flat[i]) or '0\n'
  found[#found + 1] = {flat[i], flat[i + 1], text:match('^%d+')}
end
return found
