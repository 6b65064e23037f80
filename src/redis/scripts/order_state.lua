local policy = policy_of(KEYS[2], KEYS[1], ARGV[1])
local queue = policy and queue_of(KEYS[1], KEYS[3], KEYS[4], KEYS[5], ARGV[1], policy)
if not queue then return false end
local blocked, parked = count_in(queue, '#', '$'), parked_in(queue)
local oldest = redis.call('ZRANGEBYLEX', queue.order, '[#', '($', 'LIMIT', 0, 1)[1]
local lent = redis.call('ZCARD', queue.order) - parked - 2 * blocked
return {lent, blocked, parked, oldest and unspell(oldest:sub(2)) or '', math.floor(now_us() / 1000)}
