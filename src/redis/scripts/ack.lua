local key, leases, group = KEYS[1], KEYS[3], ARGV[1]
local retired = retired_at(kept_of(KEYS[2], key, group))
local scores, results, done, words = scores_of(leases, 3), {}, {}, {'XACK', key, group}
for n = 1, #scores do
  local id, until_us, score = ARGV[2 * n + 1], ARGV[2 * n + 2], scores[n]
  if done[id] then results[n] = 0
  elseif score and not retired and tonumber(score) == tonumber(until_us) then
    results[n] = 1
    done[id] = true
    words[#words + 1] = id
  else
    local may = verdict(key, group, id, until_us, score, retired)
    results[n] = may == 'ok' and redis.call('XACK', key, group, id) or may == 'lost' and 2 or 0
    if may == 'ok' then redis.call('ZREM', leases, id) end
  end
end
if #words > 3 then
  if redis.call(unpack(words)) == 0 then
    for n = 1, #results do results[n] = results[n] == 1 and 0 or results[n] end
  end
  forget(leases, {unpack(words, 4)})
else redis.call('XPENDING', key, group, '-', '+', 1) end
return results
