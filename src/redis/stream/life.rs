//! Lives of streams: tells a stream from another one that a client made under its name.
//!
//! Redis gives streams no creation id. So what is kept beside a stream (its retention, idempotency
//! keys) carries a record of the stream's counters: the last id, how many entries were added, and
//! whether an entry of that id was there. The record is judged by the rules of `model/history.rs`: a
//! stream whose counters cannot follow from the record is another one. The rules never take the same
//! stream for another. They miss a stream whose last id and counters lie above those recorded, if at
//! least as many entries were removed from it as were recorded as added.
//!
//! Counters that XSETID sets back look like another stream; where the gateway does so it writes the
//! record anew.

/// Lua: `counters_of(stream)` reads the counters, nothing of a key that is no stream;
/// `record_of(counters)` is their record; `is_replaced(stream, counters, record)` tells whether the
/// stream is another one; `never_had(stream, counters, id)` whether an entry that once was added was not
/// added to this stream. The argument named is `1` where entries may be removed from the middle without
/// a trace. It needs `below`.
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
