local policy = policy_of(KEYS[2], KEYS[1], ARGV[1])
if not policy then return '' end
local until_us = now_us() + policy.lease
lend(KEYS[3], {unpack(ARGV, 3)}, until_us)
if policy.lease < 5000000 then redis.call('PUBLISH', ARGV[2], digits(policy.lease / 1000)) end
return digits(until_us)
