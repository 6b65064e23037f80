local left = redis.call('PTTL', KEYS[1])
if left >= 0 then redis.call('PEXPIRE', KEYS[1], math.max(left, tonumber(ARGV[1]))) end
return left
