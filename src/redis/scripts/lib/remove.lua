-- `remove(key, groups, how, id)` deletes one entry under the conditions of XDELEX, on every
-- server. Returns 1 if deleted, 2 if referenced, -1 if the entry does not exist.
local function remove(key, groups, how, id)
  local result
  if #redis.call('XRANGE', key, id, id) == 0 then result = -1 end
  for _, group in ipairs(groups) do
    if result then break end
    if how == 'acked' and (below(group['last-delivered-id'], id)
        or #redis.call('XPENDING', key, group['name'], id, id, 1) > 0) then result = 2 end
  end
  if not result then
    redis.call('XDEL', key, id)
    result = 1
  end
  if how == 'delete' and result ~= 2 then
    for _, group in ipairs(groups) do redis.call('XACK', key, group['name'], id) end
  end
  return result
end
