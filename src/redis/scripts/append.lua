if whole ~= '' then
  local print, ids = recall(whole)
  if print and print ~= whole_print then return {'reused', '0'} end
  if print then return {'replayed', ids} end
end

local last = '0-0'
if kind == 'stream' and by_last then
  local info = redis.call('XINFO', 'STREAM', stream)
  for i = 1, #info, 2 do if info[i] == 'last-generated-id' then last = info[i + 1] end end
elseif kind == 'none' and no_make == '1' then return {'no-stream'} end
if (if_match ~= '' and if_match ~= last) or (if_new == '1' and last ~= '0-0') then return {'stale', last} end

local entries, seen, chosen, from = {}, {}, false, last
local keyed = whole ~= ''
for i = 1, tonumber(take()) do
  local entry = {id = take(), key = take(), print = take(), fields = {}}
  for f = 1, tonumber(take()) do entry.fields[f] = take() end
  entries[i] = entry
  if entry.key ~= '' then
    keyed = true
    local print, id = recall(entry.key)
    local twin = seen[entry.key]
    if twin then print, entry.twin = twin.print, twin end
    if print and print ~= entry.print then entry.refused = 'reused' end
    entry.given = id
    if not print then seen[entry.key] = entry end
  end
  if atomic and not entry.refused and not entry.given and not entry.twin then
    local ms = entry.id:match('^(%d+)-%*$')
    if entry.id == '*' then chosen = true
    elseif chosen then entry.refused = 'after-chosen'
    elseif ms then
      if not below(from, ms .. '-18446744073709551615') then entry.refused = 'not-monotonic' end
      chosen = true
    elseif not below(from, entry.id) then entry.refused = 'not-monotonic'
    else from = entry.id end
  end
  if atomic and entry.refused then return {entry.refused, tostring(i)} end
end

for _, key in ipairs(redis.call('ZRANGEBYSCORE', ends, '-inf', now, 'LIMIT', 0, 100 + 2 * #entries)) do
  redis.call('HDEL', known, key)
  redis.call('ZREM', ends, key)
end
local due = keyed and is_due()
local results, ids, wrote, stopped = {'each'}, {}, false, false
for i, entry in ipairs(entries) do
  if entry.twin then entry.given, entry.refused = entry.twin.given, entry.refused or entry.twin.refused end
  if stopped then entry.refused = 'exhausted' end
  local mark = '~'
  if not entry.given and not entry.refused then
    local words = {'XADD', stream, entry.id}
    for _, word in ipairs(entry.fields) do words[#words + 1] = word end
    local given = redis.pcall(unpack(words))
    if type(given) == 'table' then
      local why = tostring(given.err)
      local function says(text) return why:find(text, 1, true) end
      if says('exhausted the last possible') then
        entry.refused, stopped = 'exhausted', atomic
      elseif not atomic and (says('equal or smaller') or says('too large to be stored')) then
        entry.refused = 'not-monotonic'
      else return given end
    else
      entry.given, mark, wrote = given, '', true
      if entry.key ~= '' then remember(entry.key, entry.print, given) end
    end
  end
  ids[i] = entry.given
  results[#results + 1] = entry.refused and '!' .. entry.refused or mark .. entry.given
end
if wrote and #trimming > 0 then trim(stream, unpack(trimming)) end
if whole ~= '' and not stopped then remember(whole, whole_print, table.concat(ids, ',')) end
if due and wrote then record() end
results[1] = 'each' .. marks
return results
