-- `set_policy(kept, life, text)` sets a policy, or removes it (`-`). While leases remain, the
-- marker stays, so that their receipts stay valid.
local key, policies, leases, group = KEYS[1], KEYS[2], KEYS[3], ARGV[1]
local function set_policy(kept, life, text)
  local is_taken = text == '-'
  if is_taken and (not kept or retired_at(kept)) then return end
  if is_taken and redis.call('EXISTS', leases) == 0 then
    end_life(key, group, life)
    redis.call('HDEL', policies, group)
    return
  end
  if is_taken then text = '- ' .. digits(math.floor(now_us() / 1000)) end
  if not life then
    life = ARGV[5]
    begin_life(key, group, life)
  end
  redis.call('HSET', policies, group, '@' .. life .. ' ' .. text)
end
