local key, leases, group = KEYS[1], KEYS[3], ARGV[1]
local skip, limit = tonumber(ARGV[3]), tonumber(ARGV[4])
local text, life = kept_of(KEYS[2], key, group)
if not retired_at(text) then return -1 end
if not redis.pcall('XPENDING', key, group, '-', '+', 1).err then
  local ids, strays = redis.call('ZRANGE', leases, skip, skip + limit - 1), {}
  for _, id in ipairs(ids) do
    if not held_by(key, group, id) then strays[#strays + 1] = id end
  end
  forget(leases, strays)
  if redis.call('EXISTS', leases) == 1 then return #ids == limit and skip + limit - #strays or 0 end
  if is_holding(key, group) then return 0 end
  end_life(key, group, life)
end
redis.call('HDEL', KEYS[2], group)
redis.call('DEL', leases, KEYS[4], KEYS[5])
return -1
