return release(KEYS[1], KEYS[2], ARGV[1], #(redis.call('HGET', KEYS[2], ARGV[1]) or ''))
