redis.call('XPENDING', key, group, '-', '+', 1)
local text = kept_of(KEYS[2], key, group)
local retired, policy = retired_at(text), text and text:find(';', 1, true) and parsed(text)
local queue = policy and queue_of(key, leases, KEYS[4], KEYS[5], group, policy)
local codes, acked, lost = {}, {}, false
for n = 1, tonumber(take()) do
  local id, until_us = take(), take()
  local may = verdict(key, group, id, until_us, redis.call('ZSCORE', leases, id), retired)
  if may == 'ok' and not held_by(key, group, id) then may = 'none' end
  codes[n] = may == 'ok' and 1 or may == 'lost' and 2 or 0
  acked[n], lost = id, lost or may ~= 'ok'
end
local target, noted, due = nil, {}, {}
local function turn_to(number)
  if target then noted[target] = marks end
  target, before, is_former, marks = number, nil, nil, noted[number] or ''
  stream, known, ends = KEYS[4 + 3 * number], KEYS[5 + 3 * number], KEYS[6 + 3 * number]
end
local entries, seen, all_known = {}, {}, true
for i = 1, tonumber(take()) do
  local entry = {target = tonumber(take()), key = take(), print = take(), fields = {}}
  for f = 1, tonumber(take()) do entry.fields[f] = take() end
  entries[i] = entry
  local kind = redis.call('TYPE', KEYS[4 + 3 * entry.target]).ok
  if kind ~= 'none' and kind ~= 'stream' then return {'not-a-stream', tostring(i)} end
  if entry.key ~= '' then
    turn_to(entry.target)
    local print, id = recall(entry.key)
    local twin = seen[entry.target .. ' ' .. entry.key]
    if twin then print, entry.twin = twin.print, twin end
    if print and print ~= entry.print then return {'reused', tostring(i)} end
    entry.given = id
    if not print then seen[entry.target .. ' ' .. entry.key] = entry end
  end
  all_known = all_known and entry.given ~= nil
end
local function answer(word)
  local ids = {}
  for i, entry in ipairs(entries) do ids[i] = (entry.is_new and '' or '~') .. entry.given end
  return {word, ids, codes}
end
if lost and all_known then return answer('replayed') end
if lost then return {'lost', {}, codes} end
for _, entry in ipairs(entries) do
  if entry.key ~= '' and due[entry.target] == nil then
    turn_to(entry.target)
    for _, old in ipairs(redis.call('ZRANGEBYSCORE', ends, '-inf', now, 'LIMIT', 0, 100)) do
      redis.call('HDEL', known, old)
      redis.call('ZREM', ends, old)
    end
    due[entry.target] = is_due()
  end
end
local appended = {}
for _, entry in ipairs(entries) do
  if entry.twin then entry.given = entry.twin.given end
  if not entry.given then
    local to = KEYS[4 + 3 * entry.target]
    local given = redis.pcall('XADD', to, '*', unpack(entry.fields))
    if type(given) == 'table' then
      -- Nobody has seen the entries before this one.
      for _, one in ipairs(appended) do redis.call('XDEL', one[1], one[2]) end
      return given
    end
    entry.given, entry.is_new = given, true
    appended[#appended + 1] = {to, given}
  end
end
for _, entry in ipairs(entries) do
  if entry.key ~= '' and entry.is_new then
    turn_to(entry.target)
    remember(entry.key, entry.print, entry.given)
  end
end
for number, is_late in pairs(due) do
  turn_to(number)
  if is_late then record() end
end
redis.call('XACK', key, group, unpack(acked))
forget(leases, acked)
if queue then finish_all(queue, acked) end
if policy and policy.flight or queue and queue.freed then redis.call('PUBLISH', ARGV[3], '0') end
local done = answer('done')
if target then noted[target] = marks end
for number, words in pairs(noted) do done[#done + 1] = number .. words end
return done
