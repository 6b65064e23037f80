local all = {}
for i, key in ipairs(KEYS) do
  local kind = redis.call('TYPE', key).ok
  if kind == 'stream' then
    all[i] = facts_of(key, ARGV[i])
  else
    all[i] = kind == 'none' and 0 or 1
  end
end
return all
