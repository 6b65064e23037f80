redis.call('XPENDING', key, group, '-', '+', 1)
local kept, life = kept_of(policies, key, group)
local seen = kept and not retired_at(kept) and kept or '-'
if ARGV[4] ~= '' and seen ~= ARGV[3] then return redis.error_reply('CHANGED by someone else') end
if #ARGV > 5 then redis.call('XGROUP', 'SETID', key, group, unpack(ARGV, 6)) end
if ARGV[4] ~= '' then set_policy(kept, life, ARGV[4]) end
redis.call('PUBLISH', ARGV[2], '0')
return 1
