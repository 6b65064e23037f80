local words, count = {}, tonumber(ARGV[6])
for i = 1, count do words[i] = ARGV[6 + i] end
local force = ARGV[7 + count] == '1'
redis.call('XPENDING', key, group, '-', '+', 1)
for i = 8 + count, #ARGV do
  local held = held_by(key, group, ARGV[i])
  if held or force then take(ARGV[i], held, ARGV[5], words) end
end
lend(leases, lent, until_us)
return {digits(until_us), taken, gone, ''}
