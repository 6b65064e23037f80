-- `rules_of(text)` parses a retention. `blocked_by(stream, rules)` returns group, id and
-- reason if the stream exceeds its retention and a group holds back its oldest entry.
local function rules_of(text)
  local mode, length, age, hard = text:match('^(%a+) (%S+) (%S+) (%S+)$')
  local rules = {mode = mode, length = tonumber(length), hard = tonumber(hard)}
  if rules.length then rules.maxlen = length end
  if age ~= '-' then
    local time = redis.call('TIME')
    local now = time[1] * 1000 + math.floor(time[2] / 1000)
    rules.minid = string.format('%.0f-0', math.max(0, now - tonumber(age)))
  end
  return rules
end
local function blocked_by(stream, rules)
  local first = rules.mode == 'acked' and oldest(stream)
  if not first then return false end
  local long = rules.length and redis.call('XLEN', stream) > rules.length
  if not long and not (rules.minid and below(first, rules.minid)) then return false end
  local bound, group, why = held_back(stream)
  return bound == first and {group, bound, why}
end
