-- `kept_of(policies, key, group)` returns the stored policy of a group and the random part of
-- its marker, or nothing if there is neither. If the policy was set on an earlier group of this
-- name, it ends the script with `OTHERLIFE` before anything was written.
--
-- A server that is read-only or out of memory cannot detect this; the group then counts as
-- unchanged.
local function is_other_life(key, group, life)
  local marker = MARKER_PREFIX .. life
  if redis.pcall('XGROUP', 'CREATECONSUMER', key, group, marker) ~= 1 then return false end
  redis.call('XGROUP', 'DELCONSUMER', key, group, marker)
  return true
end
local function split_life(kept)
  local life, text = kept:match('^@(%x+) (.*)$')
  return text or kept, life
end
local function kept_of(policies, key, group)
  local kept = redis.call('HGET', policies, group)
  if not kept then return nil end
  local text, life = split_life(kept)
  if life and is_other_life(key, group, life) then error('OTHERLIFE the group was made anew', 0) end
  return text, life
end
local function retired_at(text) return text and tonumber(text:match('^%- (%d+)$')) end
local function begin_life(key, group, life)
  redis.call('XGROUP', 'CREATECONSUMER', key, group, MARKER_PREFIX .. life)
  redis.call('XGROUP', 'CREATECONSUMER', key, group, NOBODY)
end
local function end_life(key, group, life)
  if life then redis.call('XGROUP', 'DELCONSUMER', key, group, MARKER_PREFIX .. life) end
  for _, own in ipairs({NOBODY, PARKED}) do
    if #redis.call('XPENDING', key, group, '-', '+', 1, own) == 0 then
      redis.call('XGROUP', 'DELCONSUMER', key, group, own)
    end
  end
end
-- Returns whether the gateway's consumers hold entries of a group.
local function is_holding(key, group)
  for _, own in ipairs({NOBODY, PARKED}) do
    if #redis.call('XPENDING', key, group, '-', '+', 1, own) > 0 then return true end
  end
  return false
end
