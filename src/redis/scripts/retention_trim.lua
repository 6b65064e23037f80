local stream, limit = KEYS[1], 10000
local kept = redis.call('GET', KEYS[2])
if not kept then return false end
local counters = counters_of(stream)
local text = counters and rules_in(stream, counters, kept)
if not text then
  redis.call('DEL', KEYS[2])
  return counters and 'replaced' or false
end
if ARGV[2] == '1' or text == kept then
  local renewed = text .. ' ' .. record_of(counters)
  if renewed ~= kept then redis.call('SET', KEYS[2], renewed) end
end
local rules = rules_of(text)
local trimmed, forced, more = 0, 0, false
local function trim(kind, threshold)
  local gone = redis.call('XTRIM', stream, kind, '~', threshold, 'LIMIT', limit)
  if gone > limit / 2 then more = true
  elseif rules.mode ~= 'approximate' then gone = gone + redis.call('XTRIM', stream, kind, '=', threshold) end
  trimmed = trimmed + gone
end
local function trim_below(bound)
  local excess = redis.call('XLEN', stream) - rules.length
  if excess <= 0 then return end
  local gone = redis.call('XTRIM', stream, 'MINID', '~', bound, 'LIMIT', math.min(excess, limit))
  excess = excess - gone
  if gone > limit / 2 then more = true
  elseif excess > 0 then
    local look = math.min(excess, 100)
    local cut = redis.call('XRANGE', stream, '-', '+', 'COUNT', look + 1)[look + 1][1]
    if not below(cut, bound) then cut = bound
    elseif look < excess then more = true end
    gone = gone + redis.call('XTRIM', stream, 'MINID', '=', cut)
  end
  trimmed = trimmed + gone
end
local function force(count)
  local page = redis.call('XRANGE', stream, '-', '+', 'COUNT', count + 1)
  local needed = {}
  for _, group in ipairs(groups_of(stream)) do
    local held = redis.call('XPENDING', stream, group['name'], page[1][1], page[count][1], 1000)
    for _, one in ipairs(held) do needed[one[1]] = true end
    for i = count, 1, -1 do
      if not below(group['last-delivered-id'], page[i][1]) then break end
      needed[page[i][1]] = true
    end
  end
  for i = 1, count do if needed[page[i][1]] then forced = forced + 1 end end
  trimmed = trimmed + redis.call('XTRIM', stream, 'MINID', '=', page[count + 1][1])
end
local bound = rules.mode == 'acked' and held_back(stream)
if bound then
  if rules.minid then trim('MINID', below(bound, rules.minid) and bound or rules.minid) end
  if rules.length then trim_below(bound) end
else
  if rules.minid then trim('MINID', rules.minid) end
  if rules.length then trim('MAXLEN', rules.maxlen) end
end
if rules.hard and not more then
  local over = redis.call('XLEN', stream) - rules.hard
  for _ = 1, 10 do
    if over <= 0 then break end
    force(math.min(over, 100))
    over = over - 100
  end
  more = over > 0
end
local function number(flag) return flag and 1 or 0 end
return {trimmed, forced, number(more), number(rules.mode == 'exact'), number(blocked_by(stream, rules))}
