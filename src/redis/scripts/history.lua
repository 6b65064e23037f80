local group, consumer, from, count = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local answers, share = {}, tonumber(ARGV[5])
for i = 1, #KEYS, 6 do
  if not policy_of(KEYS[i + 1], KEYS[i], group) then return false end
  local found, spent = {}, 0
  for _, held in ipairs(redis.call('XPENDING', KEYS[i], group, from, '+', count, consumer)) do
    local entry = redis.call('XRANGE', KEYS[i], held[1], held[1])[1]
    for _, text in ipairs(entry and entry[2] or {}) do spent = spent + #text end
    if spent > share and #found > 0 then break end
    local score = redis.call('ZSCORE', KEYS[i + 2], held[1])
    found[#found + 1] = {held[1], entry and entry[2] or false, held[4], score and digits(tonumber(score)) or ''}
  end
  answers[#answers + 1] = found
end
return answers
