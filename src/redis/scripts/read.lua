local group, consumer, count, own = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local bytes, no_ack = tonumber(ARGV[5]), ARGV[6] == '1'
local streams, now = #KEYS / 6, now_us()
if streams > 1 then
  for i = 1, streams do redis.call('XPENDING', KEYS[6 * i - 5], group, '-', '+', 1) end
end
local rules, is_retired = {}, {}
for i = 1, streams do
  local policy, refused = nil, nil
  if own ~= '' then policy, refused = needed(KEYS[6 * i - 4], KEYS[6 * i - 5], group)
  else
    local text, life = kept_of(KEYS[6 * i - 4], KEYS[6 * i - 5], group)
    policy, is_retired[i] = parsed(text, life), retired_at(text)
  end
  if refused then return refused end
  if no_ack and policy and policy.order then return redis.error_reply('ORDERED the group has an order') end
  expect_dead(policy, KEYS[6 * i - 3], KEYS[6 * i])
  rules[i] = policy or false
end
local spent, some = 0, false
local function fits(fields, most)
  local size = 0
  for _, text in ipairs(fields) do size = size + #text end
  if some and spent + size > most then return false end
  spent, some = spent + size, true
  return true
end
local function touch(key)
  redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', 1, 'STREAMS', key,
    '18446744073709551615-18446744073709551614')
end
local function last_delivered(key)
  for _, flat in ipairs(redis.pcall('XINFO', 'GROUPS', key)) do
    local found = {}
    for i = 1, #flat, 2 do found[flat[i]] = flat[i + 1] end
    if found['name'] == group then return '(' .. found['last-delivered-id'] end
  end
