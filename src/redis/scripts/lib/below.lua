-- `below(a, b)` returns whether id `a` is less than id `b`. Compares the digits as text, by
-- length first, because Lua numbers are too small for ids.
local function below(a, b)
  local am, as = a:match('^(%d+)-(%d+)$')
  local bm, bs = b:match('^(%d+)-(%d+)$')
  if am ~= bm then return #am < #bm or (#am == #bm and am < bm) end
  return #as < #bs or (#as == #bs and as < bs)
end
