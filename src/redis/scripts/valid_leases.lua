local key, leases, group, consumer, pending = KEYS[1], KEYS[3], ARGV[1], ARGV[3], ARGV[4] == '1'
local now, results = now_us(), {}
for n, score in ipairs(scores_of(leases, 5)) do
  local id, ends = ARGV[2 * n + 3], tonumber(ARGV[2 * n + 4])
  local holds = score and tonumber(score) == ends and ends > now
  if holds and pending then
    local held = held_by(key, group, id)
    holds = held and held[2] == consumer
  end
  results[n] = holds and 1 or 0
end
return results
