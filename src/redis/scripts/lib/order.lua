-- the order of entries by key (`order_by`): a queue is the table of a group with its two keys.
--
-- The sorted set has only members of score 0. `HASH` is the hash of a key, 16 hexadecimal digits.
-- - `HASH!ID`: an entry of the key that is in the leases. Ids are spelled so that they sort.
-- - `HASH#ID` and `#ID`: an entry whose dead letter blocks its key.
-- - `HASH` and `ID`: an entry that was read ahead and waits for its key.
-- The other key is a hash: the hash of the key by id, for entries in the leases, and with `#` for
-- entries that block. `=` is `ready`, or how far the two keys have been built. `=rate` belongs to the
-- rate of the group.
local function spell(id)
  local ms, seq = id:match('^(%d+)-(%d+)$')
  return string.char(64 + #ms) .. ms .. string.char(64 + #seq) .. seq
end
local function unspell(text)
  local length = text:byte(1) - 64
  return text:sub(2, length + 1) .. '-' .. text:sub(length + 3)
end
local function hash_of(policy, fields)
  for i = 1, #fields, 2 do
    if fields[i] == policy.order then return redis.sha1hex(fields[i + 1]):sub(1, 16) end
  end
end
local function queue_of(key, leases, order, state, group, policy)
  if not policy.order then return nil end
  return {key = key, leases = leases, order = order, state = state, group = group, policy = policy,
    per_key = policy.keys or 1, ahead = policy.ahead or 200000,
    is_ready = redis.call('HGET', state, '=') == 'ready'}
end
local function count_in(queue, from, to) return redis.call('ZLEXCOUNT', queue.order, '[' .. from, '(' .. to) end
local function parked_in(queue)
  local kept = redis.call('HLEN', queue.state) - redis.call('HEXISTS', queue.state, '=')
    - redis.call('HEXISTS', queue.state, '=rate')
  return redis.call('ZCARD', queue.order) - kept - count_in(queue, '#', '$')
end
-- Returns how many new entries of a key may be lent. A key whose entries wait takes none.
local function room_of(queue, hash)
  local known = count_in(queue, hash, hash .. '~')
  if known == 0 then return queue.per_key end
  if queue.per_key == 1 or count_in(queue, hash .. '#', hash .. '~') > 0 then return 0 end
  return math.max(0, queue.per_key - known)
end
local function take_up(queue, id, hash)
  redis.call('ZREM', queue.order, hash .. spell(id))
  redis.call('ZADD', queue.order, 0, hash .. '!' .. spell(id))
  redis.call('HSET', queue.state, id, hash)
end
-- Makes the next entries of a key due.
local function promote(queue, hash)
  local from, to = '[' .. hash, '(' .. hash .. '~'
  local first = queue.is_ready and redis.call('ZRANGEBYLEX', queue.order, from, to, 'LIMIT', 0, 1)[1]
  if not first or count_in(queue, hash .. '#', hash .. '$') > 0 then return end
  local room = queue.per_key - count_in(queue, hash .. '!', hash .. '"')
  if room <= 0 then return end
  for _, member in ipairs(redis.call('ZRANGEBYLEX', queue.order, from .. 'A', to, 'LIMIT', 0, room)) do
    local id = unspell(member:sub(17))
    take_up(queue, id, hash)
    lend(queue.leases, {id}, queue.now or now_us())
    queue.freed = true
  end
end
local function drop(queue, id)
  local kept = redis.call('HGET', queue.state, id)
  if not kept then return nil end
  local is_block, hash = kept:match('^(#?)(.*)$')
  redis.call('HDEL', queue.state, id)
  redis.call('ZREM', queue.order, hash .. '!' .. spell(id), hash .. '#' .. spell(id), '#' .. spell(id))
  return hash, is_block == '#'
end
-- Ends the turn of an entry that is no longer pending. One that `failed` blocks its key if the policy
-- says so.
local function finish(queue, id, failed, fields)
  local hash = drop(queue, id) or fields and hash_of(queue.policy, fields)
  if not hash then return end
  if failed and queue.policy.fail ~= 'skip' then
    redis.call('ZADD', queue.order, 0, hash .. '#' .. spell(id), 0, '#' .. spell(id))
    redis.call('HSET', queue.state, id, '#' .. hash)
  else promote(queue, hash) end
end
local function finish_all(queue, ids)
  if #ids == 0 then return end
  local hashes, members, known, seen = redis.call('HMGET', queue.state, unpack(ids)), {}, {}, {}
  for i, id in ipairs(ids) do
    local hash = hashes[i]
    if hash and hash:sub(1, 1) ~= '#' then
      known[#known + 1] = id
      members[#members + 1] = hash .. '!' .. spell(id)
      seen[hash] = true
    end
  end
  if #known == 0 then return end
  redis.call('HDEL', queue.state, unpack(known))
  redis.call('ZREM', queue.order, unpack(members))
  for hash in pairs(seen) do promote(queue, hash) end
end
-- Enters an entry that is in the leases.
local function enter(queue, id)
  local fields = entry(queue.key, id)
  local hash = fields and hash_of(queue.policy, fields)
  if hash then take_up(queue, id, hash) end
end
-- Enters the next pending entries into keys that are missing, at most 1000 and about 4 MiB. First all
-- pending entries, then the keys whose entries wait.
local function build(queue)
  local phase, from = (redis.call('HGET', queue.state, '=') or 'entries -'):match('^(%a+) (.+)$')
  local ids, size = {}, 0
  if phase == 'entries' then
    local batch = redis.call('XPENDING', queue.key, queue.group, from, '+', 1000)
    for i, held in ipairs(batch) do
      if size > 4194304 then break end
      local id, fields = held[1], entry(queue.key, held[1])
      for _, text in ipairs(fields or {}) do size = size + #text end
      local hash, is_lent = fields and hash_of(queue.policy, fields), redis.call('ZSCORE', queue.leases, id)
      if hash and held[2] == PARKED and not is_lent then
        redis.call('ZADD', queue.order, 0, hash .. spell(id))
      elseif hash then take_up(queue, id, hash)
      elseif held[2] == PARKED and not is_lent then lend(queue.leases, {id}, queue.now or now_us()) end
      from = '(' .. id
      ids[i] = id
    end
    if #ids == #batch and #batch < 1000 then phase, from = 'keys', '[0' end
    redis.call('HSET', queue.state, '=', phase .. ' ' .. from)
    return
  end
  queue.is_ready = true
  local members, hash = redis.call('ZRANGEBYLEX', queue.order, from, '(g', 'LIMIT', 0, 1000), nil
  for _, member in ipairs(members) do
    local one = member:sub(1, 16)
    if one:find('^%x') and one ~= hash then
      hash = one
      promote(queue, hash)
    end
  end
  if #members < 1000 then redis.call('HSET', queue.state, '=', 'ready')
  else
    redis.call('HSET', queue.state, '=', 'keys [' .. hash .. '~')
    queue.is_ready = false
  end
end
-- Frees the key of an entry whose dead letter is gone. Returns whether it blocked its key.
local function unblock(queue, id)
  local kept = redis.call('HGET', queue.state, id)
  if not kept or kept:sub(1, 1) ~= '#' then return false end
  promote(queue, (drop(queue, id)))
  return true
end
-- Takes an entry back into its key. Returns whether it is due, or must wait for its key.
local function retake(queue, id, fields)
  local hash = drop(queue, id) or hash_of(queue.policy, fields)
  if not hash then return true end
  if not queue.is_ready or count_in(queue, hash .. '!', hash .. '"') >= queue.per_key then
    redis.call('ZADD', queue.order, 0, hash .. spell(id))
    return false
  end
  take_up(queue, id, hash)
  return true
end
