-- `set_policy(kept, life, text)` sets a policy, or removes it (`-`). While leases remain, the
-- marker stays, so that their receipts stay valid.
local key, policies, leases, group = KEYS[1], KEYS[2], KEYS[3], ARGV[1]
local function set_policy(kept, life, text)
  local is_taken = text == '-'
  -- Without an order, the sweeper makes the entries that were read ahead due.
  if not text:find('^[^ ]+ [^ ]+ [^ ]+ [^ ]+ [%d,]*[^ ]*;order=') then redis.call('UNLINK', KEYS[4], KEYS[5]) end
  if is_taken and (not kept or retired_at(kept)) then return end
  if is_taken and redis.call('EXISTS', leases) == 0 and not is_holding(key, group) then
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
