-- Lua functions for idempotency keys. They need `stream_life` and the locals `stream`,
-- `known`, `ends`, `now` and `window`.
--
-- - `recall(key)` returns the fingerprint and the ids of a key that has not expired.
-- - `remember(key, print, ids)` stores them for the window, and does not shorten the lifetime of
--   other keys.
-- - `is_due()` before and `record()` after a write maintain the record of the stream.
-- - `marks` collects side effects, for `Store::note_keys`.
local before, is_former, marks = nil, nil, ''
local function counters()
  if before == nil then before = counters_of(stream) or false end
  return before
end
local function judge()
  if is_former == nil then
    local record = redis.call('HGET', known, 'life')
    is_former = record and is_replaced(stream, counters(), record) or false
  end
  return is_former
end
local function forget_keys()
  redis.call('DEL', known, ends)
  is_former, marks = false, marks .. ' forgotten'
end
local function recall(key)
  local till, print, ids = (redis.call('HGET', known, key) or ''):match('^(%d+) (%x+) (.*)$')
  if not till or tonumber(till) <= now then return end
  local from, to = ids:match('^[^,]+'), ids:match('[^,]+$')
  if judge() or never_had(stream, counters(), from) or from ~= to and never_had(stream, counters(), to) then
    forget_keys()
    return
  end
  return print, ids
end
local function keep_for(key, ms)
  if redis.call('PTTL', key) < ms then redis.call('PEXPIRE', key, ms) end
end
local function remember(key, print, ids)
  redis.call('HSET', known, key, string.format('%.0f ', now + window) .. print .. ' ' .. ids)
  redis.call('ZADD', ends, now + window, key)
  keep_for(known, window + 1000)
  keep_for(ends, window + 1000)
end
local function is_due()
  local record = redis.call('HGET', known, 'life')
  local at = record and tonumber(record:match('(%d+)$'))
  if at and at <= now and now - at < 1000 then return false end
  if judge() then forget_keys() end
  if not record then marks = marks .. ' first' end
  return true
end
local function record()
  local after = counters_of(stream)
  if after then redis.call('HSET', known, 'life', record_of(after) .. string.format(' %.0f', now)) end
end
