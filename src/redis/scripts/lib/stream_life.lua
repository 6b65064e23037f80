-- Lua functions that detect a replaced stream. They need `below`. `ARGV[1]` is `1` if
-- entries may be removed from the middle without a trace.
--
-- - `counters_of(stream)` reads the counters, or returns nil if the key is not a stream.
-- - `record_of(counters)` returns their record.
-- - `is_replaced(stream, counters, record)` returns whether the stream was replaced.
-- - `never_had(stream, counters, id)` returns whether an entry that was once added was not added
--   to this stream.
local holes = ARGV[1] == '1'
local function counters_of(stream)
  if redis.call('TYPE', stream).ok ~= 'stream' then return nil end
  local info, flat = {}, redis.call('XINFO', 'STREAM', stream)
  for i = 1, #flat, 2 do info[flat[i]] = flat[i + 1] end
  local first, last = info['first-entry'], info['last-entry']
  return {length = info['length'], last_id = info['last-generated-id'], added = info['entries-added'],
    deleted = info['max-deleted-entry-id'], first = first and first[1], last = last and last[1]}
end
local function record_of(c)
  local added = c.added and string.format('%.0f', c.added) or '-'
  return c.last_id .. ' ' .. added .. ' ' .. (c.last == c.last_id and 'entry' or 'none')
end
local function lacks(stream, c, id)
  local must = c.added == c.length
  if not must and c.first and not below(id, c.first) then
    must = not holes and c.deleted and below(c.deleted, id)
  end
  return must and #redis.call('XRANGE', stream, id, id) == 0
end
local function is_replaced(stream, c, record)
  local last, n, kind = record:match('^(%S+) (%S+) (%S+)')
  n = tonumber(n)
  if not c or below(c.last_id, last) or n and c.added and n > c.added then return true end
  local is_below = below(last, c.first or c.last_id)
  if is_below and n and c.added and c.added - n < c.length then return true end
  return kind == 'entry' and lacks(stream, c, last)
end
local function never_had(stream, c, id)
  return not c or below(c.last_id, id) or lacks(stream, c, id)
end
