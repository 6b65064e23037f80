-- Arguments of an acknowledgement that publishes, and the locals that `keys` needs.
local key, leases, group, window = KEYS[1], KEYS[3], ARGV[2], tonumber(ARGV[4])
local at = 4
local function take() at = at + 1 return ARGV[at] end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local stream, known, ends
