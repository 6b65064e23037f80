-- `allowed_by(policy, leases, state, now, count)` returns how many entries a group may hand out now,
-- and in how many microseconds it may hand out another one if that is none. `spend` counts entries.
local function tokens_of(policy, state, now)
  local most, span = policy.rate:match('^(%d+)/(%d+)$')
  local left, at = (redis.call('HGET', state, '=rate') or ''):match('^(%S+) (%d+)$')
  if not left then return tonumber(most), span * 1000 / most end
  local grown = left + math.max(0, now - at) * most / (span * 1000)
  return math.min(tonumber(most), grown), span * 1000 / most
end
local function allowed_by(policy, leases, state, now, count)
  if policy.paused then return 0 end
  if policy.flight then
    count = math.min(count, policy.flight - redis.call('ZCOUNT', leases, '(' .. digits(now), '+inf'))
  end
  if not policy.rate then return math.max(0, count) end
  local tokens, each = tokens_of(policy, state, now)
  return math.max(0, math.min(count, math.floor(tokens))), tokens < 1 and math.ceil((1 - tokens) * each)
end
local function spend(policy, state, now, count)
  if not policy.rate or count == 0 then return end
  local tokens = tokens_of(policy, state, now)
  redis.call('HSET', state, '=rate', string.format('%.6f ', tokens - count) .. digits(now))
end
