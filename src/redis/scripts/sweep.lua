local key, leases, group, channel = KEYS[1], KEYS[3], ARGV[1], ARGV[2]
local after, skip, limit, most_due = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local policy, now = policy_of(KEYS[2], key, group), now_us()
if not policy then return false end
expect_dead(policy, leases, KEYS[6])
local queue = queue_of(key, leases, KEYS[4], KEYS[5], group, policy)
local batch = redis.pcall('XPENDING', key, group, after, '+', math.max(limit, 1))
if batch.err then
  if not batch.err:find('NOGROUP') and not batch.err:find('WRONGTYPE') then return redis.error_reply(batch.err) end
  redis.call('HDEL', KEYS[2], group)
  redis.call('DEL', leases, KEYS[4], KEYS[5])
  return false
end
if not policy.life and redis.pcall('XGROUP', 'CREATECONSUMER', key, group, MARKER_PREFIX .. ARGV[8]) == 1 then
  begin_life(key, group, ARGV[8])
  redis.call('HSET', KEYS[2], group, '@' .. ARGV[8] .. ' ' .. policy.text)
end
if queue and not queue.is_ready then build(queue) end
local enrolled, soonest = 0, nil
local function unleased()
  for _, info in ipairs(groups_of(key)) do
    if info['name'] == group then
      return math.max(0, info['pending'] - redis.call('ZCARD', leases) - (queue and parked_in(queue) or 0))
    end
  end
  return 0
end
if queue and limit > 0 and unleased() == 0 then batch = {} end
if limit > 0 and #batch > 0 then
  local words = {'ZMSCORE', leases}
  for i, held in ipairs(batch) do words[i + 2] = held[1] end
  for i, score in ipairs(redis.call(unpack(words))) do
    local is_parked = batch[i][2] == PARKED
    if not score and not (is_parked and queue) then
      local at = is_parked and now + i or now + math.max(0, policy.lease - batch[i][3] * 1000)
      lend(leases, {batch[i][1]}, at)
      if queue and queue.is_ready then enter(queue, batch[i][1]) end
      enrolled = enrolled + 1
      if not soonest or at < soonest then soonest = at end
    end
  end
end
local next_after, backlog = '0-0', 0
if limit > 0 and #batch == limit then
  next_after, backlog = batch[#batch][1], unleased()
end
if not queue and #redis.call('XPENDING', key, group, '-', '+', 1, PARKED) == 0 then
  redis.call('XGROUP', 'DELCONSUMER', key, group, PARKED)
end
local due = redis.call('ZRANGEBYSCORE', leases, '-inf', digits(now), 'LIMIT', skip, most_due)
local strays, exhausted, gone, stuck, looked, bytes = {}, 0, 0, 0, 0, 0
for _, id in ipairs(due) do
  if bytes > 4194304 then break end
  looked = looked + 1
  local held = held_by(key, group, id)
  if not held then strays[#strays + 1] = id
  else
    local over = policy.max > 0 and held[4] >= policy.max
    local fields = entry(key, id)
    for _, text in ipairs(fields or {}) do bytes = bytes + #text end
    if over or not fields then
      local why = fields and 'max-deliveries' or 'gone'
      if not bury(key, leases, group, policy, id, fields, held[2], held[4], why, now, queue) then stuck = stuck + 1
      elseif fields then exhausted = exhausted + 1
      else gone = gone + 1 end
    end
  end
end
forget(leases, strays)
if queue then finish_all(queue, strays) end
local more_due = looked > 0 and (#due == most_due or looked < #due)
local next_skip = more_due and skip + looked - #strays - exhausted - gone or 0
local forgotten = 0
for _, flat in ipairs(ARGV[7] == '1' and policy.expiry > 0 and redis.call('XINFO', 'CONSUMERS', key, group) or {}) do
  local consumer = {}
  for i = 1, #flat, 2 do consumer[flat[i]] = flat[i + 1] end
  local name = consumer['name']
  local is_ours = is_own(name) or name:sub(1, #MARKER_PREFIX) == MARKER_PREFIX
  if not is_ours and consumer['pending'] == 0 and consumer['idle'] >= policy.expiry then
    redis.call('XGROUP', 'DELCONSUMER', key, group, name)
    forgotten = forgotten + 1
  end
end
if queue and queue.freed then soonest = now end
if soonest then redis.call('PUBLISH', channel, digits((soonest - now) / 1000)) end
return {next_after, next_skip, enrolled, exhausted, gone, stuck, forgotten, backlog, #strays, more_due and 1 or 0}
