local dead, to, id, packed = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
local fields, made = cmsgpack.unpack(packed), redis.call('XREVRANGE', to, '+', '-', 'COUNT', 1)[1]
local same = made and #made[2] == #fields
for i = 1, #fields do same = same and made[2][i] == fields[i] end
if not same then return redis.error_reply('ERR the copy was not appended') end
local letter = redis.call('XRANGE', dead, id, id)[1]
if not letter or letter[2][2] ~= packed then
  redis.call('XDEL', to, made[1])
  return {'not-found', ''}
end
redis.call('XDEL', dead, id)
return {'copied', made[1]}
