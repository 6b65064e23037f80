local key, leases, group = KEYS[1], KEYS[3], ARGV[1]
local text = kept_of(KEYS[2], key, group)
local retired, policy = retired_at(text), text and text:find(';', 1, true) and parsed(text)
local queue = policy and queue_of(key, leases, KEYS[4], KEYS[5], group, policy)
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
    if may == 'ok' then
      redis.call('ZREM', leases, id)
      if queue then finish(queue, id) end
    end
  end
end
if #words > 3 then
  if redis.call(unpack(words)) == 0 then
    for n = 1, #results do results[n] = results[n] == 1 and 0 or results[n] end
  end
  local ids = {unpack(words, 4)}
  forget(leases, ids)
  if queue then finish_all(queue, ids) end
else redis.call('XPENDING', key, group, '-', '+', 1) end
if policy and policy.flight or queue and queue.freed then redis.call('PUBLISH', ARGV[2], '0') end
return results
