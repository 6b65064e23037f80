local found = {}
for i, group in ipairs(ARGV) do
  local kept = redis.call('HGET', KEYS[2], group)
  local text, life = split_life(kept or '')
  if not kept or life and is_other_life(KEYS[1], group, life) then found[i] = false
  else found[i] = retired_at(text) and 0 or text end
end
return found
