local key, leases, group, channel = KEYS[1], KEYS[3], ARGV[1], ARGV[2]
local how, given, reason, nobody = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local policy, refused = needed(KEYS[2], key, group)
if refused then return refused end
expect_dead(policy, leases, KEYS[6])
local queue = queue_of(key, leases, KEYS[4], KEYS[5], group, policy)
if (how == 'reject' or how == 'nack' and policy.max > 0) and not can_bury(policy.dead) then
  return redis.error_reply('DEADLETTER it is no stream')
end
local steps = {}
for step in policy.steps:gmatch('%d+') do steps[#steps + 1] = tonumber(step) end
local now, soonest = now_us(), nil
local function due(at)
  if not soonest or at < soonest then soonest = at end
  return at
end
local function lay_down(id, held, fields, why)
  if bury(key, leases, group, policy, id, fields, held[2], held[4], why, now, queue) then return {4, ''} end
  lend(leases, {id}, due(now + policy.lease))
  return {3, ''}
end
local settle = {}
settle['reject'] = function(id, held)
  local fields = entry(key, id)
  return lay_down(id, held, fields, fields and reason or 'gone')
end
settle['extend'] = function(id, held, score)
  local at = now + (given ~= '' and given * 1000 or policy.lease)
  lend(leases, {id}, at)
  if not score or at < tonumber(score) then due(at) end
  return {5, digits(at)}
end
local function release(id, held, count, delay)
  local words = {'XCLAIM', key, group, nobody, 0, id, 'RETRYCOUNT', digits(count), 'JUSTID'}
  local got = redis.call('XRANGE', key, id, id)[1] and redis.call(unpack(words))
  if not got then return lay_down(id, held, nil, 'gone') end
  lend(leases, {id}, due(now + delay * 1000))
  return {3, ''}
end
settle['nack'] = function(id, held)
  if policy.max > 0 and held[4] >= policy.max then
    local fields = entry(key, id)
    return lay_down(id, held, fields, not fields and 'gone' or reason ~= '' and reason or 'max-deliveries')
  end
  local delay = given ~= '' and given or steps[math.min(math.max(held[4], 1), #steps)] or 0
  return release(id, held, held[4], delay)
end
settle['hand-back'] = function(id, held) return release(id, held, math.max(held[4] - 1, 0), 0) end
local scores, results, seen = scores_of(leases, 7), {}, {}
for i = 7, #ARGV, 2 do
  local id, n = ARGV[i], (i - 5) / 2
  local score = scores[n]
  if seen[id] then score = redis.call('ZSCORE', leases, id) end
  seen[id] = true
  local may = verdict(key, group, id, ARGV[i + 1], score)
  local held = may == 'ok' and held_by(key, group, id)
  if held then results[n] = settle[how](id, held, score)
  else
    if may == 'ok' then
      forget(leases, {id})
      if queue then finish(queue, id) end
    end
    results[n] = {may == 'lost' and 2 or 0, ''}
  end
end
if queue and queue.freed then soonest = now end
if soonest then redis.call('PUBLISH', channel, digits(math.max(0, (soonest - now) / 1000))) end
return results
