local made = redis.pcall('XGROUP', 'CREATE', key, group, unpack(ARGV, 6))
local kept, life
if made.err then
  if not made.err:find('BUSYGROUP') then return redis.error_reply(made.err) end
  if ARGV[4] == '1' then return 0 end
  if ARGV[3] ~= '' then kept, life = kept_of(policies, key, group) end
else
  redis.call('HDEL', policies, group)
  redis.call('DEL', leases, KEYS[4], KEYS[5])
end
if ARGV[3] ~= '' then set_policy(kept, life, ARGV[3]) end
redis.call('PUBLISH', ARGV[2], '0')
return made.err and 0 or 1
