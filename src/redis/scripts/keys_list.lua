local key, leases, group = KEYS[1], KEYS[3], ARGV[1]
local from, limit = ARGV[3], tonumber(ARGV[4])
local policy, refused = needed(KEYS[2], key, group)
if refused then return refused end
local queue = queue_of(key, leases, KEYS[4], KEYS[5], group, policy)
if not queue then return redis.error_reply('UNORDERED the group has no order') end
local only = ARGV[5] == 'hash' and ARGV[6] or ARGV[5] == 'key' and redis.sha1hex(ARGV[6]):sub(1, 16)
local found, size, start = {}, 0, '[' .. (only or from ~= '' and from or '0')
while #found < limit and size < 4194304 do
  local first = redis.call('ZRANGEBYLEX', queue.order, start, '(g', 'LIMIT', 0, 1)[1]
  if not first then return {found, ''} end
  if not first:find('^%x') then start = '[a'
  else
    local hash = first:sub(1, 16)
    if only and hash ~= only then return {found, ''} end
    local ids, name = {}, false
    local lent = redis.call('ZRANGEBYLEX', queue.order, '[' .. hash .. '!', '(' .. hash .. '"', 'LIMIT', 0, 1)[1]
    local block = redis.call('ZRANGEBYLEX', queue.order, '[' .. hash .. '#', '(' .. hash .. '$', 'LIMIT', 0, 1)[1]
    local waiting = redis.call('ZRANGEBYLEX', queue.order, '[' .. hash .. 'A', '(' .. hash .. '~', 'LIMIT', 0, 1)[1]
    for i, member in ipairs({lent or false, block or false, waiting or false}) do
      ids[i] = member and unspell(member:sub(member:find('[!#]') and 18 or 17)) or ''
      local fields = ids[i] ~= '' and not name and entry(key, ids[i])
      for at = 1, fields and #fields or 0, 2 do
        size = size + #fields[at] + #fields[at + 1]
        if fields[at] == policy.order and not name then name = fields[at + 1] end
      end
    end
    if name and redis.sha1hex(name):sub(1, 16) ~= hash then name = false end
    found[#found + 1] = {hash, name, ids[1], ids[2], ids[3], count_in(queue, hash .. '!', hash .. '"'),
      count_in(queue, hash .. '#', hash .. '$'), count_in(queue, hash .. 'A', hash .. '~')}
    start = '[' .. hash .. '~'
  end
end
local rest = redis.call('ZRANGEBYLEX', queue.order, start, '(g', 'LIMIT', 0, 1)[1]
return {found, rest and start:sub(2) or ''}
