-- `held_back(stream)` returns the first entry that a group has not read or acknowledged, with
-- the group and `unread` or `pending`. Returns nothing if all groups have acknowledged all
-- entries. Pending records of deleted entries hold nothing back; at most 1000 of them are skipped
-- per group.
local function oldest(stream)
  local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  return first and first[1]
end
local function first_pending(stream, group, from)
  local last, looked, count = nil, 0, 1
  while looked < 1000 do
    local page = redis.call('XPENDING', stream, group, from, '+', count)
    for _, one in ipairs(page) do
      last, looked = one[1], looked + 1
      if #redis.call('XRANGE', stream, last, last) > 0 then return last end
    end
    if #page < count then return nil end
    from, count = '(' .. last, 100
  end
  return last
end
local function held_back(stream)
  local bound, by, why
  local first = oldest(stream)
  for _, group in ipairs(first and groups_of(stream) or {}) do
    local function hold(id, reason)
      if id and (not bound or below(id, bound)) then bound, by, why = id, group['name'], reason end
    end
    hold(first_pending(stream, group['name'], first), 'pending')
    -- pcall: Redis rejects an exclusive range above the greatest id, where nothing can be.
    local rest = redis.pcall('XRANGE', stream, '(' .. group['last-delivered-id'], '+', 'COUNT', 1)
    hold(rest[1] and rest[1][1], 'unread')
  end
  return bound, by, why
end
