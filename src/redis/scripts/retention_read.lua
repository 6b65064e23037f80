local counters = counters_of(KEYS[1])
local text = counters and rules_in(KEYS[1], counters, redis.call('GET', KEYS[2]))
if not text then return false end
return {text, blocked_by(KEYS[1], rules_of(text))}
