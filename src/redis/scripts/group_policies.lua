local found = {}
for i, group in ipairs(ARGV) do
  local kept = redis.call('HGET', KEYS[2], group)
  local text, life = split_life(kept or '')
  if not kept or life and is_other_life(KEYS[1], group, life) then found[i] = false
  else
    local is_new = redis.pcall('XGROUP', 'CREATECONSUMER', KEYS[1], group, PARKED)
    if is_new == 1 then redis.call('XGROUP', 'DELCONSUMER', KEYS[1], group, PARKED) end
    found[i] = {retired_at(text) and '' or text, is_new == 0 and 3 or 2}
  end
end
return found
