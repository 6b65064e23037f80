//! Idempotency keys: what is remembered of them beside their stream, in its slot.
//!
//! A hash has for each key when it is to be forgotten, the fingerprint of what was appended and its
//! ids; a sorted set, by when they end, only finds the keys that are over. Either may be evicted or
//! expire without the other. The hash also holds a record of the stream (`stream_life.rs`), written
//! by the append of a key once a second and by a job of one gateway: keys of a stream that another
//! client replaced are forgotten.

use deadpool_redis::redis::{Cmd, Value};

use super::decode::{bytes, list, text, tuple, unsigned};
use super::leases::Verb;
use super::pool::Repeat;
use super::stream_life::lua_stream_life;
use super::{Store, StoreError};
use crate::model::name::{OWN_PREFIX, StreamName};

/// The set of streams that have keys. It lies in a slot of its own and is written after the keys.
const INDEX: &str = "streamgate:{idempotency}:index";

/// The keys beside a stream that remember idempotency keys: in its slot, and deleted with it.
pub(super) fn keys(stream: &StreamName) -> [String; 2] {
    let (name, tag) = (stream.as_str(), stream.tag());
    // Streams that share a tag share the slot, but not what is remembered of them.
    ["known", "ends"].map(|kind| format!("{OWN_PREFIX}{{{tag}}}:idempotency:{kind}:{name}"))
}

/// Lua: `recall(key)` answers fingerprint and ids of a key whose window is not over; `remember(key,
/// print, ids)` keeps them for the window, and no other key for less than was promised; `is_due()`
/// before and `record()` after a write keep the record of the stream. `marks` says what happened
/// beside. It needs `lua_stream_life` and the locals `stream`, `known`, `ends`, `now`, `window`.
macro_rules! lua_keys {
    () => {
        "\
local before, is_former, marks = nil, nil, ''
local function counters()
  if before == nil then before = counters_of(stream) or false end
  return before
end
local function judge()
  if is_former == nil then
    local record = redis.call('HGET', known, 'life')
    is_former = record and is_replaced(stream, counters(), record) or false
  end
  return is_former
end
local function forget_keys()
  redis.call('DEL', known, ends)
  is_former, marks = false, marks .. ' forgotten'
end
local function recall(key)
  local till, print, ids = (redis.call('HGET', known, key) or ''):match('^(%d+) (%x+) (.*)$')
  if not till or tonumber(till) <= now then return end
  local from, to = ids:match('^[^,]+'), ids:match('[^,]+$')
  if judge() or never_had(stream, counters(), from) or from ~= to and never_had(stream, counters(), to) then
    forget_keys()
    return
  end
  return print, ids
end
local function keep_for(key, ms)
  if redis.call('PTTL', key) < ms then redis.call('PEXPIRE', key, ms) end
end
local function remember(key, print, ids)
  redis.call('HSET', known, key, string.format('%.0f ', now + window) .. print .. ' ' .. ids)
  redis.call('ZADD', ends, now + window, key)
  keep_for(known, window + 1000)
  keep_for(ends, window + 1000)
end
local function is_due()
  local record = redis.call('HGET', known, 'life')
  local at = record and tonumber(record:match('(%d+)$'))
  if at and at <= now and now - at < 1000 then return false end
  if judge() then forget_keys() end
  if not record then marks = marks .. ' first' end
  return true
end
local function record()
  local after = counters_of(stream)
  if after then redis.call('HSET', known, 'life', record_of(after) .. string.format(' %.0f', now)) end
end\n"
    };
}
pub(super) use lua_keys;

/// Renews the record of a stream that has keys: 0 there are none, 1 done, 2 they were forgotten.
/// Keys that the sorted set has lost are put into it again, unless they are very many.
static REFRESH: Verb = Verb::new(concat!(
    lua_below!(),
    lua_stream_life!("ARGV[1]"),
    "\
local stream, known, ends = KEYS[1], KEYS[2], KEYS[3]
if redis.call('EXISTS', known) == 0 then return 0 end
local counters, record = counters_of(stream), redis.call('HGET', known, 'life')
if not counters or record and is_replaced(stream, counters, record) then
  redis.call('DEL', known, ends)
  return 2
end
local time = redis.call('TIME')
redis.call('HSET', known, 'life', record_of(counters) .. ' ' .. time[1] .. '000')
local count = redis.call('HLEN', known)
if count > 1 and count <= 10000 and redis.call('EXISTS', ends) == 0 then
  local flat = redis.call('HGETALL', known)
  for i = 1, #flat, 2 do
    local till = flat[i + 1]:match('^(%d+) %x+ ')
    if till then redis.call('ZADD', ends, till, flat[i]) end
  end
  redis.call('PEXPIRE', ends, math.max(1, redis.call('PTTL', known)))
end
return 1"
));

