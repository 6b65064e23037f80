local group, discarded = ARGV[1], {}
for i = 1, #KEYS - 5, 6 do
  local kept = redis.call('HGET', KEYS[i + 1], group)
  local text, life = split_life(kept or '')
  if life and is_other_life(KEYS[i], group, life) then
    redis.call('HDEL', KEYS[i + 1], group)
    redis.call('DEL', KEYS[i + 2], KEYS[i + 3], KEYS[i + 4])
    if not retired_at(text) then discarded[#discarded + 1] = KEYS[i] end
  end
end
return discarded
