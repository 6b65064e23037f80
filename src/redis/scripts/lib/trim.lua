-- `trim(stream, references, kind, how, threshold, limit)` trims and returns the number of
-- entries removed. With `acked`, an exact trim to a length removes at most 10,000 entries per
-- call.
local function trim(stream, references, kind, how, threshold, limit)
  if references == 'acked' then
    local bound = held_back(stream)
    if bound and kind == 'MAXLEN' then
      local excess = redis.call('XLEN', stream) - tonumber(threshold)
      if excess <= 0 then return 0 end
      kind = 'MINID'
      if how == '=' then
        excess = math.min(excess, 10000)
        local look = redis.call('XRANGE', stream, '-', '+', 'COUNT', excess + 1)
        threshold = #look > excess and look[#look][1] or bound
      else
        threshold = bound
        if limit == '' or limit == '0' or tonumber(limit) > excess then limit = excess end
      end
    end
    if bound and below(bound, threshold) then threshold = bound end
  end
  local words = {'XTRIM', stream, kind, how, threshold}
  if limit ~= '' then words[6], words[7] = 'LIMIT', limit end
  local gone = redis.call(unpack(words))
  if references == 'delete' then
    local first = oldest(stream)
    for _, group in ipairs(groups_of(stream)) do
      repeat
        local held = redis.call('XPENDING', stream, group['name'], '-', first and '(' .. first or '+', 1000)
        for _, one in ipairs(held) do redis.call('XACK', stream, group['name'], one[1]) end
      until #held == 0
    end
  end
  return gone
end
