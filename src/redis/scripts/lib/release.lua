-- `release(due, entries, token, size)` removes a scheduled append of `size` bytes. Returns 1
-- if it existed. Deletes both keys with the last one.
local function release(due, entries, token, size)
  local found = redis.call('ZREM', due, token)
  redis.call('HDEL', entries, token)
  if redis.call('EXISTS', due) == 0 then redis.call('DEL', entries)
  elseif size > 0 then redis.call('HINCRBY', entries, 'bytes', -size) end
  return found
end
