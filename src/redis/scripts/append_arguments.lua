-- Arguments of the append script, and the locals that `keys` needs.
local stream, known, ends = KEYS[1], KEYS[2], KEYS[3]
local at = 1
local function take() at = at + 1 return ARGV[at] end
local if_match, if_new, no_make, window = take(), take(), take(), tonumber(take())
local by_last = take() == '1'
local whole, whole_print, atomic = take(), take(), take() == '1'
local trimming = {}
for i = 1, tonumber(take()) do trimming[i] = take() end

local kind = redis.call('TYPE', stream).ok
if kind ~= 'none' and kind ~= 'stream' then return redis.error_reply('WRONGTYPE the key holds no stream') end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
