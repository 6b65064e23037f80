local words, min_idle, count = just_id and {'JUSTID'} or {}, ARGV[5], tonumber(ARGV[7])
local batch = redis.call('XPENDING', key, group, 'IDLE', min_idle, ARGV[6], '+', count)
for _, held in ipairs(batch) do take(held[1], held, min_idle, words) end
lend(leases, lent, until_us)
return {digits(until_us), taken, gone, #batch == count and batch[#batch][1] or ''}
