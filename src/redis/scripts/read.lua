local group, consumer, count, own = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local bytes, no_ack = tonumber(ARGV[5]), ARGV[6] == '1'
local streams, now = #KEYS / 3, now_us()
if streams > 1 then
  for i = 1, streams do redis.call('XPENDING', KEYS[3 * i - 2], group, '-', '+', 1) end
end
local rules = {}
for i = 1, streams do
  local policy, refused = nil, nil
  if own ~= '' then policy, refused = needed(KEYS[3 * i - 1], KEYS[3 * i - 2], group)
  elseif not no_ack then policy = policy_of(KEYS[3 * i - 1], KEYS[3 * i - 2], group) end
  if refused then return refused end
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
local function fitting(key, limit)
  local groups, from = redis.pcall('XINFO', 'GROUPS', key), nil
  for _, flat in ipairs(groups) do
    local found = {}
    for i = 1, #flat, 2 do found[flat[i]] = flat[i + 1] end
    if found['name'] == group then from = '(' .. found['last-delivered-id'] end
  end
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
local function read(key, leases, policy, channel)
  if not policy then return {'', {}, {}, fresh_of(key, count), '', 0, 0, 0} end
  local length = own ~= '' and own * 1000 or policy.lease
  local until_us, taken, counts = now + length, {}, {}
  local exhausted, gone, stuck = 0, 0, 0
  local function lay_down(id, fields, held, reason)
    if bury(key, leases, group, policy, id, fields, held[2], held[4], reason, now) then return true end
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
  if not bytes then take(math.floor((count + now % 2) / 2))
  elseif now % 2 == 0 then take(math.ceil(count / 2), spent + (bytes - spent) / 2) end
  local fresh = {}
  if #taken < count then
    fresh = fresh_of(key, count - #taken)
    local ids = {}
    for i, got in ipairs(fresh) do ids[i] = got[1] end
    lend(leases, ids, until_us)
  end
  take(count - #taken - #fresh, bytes)
  local due_in = ''
  if #taken + #fresh == 0 then
    touch(key)
    local first = redis.call('ZRANGE', leases, 0, 0, 'WITHSCORES')
    if first[2] then due_in = digits(math.max(0, first[2] - now)) end
  elseif length < 5000000 then
    redis.call('PUBLISH', channel, digits(length / 1000))
  end
  return {digits(until_us), taken, counts, fresh, due_in, exhausted, gone, stuck}
end
local answers = {}
for turn = 1, streams do
  local i = turn
  if bytes then i = (math.floor(now / 2) + turn) % streams + 1 end
  answers[i] = read(KEYS[3 * i - 2], KEYS[3 * i], rules[i], ARGV[6 + i])
end
return answers
