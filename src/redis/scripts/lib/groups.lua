-- `groups_of(key)` returns the groups of a stream, each as a table of its XINFO GROUPS
-- properties. Returns an empty table if the key does not exist.
local function groups_of(key)
  local groups = {}
  if redis.call('EXISTS', key) == 0 then return groups end
  for _, flat in ipairs(redis.call('XINFO', 'GROUPS', key)) do
    local group = {}
    for i = 1, #flat, 2 do group[flat[i]] = flat[i + 1] end
    groups[#groups + 1] = group
  end
  return groups
end
