//! Storage of idempotency keys, in the same slot as their stream.
//!
//! A hash holds for each key its expiry time, the fingerprint of the appended content and its ids.
//! A sorted set by expiry time serves only to find expired keys. Redis may evict or expire either
//! without the other.
//!
//! The hash also holds a record of the stream (`stream_life.rs`). Appends with a key update it at
//! most once a second, and so does a background job of one gateway. The keys are discarded if
//! another client has replaced the stream.

use deadpool_redis::redis::{Cmd, Value};

use crate::model::name::{OWN_PREFIX, StreamName};
use crate::redis::conn::pool::Repeat;
use crate::redis::decode::{bytes, list, text, tuple, unsigned};
use crate::redis::group::leases::Verb;
use crate::redis::stream::life::lua_stream_life;
use crate::redis::{Store, StoreError};

/// Index of the streams with idempotency keys. It is in a separate slot and is written after the
/// keys.
const INDEX: &str = "streamgate:{idempotency}:index";

/// Returns the Redis keys that store the idempotency keys of a stream. They are in the stream's
/// slot and are deleted with the stream.
pub(in crate::redis) fn keys(stream: &StreamName) -> [String; 2] {
    let (name, tag) = (stream.as_str(), stream.tag());
    // Streams with the same hash tag share a slot, but not these keys.
    ["known", "ends"].map(|kind| format!("{OWN_PREFIX}{{{tag}}}:idempotency:{kind}:{name}"))
}

/// Lua functions for idempotency keys. They need `lua_stream_life` and the locals `stream`,
/// `known`, `ends`, `now` and `window`.
///
/// - `recall(key)` returns the fingerprint and the ids of a key that has not expired.
/// - `remember(key, print, ids)` stores them for the window, and does not shorten the lifetime of
///   other keys.
/// - `is_due()` before and `record()` after a write maintain the record of the stream.
/// - `marks` collects side effects, for `Store::note_keys`.
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
pub(in crate::redis) use lua_keys;

/// Updates the record of a stream with idempotency keys. Returns 0 if there are no keys, 1 if
/// updated, 2 if the keys were discarded. Restores a lost sorted set, unless there are more than
/// 10,000 keys.
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

/// Extends the lifetime of the idempotency keys of a stream; never shortens it.
static TOUCH: Verb = Verb::new(
    "\
local left = redis.call('PTTL', KEYS[1])
if left >= 0 then redis.call('PEXPIRE', KEYS[1], math.max(left, tonumber(ARGV[1]))) end
return left",
);

impl Store {
    /// Handles the marks in the reply to an append: the keys of a replaced stream were discarded
    /// (`forgotten`), or the stream has its first keys (`first`).
    pub(in crate::redis) async fn note_keys<'a>(
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
                    // If this fails, only appends update the record.
                    if let Err(error) = self.write(&command).await {
                        tracing::debug!(%error, "cannot index the idempotency keys of a stream");
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
            "another client replaced a stream; discarded its idempotency keys"
        );
    }

    /// Returns a command that extends the lifetime of a stream's keys. It gives WAIT a write to
    /// wait for.
    pub(in crate::redis) fn touch_keys(stream: &StreamName, window_ms: u64) -> Cmd {
        let [known, _] = keys(stream);
        let mut command = Cmd::new();
        command.arg("EVAL").arg(TOUCH.text()).arg(1).arg(known);
        command.arg(window_ms.saturating_add(1000));
        command
    }

    /// Returns a page of the indexed streams with idempotency keys, and the next cursor. Cursor 0
    /// is the start and the end.
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
        let next = next.map_err(|_| StoreError::Unexpected("an invalid cursor".to_owned()))?;
        let mut streams = Vec::new();
        for member in list(members)? {
            let name = String::from_utf8(bytes(member)?).ok();
            streams.extend(name.and_then(|name| StreamName::new(&name).ok()));
        }
        Ok((streams, next))
    }

    /// Updates the record of a stream with idempotency keys, or discards the keys if the stream was
    /// replaced. Removes a stream without keys from the index.
    ///
    /// # Errors
    /// An outage of Redis.
    /// # Cancel safety
    /// If dropped after the command was sent, the record may still be updated.
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
        // An append may have stored a key meanwhile.
        let mut exists = Cmd::new();
        exists.arg("EXISTS").arg(&known);
        if self.read(&exists).await? != Value::Int(0) {
            index("SADD").await?;
        }
        Ok(())
    }
}