end
local function fitting(key, limit)
  local from = last_delivered(key)
  if not from then return limit end
  local fit, before, step = 0, spent, 1
  while fit < limit do
    local page = redis.pcall('XRANGE', key, from, '+', 'COUNT', math.min(limit - fit, step))
    for _, found in ipairs(page) do
      if not fits(found[2], bytes) then return fit end
      fit = fit + 1
    end
    if #page < math.min(limit - fit + #page, step) then return math.max(fit, 1) end
    from = '(' .. page[#page][1]
    step = math.max(1, math.min(16, math.floor((bytes - spent) * fit / math.max(1, spent - before))))
  end
  return fit
end
local function fresh_of(key, limit)
  if bytes then limit = fitting(key, limit) end
  if limit == 0 then
    touch(key)
    return {}
  end
  local words = {'XREADGROUP', 'GROUP', group, consumer, 'COUNT', limit}
  if no_ack then words[7] = 'NOACK' end
  local at = #words
  words[at + 1], words[at + 2], words[at + 3] = 'STREAMS', key, '>'
  local read = redis.call(unpack(words))
  return read and read[1] and read[1][2] or {}
end
local function pages_of(key)
  local from
  local function fits_whole(fields) return fits(fields, bytes) end
  local function fits_any() return true end
  return function(limit, accept)
    if not bytes then
      local page = fresh_of(key, limit)
      for _, got in ipairs(page) do accept(got, fits_any) end
      return #page == limit
    end
    from, limit = from or last_delivered(key), math.min(limit, 16)
    local page, taken = from and redis.pcall('XRANGE', key, from, '+', 'COUNT', limit) or {}, 0
    for _, got in ipairs(page) do
      if not accept(got, fits_whole) then break end
      taken = taken + 1
    end
    if taken > 0 then
      redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', taken, 'STREAMS', key, '>')
      from = '(' .. page[taken][1]
    end
    return taken == limit
  end
end
-- Takes entries that the consumers of the gateway still hold in a group whose policy was removed.
local function stranded_in(key, leases)
  local got = {}
  for _, holder in ipairs({NOBODY, PARKED}) do
    local ids, rest = {}, count - #got
    for _, held in ipairs(rest > 0 and redis.call('XPENDING', key, group, '-', '+', rest, holder) or {}) do
      local fields = bytes and entry(key, held[1])
      if fields and not fits(fields, bytes) then break end
      ids[#ids + 1] = held[1]
    end
    for _, one in ipairs(#ids > 0 and redis.call('XCLAIM', key, group, consumer, 0, unpack(ids)) or {}) do
      if one and one[2] then got[#got + 1] = one end
    end
    forget(leases, ids)
  end
  return got
end
local function read(at, policy, channel, was_policy)
  local key, leases, count = KEYS[at], KEYS[at + 2], count
  if not policy or no_ack and not policy.paused then
    local got = was_policy and not no_ack and stranded_in(key, leases) or {}
    for _, one in ipairs(#got < count and fresh_of(key, count - #got) or {}) do got[#got + 1] = one end
    return {'', {}, {}, got, '', 0, 0, 0, 0}
  end
  local queue = queue_of(key, leases, KEYS[at + 3], KEYS[at + 4], group, policy)
  if queue then queue.now = now end
  if queue and not queue.is_ready then
    build(queue)
    if not queue.is_ready then return {digits(now), {}, {}, {}, '', 0, 0, 0, 1} end
  end
  local wait
  count, wait = allowed_by(policy, leases, KEYS[at + 4], now, count)
  if count == 0 then
    touch(key)
    return {digits(now), {}, {}, {}, wait and digits(wait) or '', 0, 0, 0, 0}
  end
  local length = own ~= '' and own * 1000 or policy.lease
  local until_us, taken, counts = now + length, {}, {}
  local exhausted, gone, stuck = 0, 0, 0
  local function lay_down(id, fields, held, reason)
    if bury(key, leases, group, policy, id, fields, held[2], held[4], reason, now, queue) then return true end
    lend(leases, {id}, now + policy.lease)
    stuck = stuck + 1
    return false
  end
  local function take(limit, most)
    local looked, full = 0, false
    while limit > 0 and looked < 1000 and not full do
      local due = redis.call('ZRANGEBYSCORE', leases, '-inf', digits(now), 'LIMIT', 0, limit)
      if #due == 0 then return end
      looked = looked + #due
      local ids, records, strays = {}, {}, {}
      for _, id in ipairs(due) do
        local held = held_by(key, group, id)
        if not held then strays[#strays + 1] = id
        elseif policy.max > 0 and held[4] >= policy.max then
          local fields = entry(key, id)
          if lay_down(id, fields, held, fields and 'max-deliveries' or 'gone') then
            if fields then exhausted = exhausted + 1 else gone = gone + 1 end
          end
        else
          local fields = bytes and entry(key, id)
          if fields and not fits(fields, most) then
            full = true
            break
          end
          ids[#ids + 1] = id
          records[id] = held
        end
      end
      forget(leases, strays)
      if queue then finish_all(queue, strays) end
      if #ids > 0 then
        local lent = {}
        for _, got in ipairs(redis.call('XCLAIM', key, group, consumer, 0, unpack(ids))) do
          if got and got[2] then
            taken[#taken + 1] = got
            counts[#counts + 1] = records[got[1]][4] + 1
            lent[#lent + 1] = got[1]
            records[got[1]] = nil
          end
        end
        lend(leases, lent, until_us)
        for id, held in pairs(records) do
          if lay_down(id, nil, held, 'gone') then gone = gone + 1 end
        end
        limit = limit - #lent
      end
    end
  end
  local half = math.floor((count + now % 2) / 2)
  -- Entries that were read ahead are due; when there are many, new ones can wait.
  if queue and redis.call('ZCOUNT', leases, '-inf', digits(now)) > 256 then half = math.max(half, count - 1) end
  if not bytes then take(half)
  elseif now % 2 == 0 then take(math.ceil(count / 2), spent + (bytes - spent) / 2) end
  local fresh, more, full = {}, false, false
  if #taken < count then
    if queue then fresh, more, full = read_ahead(queue, consumer, count - #taken, pages_of(key))
    else fresh = fresh_of(key, count - #taken) end
    local ids = {}
    for i, got in ipairs(fresh) do ids[i] = got[1] end
    lend(leases, ids, until_us)
  end
  take(count - #taken - #fresh, bytes)
  spend(policy, KEYS[at + 4], now, #taken + #fresh)
  if queue and queue.freed then redis.call('PUBLISH', channel, '0') end
  local due_in = ''
  if #taken + #fresh == 0 then
    touch(key)
    local first = redis.call('ZRANGE', leases, 0, 0, 'WITHSCORES')
    if first[2] then due_in = digits(math.max(0, first[2] - now)) end
  elseif length < 5000000 then
    redis.call('PUBLISH', channel, digits(length / 1000))
  end
  return {digits(until_us), taken, counts, fresh, due_in, exhausted, gone, stuck, more and 1 or full and 2 or 0}
end
local answers = {}
for turn = 1, streams do
  local i = turn
  if bytes then i = (math.floor(now / 2) + turn) % streams + 1 end
  answers[i] = read(6 * i - 5, rules[i], ARGV[6 + i], is_retired[i])
end
return answers
