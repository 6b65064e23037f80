local due = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not due then return false end
return {ARGV[1], due, (redis.call('HGET', KEYS[2], ARGV[1]) or '0\n'):match('^%d+')}
