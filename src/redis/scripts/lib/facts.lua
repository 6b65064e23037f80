-- `facts_of(key, at)` returns the counters of a stream, the weight of the heavier of its
-- first and last entry (which XINFO copies), and whether an entry with the id `at` exists. An
-- empty `at` skips that check.
local function weight_of(entry)
  local weight = 0
  for _, text in ipairs(entry and entry[2] or {}) do weight = weight + #text + 128 end
  return weight
end
local function facts_of(key, at)
  local info, flat = {}, redis.call('XINFO', 'STREAM', key)
  for i = 1, #flat, 2 do info[flat[i]] = flat[i + 1] end
  local first, last, exists = info['first-entry'], info['last-entry'], false
  local weight = math.max(weight_of(first), weight_of(last))
  first, last = first and first[1] or false, last and last[1] or false
  if at ~= '' then
    exists = at == first or at == last or redis.call('XRANGE', key, at, at)[1] ~= nil
    exists = exists and 1 or 0
  end
  return {info['length'], info['last-generated-id'], info['entries-added'] or false,
          info['max-deleted-entry-id'] or false, first, last, weight, exists}
end
