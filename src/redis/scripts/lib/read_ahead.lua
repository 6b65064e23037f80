-- `read_ahead(queue, consumer, want, take_page)` reads new entries of a group with `order_by`. Those of
-- free keys go to the consumer, the others wait in the queue. Returns the entries of the consumer,
-- and whether more entries may follow. A call looks at about 1000 entries and 4 MiB.
--
-- `take_page(limit, accept)` reads entries until `accept` refuses one.
local function read_ahead(queue, consumer, want, take_page)
  local lent, away, ready, members, kept, room = {}, {}, {}, {}, {}, {}
  local looked, size, step, left, more = 0, 0, want, queue.ahead - parked_in(queue), true
  if left <= 0 then return lent, false, true end
  local function accept(got, fits)
    local hash, id = hash_of(queue.policy, got[2]), got[1]
    if hash and not room[hash] then room[hash] = room_of(queue, hash) end
    local is_free = not hash or room[hash] > 0
    if is_free and #lent < want and not fits(got[2]) then return false end
    looked = looked + 1
    for _, text in ipairs(got[2]) do size = size + #text end
    if is_free and #lent < want then lent[#lent + 1] = got
    else
      away[#away + 1] = id
      if is_free then ready[#ready + 1] = id else left = left - 1 end
    end
    if not hash then return true end
    members[#members + 1] = 0
    if is_free then
      room[hash] = room[hash] - 1
      kept[#kept + 1] = id
      kept[#kept + 1] = hash
      members[#members + 1] = hash .. '!' .. spell(id)
    else
      room[hash] = 0
      members[#members + 1] = hash .. spell(id)
    end
    return true
  end
  while more and #lent < want and looked < 1000 and size < 4194304 and left > 0 do
    local limit, before = math.min(step, 1000 - looked, left), #lent
    more = take_page(limit, accept)
    -- Larger steps only where no key is free: what is read and not wanted must wait behind others.
    step = #lent > before and want - #lent or math.min(256, math.max(16, step * 2))
  end
  if #members > 0 then redis.call('ZADD', queue.order, unpack(members)) end
  if #kept > 0 then redis.call('HSET', queue.state, unpack(kept)) end
  if #away > 0 then
    local words = {'XCLAIM', queue.key, queue.group, PARKED, 0, unpack(away)}
    for _, word in ipairs({'RETRYCOUNT', 0, 'JUSTID'}) do words[#words + 1] = word end
    redis.call(unpack(words))
    lend(queue.leases, ready, queue.now or now_us())
    queue.freed = queue.freed or #ready > 0
  end
  return lent, more, left <= 0
end
