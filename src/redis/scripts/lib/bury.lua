-- `bury(…)` moves an entry to the dead letters of its group and acknowledges it, atomically.
-- In a group with `order_by`, `queue` is its order; the key then waits for the dead letter or goes on.
-- Returns false and changes nothing if the dead-letter key holds another type.
--
-- An entry deleted from the stream becomes a tombstone with its id. If an entry has more than 3500
-- fields, which XADD does not accept from a script, the fields are packed into one. A single field
-- of the same name is packed as well, because it would be taken for packed fields otherwise.
local function can_bury(dead)
  local kind = redis.call('TYPE', dead).ok
  return kind == 'stream' or kind == 'none'
end
local function bury(key, leases, group, policy, id, fields, consumer, count, reason, now, queue)
  local original = fields
  local words, said = {'XADD', policy.dead, '*'}, {
    'stream', shown(key, policy.hidden), 'id', id, 'group', group, 'consumer', is_own(consumer) and '' or consumer,
    'deliveries', digits(count), 'reason', reason, 'time', digits(math.floor(now / 1000))}
  if fields and (#fields > 7000 or #fields == 2 and fields[1] == PACKED_FIELD) then
    fields = {PACKED_FIELD, cmsgpack.pack(fields)}
  end
  for i = 1, fields and #fields or 0 do words[i + 3] = fields[i] end
  local at = #words
  for i = 1, #said, 2 do
    words[at + i] = LETTER_FIELD .. said[i]
    words[at + i + 1] = said[i + 1]
  end
  local done = redis.pcall(unpack(words))
  if type(done) == 'table' and done.err then return false end
  redis.call('XACK', key, group, id)
  redis.call('ZREM', leases, id)
  if queue then finish(queue, id, reason ~= 'gone', original) end
  return true
end
