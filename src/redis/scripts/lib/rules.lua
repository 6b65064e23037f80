-- `rules_in(stream, counters, text)` returns the retention from the stored string, or nil if
-- the stream was replaced. It needs `stream_life`.
local function rules_in(stream, counters, text)
  if not text then return nil end
  local rules, record = text:match('^(%a+ %S+ %S+ %S+) ?(.*)$')
  if record ~= '' and is_replaced(stream, counters, record) then return nil end
  return rules
end
