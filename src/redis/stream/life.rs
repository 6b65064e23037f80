//! Stream identity: detects that a stream was replaced by another stream of the same name.
//!
//! Redis gives streams no creation id. Data that the gateway keeps about a stream (retention,
//! idempotency keys) therefore carries a record of the stream's counters: the last id, the number
//! of entries added, and whether an entry with the last id existed. The rules of `model/history.rs`
//! evaluate the record: if the current counters cannot follow from the record, the stream was
//! replaced.
//!
//! The rules never report an unchanged stream as replaced. They miss a replacement whose last id
//! and counters are above those recorded, if at least as many entries were removed from it as were
//! recorded as added.
//!
//! Counters that XSETID sets back look like a replaced stream. When the gateway sets counters back,
//! it rewrites the record.

/// Lua functions that detect a replaced stream. They need `below`. The macro argument is the Lua
/// expression that is `'1'` where entries may be removed from the middle without a trace.
///
/// - `counters_of(stream)` reads the counters, or returns nil if the key is not a stream.
/// - `record_of(counters)` returns their record.
/// - `is_replaced(stream, counters, record)` returns whether the stream was replaced.
/// - `never_had(stream, counters, id)` returns whether an entry that was once added was not added
///   to this stream.
macro_rules! lua_stream_life {
    ($holes:literal) => {
        concat!(
            "local holes = ",
            $holes,
            " == '1'\n",
            "\
local function counters_of(stream)
  if redis.call('TYPE', stream).ok ~= 'stream' then return nil end
  local info, flat = {}, redis.call('XINFO', 'STREAM', stream)
  for i = 1, #flat, 2 do info[flat[i]] = flat[i + 1] end
  local first, last = info['first-entry'], info['last-entry']
  return {length = info['length'], last_id = info['last-generated-id'], added = info['entries-added'],
    deleted = info['max-deleted-entry-id'], first = first and first[1], last = last and last[1]}
end
local function record_of(c)
  local added = c.added and string.format('%.0f', c.added) or '-'
  return c.last_id .. ' ' .. added .. ' ' .. (c.last == c.last_id and 'entry' or 'none')
end
local function lacks(stream, c, id)
  local must = c.added == c.length
  if not must and c.first and not below(id, c.first) then
    must = not holes and c.deleted and below(c.deleted, id)
  end
  return must and #redis.call('XRANGE', stream, id, id) == 0
end
local function is_replaced(stream, c, record)
  local last, n, kind = record:match('^(%S+) (%S+) (%S+)')
  n = tonumber(n)
  if not c or below(c.last_id, last) or n and c.added and n > c.added then return true end
  local is_below = below(last, c.first or c.last_id)
  if is_below and n and c.added and c.added - n < c.length then return true end
  return kind == 'entry' and lacks(stream, c, last)
end
local function never_had(stream, c, id)
  return not c or below(c.last_id, id) or lacks(stream, c, id)
end\n"
        )
    };
}
pub(in crate::redis) use lua_stream_life;
