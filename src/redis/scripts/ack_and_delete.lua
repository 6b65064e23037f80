local key, leases, group = KEYS[1], KEYS[3], ARGV[1]
local groups, known, results = groups_of(key), false, {}
for _, one in ipairs(groups) do known = known or one['name'] == group end
if not known then return redis.error_reply('NOGROUP there is none of this name') end
local text = kept_of(KEYS[2], key, group)
local retired, policy = retired_at(text), text and text:find(';', 1, true) and parsed(text)
local queue = policy and queue_of(key, leases, KEYS[4], KEYS[5], group, policy)
local scores = scores_of(leases, 4)
for i = 4, #ARGV, 2 do
  local id, n = ARGV[i], i / 2 - 1
  local may = verdict(key, group, id, ARGV[i + 1], scores[n], retired)
  if may == 'ok' then
    redis.call('ZREM', leases, id)
    local acked = redis.call('XACK', key, group, id)
    if queue then finish(queue, id) end
    results[n] = acked == 0 and 0 or remove(key, groups, ARGV[3], id)
  else results[n] = may == 'lost' and 3 or 0 end
end
if policy and policy.flight or queue and queue.freed then redis.call('PUBLISH', ARGV[2], '0') end
return results