/// Lengthens the life of the keys of a stream, never shortens it.
static TOUCH: Verb = Verb::new(
    "\
local left = redis.call('PTTL', KEYS[1])
if left >= 0 then redis.call('PEXPIRE', KEYS[1], math.max(left, tonumber(ARGV[1]))) end
return left",
);

impl Store {
    /// Takes note of what an append said beside its answer: that keys of another stream were
    /// forgotten, that these are the first keys of the stream.
    pub(super) async fn note_keys<'a>(
        &self,
        stream: &StreamName,
        marks: impl Iterator<Item = &'a str>,
    ) {
        for mark in marks {
            match mark {
                "forgotten" => self.forgot_keys(stream),
                "first" => {
                    let mut command = Cmd::new();
                    command.arg("SADD").arg(INDEX).arg(stream.as_str());
                    // Without it the record is renewed by appends alone.
                    if let Err(error) = self.write(&command).await {
                        tracing::debug!(%error, "a stream was not put into the index of keys");
                    }
                }
                _ => {}
            }
        }
    }

    fn forgot_keys(&self, stream: &StreamName) {
        self.discarded.keys();
        tracing::warn!(
            stream = stream.as_str(),
            "a stream was replaced by another client: its idempotency keys were forgotten"
        );
    }

    /// The command that writes to the keys of a stream, so that there is something to wait for.
    pub(super) fn touch_keys(stream: &StreamName, window_ms: u64) -> Cmd {
        let [known, _] = keys(stream);
        let mut command = Cmd::new();
        command.arg("EVAL").arg(TOUCH.text()).arg(1).arg(known);
        command.arg(window_ms.saturating_add(1000));
        command
    }

    /// Some of the streams that have idempotency keys, as far as the index knows, and where to go
    /// on; 0 is the beginning and the end.
    ///
    /// # Errors
    /// An outage of Redis.
    /// # Cancel safety
    /// Cancel safe: only reads.
    pub async fn keys_index(&self, cursor: u64) -> Result<(Vec<StreamName>, u64), StoreError> {
        let mut command = Cmd::new();
        command
            .arg("SSCAN")
            .arg(INDEX)
            .arg(cursor)
            .arg("COUNT")
            .arg(100);
        let [next, members] = tuple(self.read(&command).await?)?;
        let next = text(next)?.parse();
        let next = next.map_err(|_| StoreError::Unexpected("a cursor".to_owned()))?;
        let mut streams = Vec::new();
        for member in list(members)? {
            let name = String::from_utf8(bytes(member)?).ok();
            streams.extend(name.and_then(|name| StreamName::new(&name).ok()));
        }
        Ok((streams, next))
    }

    /// Renews the record of a stream that has idempotency keys, or forgets them if the stream was
    /// replaced. A stream without keys is taken out of the index.
    ///
    /// # Errors
    /// An outage of Redis.
    /// # Cancel safety
    /// If dropped after the command was sent, it may still be done.
    pub async fn refresh_keys(&self, stream: &StreamName) -> Result<(), StoreError> {
        let [known, ends] = keys(stream);
        let refreshed = self.verb(&REFRESH, Repeat::Unsafe, |command| {
            command
                .arg(3)
                .arg(stream.as_str())
                .arg(&known)
                .arg(&ends)
                .arg(self.holes());
        });
        match unsigned(&refreshed.await?)? {
            1 => return Ok(()),
            2 => self.forgot_keys(stream),
            _ => {}
        }
        let index = async |how: &str| {
            let mut command = Cmd::new();
            command.arg(how).arg(INDEX).arg(stream.as_str());
            self.write(&command).await
        };
        index("SREM").await?;
        // A key may have been remembered meanwhile.
        let mut exists = Cmd::new();
        exists.arg("EXISTS").arg(&known);
        if self.read(&exists).await? != Value::Int(0) {
            index("SADD").await?;
        }
        Ok(())
    }
}
