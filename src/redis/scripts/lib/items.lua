-- `verdict(…)` returns 'ok' if the caller's lease permits an operation on an entry, and
-- otherwise 'lost' or 'none' (not pending).
--
-- In a group whose policy was removed (at the time `retired`), a lease does not protect against
-- claims. The entry must then not have been delivered to any consumer since.
local function scores_of(leases, from)
  local words = {'ZMSCORE', leases}
  for i = from, #ARGV, 2 do words[#words + 1] = ARGV[i] end
  return redis.call(unpack(words))
end
local function verdict(key, group, id, until_us, score, retired)
  if until_us == '' then return 'ok' end
  local is_same = score and tonumber(score) == tonumber(until_us)
  if is_same and not retired then return 'ok' end
  local held = redis.call('XPENDING', key, group, id, id, 1)[1]
  if is_same and held and now_us() / 1000 - held[3] <= retired + 2 then return 'ok' end
  return (held or score and not retired) and 'lost' or 'none'
end
