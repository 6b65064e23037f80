local key, leases, group, channel = KEYS[1], KEYS[3], ARGV[1], ARGV[2]
local nobody, copy, to = ARGV[3], ARGV[4] == '1', ARGV[5]
local policy, refused = needed(KEYS[2], key, group)
if refused then return refused end
expect_dead(policy, leases, KEYS[6])
local queue = queue_of(key, leases, KEYS[4], KEYS[5], group, policy)
for _, stream in ipairs({policy.dead, to ~= '' and to or key}) do
  local kind = redis.call('TYPE', stream).ok
  if kind ~= 'none' and kind ~= 'stream' then return redis.error_reply('DEADLETTER it is no stream') end
end
local now, freed, results = now_us(), {}, {}
local function redrive(id)
  local letter = redis.call('XRANGE', policy.dead, id, id)[1]
  local fields = letter and letter[2]
  local at = fields and #fields - 14 or -1
  if at < 0 or fields[at + 1] ~= LETTER_FIELD .. 'stream' or fields[at + 2] ~= shown(key, policy.hidden)
      or fields[at + 5] ~= LETTER_FIELD .. 'group' or fields[at + 6] ~= group then return {'not-found', ''} end
  local original = fields[at + 4]
  if to == '' then
    if held_by(key, group, original) then return {'pending', ''} end
    local whole = entry(key, original)
    if whole then
      local waits = queue and not retake(queue, original, whole)
      local to_own = waits and PARKED or nobody
      redis.call('XCLAIM', key, group, to_own, 0, original, 'RETRYCOUNT', 0, 'FORCE', 'JUSTID')
      redis.call('XDEL', policy.dead, id)
      if not waits then freed[#freed + 1] = original end
      return {'redriven', ''}
    end
  end
  if to == '' and not copy or at == 0 then return {'gone', ''} end
  if at == 2 and fields[1] == PACKED_FIELD then
    local packed, whole = pcall(cmsgpack.unpack, fields[2])
    if packed and type(whole) == 'table' then
      if #whole > 7000 then return {'packed', ''} end
      fields, at = whole, #whole
    end
  end
  local words = {'XADD', to ~= '' and to or key, '*'}
  for i = 1, at do words[i + 3] = fields[i] end
  local copied = redis.call(unpack(words))
  redis.call('XDEL', policy.dead, id)
  if queue then unblock(queue, original) end
  return {'copied', copied}
end
for i = 6, #ARGV do
  results[i - 5] = redrive(ARGV[i])
  if results[i - 5][1] == 'packed' then break end
end
lend(leases, freed, now)
if #freed > 0 or queue and queue.freed then redis.call('PUBLISH', channel, '0') end
return results
