//! Entries that are to be appended later.
//!
//! Beside each stream lie, in its slot, a sorted set of what is due when, by tokens, and a hash of
//! what is to be appended, and of how many bytes that is. One script takes something out of both
//! and appends it, so that happens once, whoever runs it. Which streams have something is in an
//! index in a slot of its own, by when the first of it is due at the latest; it is written before
//! and after the stream's own keys, and counts how often, so that whoever finds a stream empty
//! takes it out only if nobody has been there since it looked.

use std::fmt::Write as _;
use std::time::Duration;

use deadpool_redis::redis::{Cmd, Value};

use super::append::NewEntry;
use super::decode::{bytes, list, text, tuple, unsigned};
use super::leases::Verb;
use super::pool::Repeat;
use super::{Store, StoreError};
use crate::model::name::{OWN_PREFIX, StreamName};

const INDEX: &str = "streamgate:{scheduled}:index";
const EDITIONS: &str = "streamgate:{scheduled}:editions";
/// Where it is told that something is due in so many milliseconds.
const BELL: &str = "streamgate:{scheduled}:bell";
/// When what cannot be moved is tried again, in milliseconds.
const AGAIN_MS: u64 = 30_000;

/// The keys of what is scheduled for a stream: when, and what.
pub(super) fn keys(stream: &StreamName) -> [String; 2] {
    let (key, tag) = (stream.as_str(), stream.tag());
    ["due", "entries"].map(|kind| format!("{OWN_PREFIX}{{{tag}}}:scheduled:{kind}:{key}"))
}

/// Something that is to be appended, as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheduled {
    /// Its name.
    pub token: String,
    /// When, by the clock of Redis, in Unix milliseconds.
    pub due_ms: u64,
    /// How many entries it is.
    pub entries: u64,
}

/// A stream that has something due.
#[derive(Clone, Debug)]
pub struct DueStream {
    /// Which.
    pub stream: StreamName,
    /// How often something had been scheduled when it was looked at.
    edition: String,
}

/// What a move came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Entries appended.
    pub entries: u64,
    /// The key holds something else, so nothing can be appended.
    pub stuck: bool,
}

/// Notes that a stream has something due in so many milliseconds.
static ANNOUNCE: Verb = Verb::new(
    "\
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZADD', KEYS[1], 'LT', string.format('%.0f', now + ARGV[2]), ARGV[1])
redis.call('HINCRBY', KEYS[2], ARGV[1], 1)
if ARGV[3] == '1' then redis.call('PUBLISH', ARGV[4], ARGV[2]) end
return 1",
);

/// Lua: takes out one that is kept, of so many bytes; 1 if it was there. Nothing is left of the
/// last.
macro_rules! lua_release {
    () => {
        "\
local function release(due, entries, token, size)
  local found = redis.call('ZREM', due, token)
  redis.call('HDEL', entries, token)
  if redis.call('EXISTS', due) == 0 then redis.call('DEL', entries)
  elseif size > 0 then redis.call('HINCRBY', entries, 'bytes', -size) end
  return found
end\n"
    };
}
pub(super) use lua_release;

/// Keeps entries for later; false if there is no room.
static SCHEDULE: Verb = Verb::new(
    "\
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'none' and kind ~= 'stream' then return redis.error_reply('WRONGTYPE the key holds no stream') end
if redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[1]) then return false end
if (redis.call('HGET', KEYS[3], 'bytes') or 0) + #ARGV[4] > tonumber(ARGV[5]) then return false end
local time = redis.call('TIME')
local due = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[2])
local token = string.format('%.0f', time[1] * 1000000 + time[2]) .. ARGV[3]
redis.call('ZADD', KEYS[2], due, token)
redis.call('HSET', KEYS[3], token, ARGV[4])
redis.call('HINCRBY', KEYS[3], 'bytes', #ARGV[4])
return {token, due}",
);

/// Some streams with something due, with their editions, and in how many milliseconds the first of
/// the index is due; negative for none.
static DUE: Verb = Verb::new(
    "\
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
local streams = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now), 'LIMIT', 0, 100)
local editions = {}
for i, stream in ipairs(streams) do editions[i] = redis.call('HGET', KEYS[2], stream) or '' end
return {streams, editions, first[2] and math.max(0, first[2] - now) or -1}",
);

/// Appends what is due, about a thousand entries or a MiB at most, for nobody else is served
/// meanwhile; answers how many, whether more is due, when the next is, and whether the key holds
/// something else.
static MOVE: Verb = Verb::new(concat!(
    lua_release!(),
    "\
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local moved, size, more = 0, 0, 0
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'none' and kind ~= 'stream' then return {0, 0, '', redis.call('ZCARD', KEYS[2]) > 0 and 1 or 0} end
for _, token in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, 1000)) do
  if moved >= 1000 or size >= 1048576 then
    more = 1
    break
  end
  local text = redis.call('HGET', KEYS[3], token)
  local at = text and text:find('\\n', 1, true) or 0
  local count = text and tonumber(text:sub(1, at - 1)) or 0
  for _ = 1, count do
    local ends = text:find('\\n', at + 1, true)
    local words = {'XADD', KEYS[1], '*'}
    local from = ends + 1
    for length in text:sub(at + 1, ends - 1):gmatch('%d+') do
      words[#words + 1] = text:sub(from, from + length - 1)
      from = from + length
    end
    at = from - 1
    redis.call(unpack(words))
  end
  release(KEYS[2], KEYS[3], token, text and #text or 0)
  moved, size = moved + count, size + (text and #text or 0)
end
local next = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
return {moved, more, next[2] or '', 0}"
));

/// Notes when a stream is to be looked at again, or never, unless something was scheduled there
/// since it was looked at.
static SETTLE: Verb = Verb::new(
    "\
if (redis.call('HGET', KEYS[2], ARGV[1]) or '') ~= ARGV[2] then return 0 end
local again = ARGV[3]
if again:sub(1, 1) == '+' then
  local time = redis.call('TIME')
  again = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000) + again:sub(2))
end
if again == '' then
  redis.call('ZREM', KEYS[1], ARGV[1])
  redis.call('HDEL', KEYS[2], ARGV[1])
else redis.call('ZADD', KEYS[1], again, ARGV[1]) end
return 1",
);

/// As the scripts read it: how many, then of each the lengths of its words and the words.
fn encode(entries: &[NewEntry]) -> Vec<u8> {
    let mut text = format!("{}\n", entries.len()).into_bytes();
    for entry in entries {
        let words = || entry.fields.iter().flat_map(|(name, value)| [name, value]);
        let mut lengths = String::new();
        for word in words() {
            // Writing into a `String` cannot fail.
            let _ = write!(lengths, "{} ", word.len());
        }
        text.extend_from_slice(lengths.as_bytes());
        text.push(b'\n');
        words().for_each(|word| text.extend_from_slice(word));
    }
    text
}

pub(super) fn number(value: Value) -> Result<u64, StoreError> {
    text(value)?
        .parse()
        .map_err(|_| StoreError::Unexpected("a number".to_owned()))
}

impl Store {
    /// Keeps entries, to be appended together after `delay`; `None` if as many as `most` are kept
    /// for this stream already, or with these more than `most_bytes`.
    ///
    /// # Errors
    /// [`StoreError::NotAStream`], [`StoreError::OutOfMemory`], or an outage of Redis.
    /// # Cancel safety
    /// If dropped after the command was sent, the entries may still be scheduled.
    pub async fn schedule(
        &self,
        stream: &StreamName,
        entries: &[NewEntry],
        delay: Duration,
        most: usize,
        most_bytes: usize,
    ) -> Result<Option<Scheduled>, StoreError> {
        let delay_ms = delay.as_millis().to_string();
        self.announce(stream, &delay_ms, false).await?;
        let (kept, salt) = (encode(entries), format!("-{:08x}", fastrand::u32(..)));
        let reply = self.verb(&SCHEDULE, Repeat::Unsafe, |command| {
            let [due, entries] = keys(stream);
            command.arg(3).arg(stream.as_str()).arg(due).arg(entries);
            command
                .arg(most)
                .arg(&delay_ms)
                .arg(&salt)
                .arg(kept.as_slice());
            command.arg(most_bytes);
        });
        let reply = reply.await?;
        if reply == Value::Nil {
            return Ok(None);
        }
        let [token, due] = tuple(reply)?;
        // It is kept, and known by what was announced before; this only tells the edition and the
        // one who waits.
        if let Err(error) = self.announce(stream, &delay_ms, true).await {
            tracing::debug!(%error, "what was scheduled was not announced again");
        }
        let entries = entries.len() as u64;
        Ok(Some(Scheduled {
            token: text(token)?,
            due_ms: number(due)?,
            entries,
        }))
    }

    async fn announce(
        &self,
        stream: &StreamName,
        delay_ms: &str,
        ring: bool,
    ) -> Result<(), StoreError> {
        let announced = self.verb(&ANNOUNCE, Repeat::Unsafe, |command| {
            command
                .arg(2)
                .arg(INDEX)
                .arg(EDITIONS)
                .arg(stream.as_str())
                .arg(delay_ms);
            command.arg(u8::from(ring)).arg(BELL);
        });
        announced.await.map(drop)
    }

    /// The channel where what is scheduled is told.
    #[must_use]
    pub fn schedule_channel() -> &'static str {
        BELL
    }

    /// Whether anything is scheduled anywhere.
    ///
    /// # Errors
    /// An outage of Redis.
    /// # Cancel safety
    /// Cancel safe: only reads.
    pub async fn has_scheduled(&self) -> Result<bool, StoreError> {
        let mut command = Cmd::new();
        command.arg("EXISTS").arg(INDEX);
        Ok(unsigned(&self.read(&command).await?)? == 1)
    }

    /// Some streams that have something due, and how long until the first of all is; nothing where
    /// nothing is scheduled.
    ///
    /// # Errors
    /// An outage of Redis.
    /// # Cancel safety
    /// Cancel safe: only reads.
    pub async fn due_streams(&self) -> Result<(Vec<DueStream>, Option<Duration>), StoreError> {
        let reply = self.verb(&DUE, Repeat::Safe, |command| {
            command.arg(2).arg(INDEX).arg(EDITIONS);
        });
        let [names, editions, due_in] = tuple(reply.await?)?;
        let (mut streams, mut invalid) = (Vec::new(), 0);
        for (name, edition) in list(names)?.into_iter().zip(list(editions)?) {
            let (name, edition) = (bytes(name)?, text(edition)?);
            let stream = std::str::from_utf8(&name)
                .ok()
                .and_then(|name| StreamName::new(name).ok());
            if let Some(stream) = stream {
                streams.push(DueStream { stream, edition });
                continue;
            }
            // Somebody else wrote it. Left where it is, it would be the first that is due for ever,
            // and keep others from their turn.
            self.settle_due(&name, &edition, &format!("+{AGAIN_MS}"))
                .await?;
            invalid += 1;
        }
        if invalid > 0 {
            tracing::warn!(
                key = INDEX,
                invalid,
                "names that no stream can have are skipped for 30 s"
            );
        }
        let due_in = u64::try_from(super::decode::int(&due_in)?).ok();
        Ok((streams, due_in.map(Duration::from_millis)))
    }

    /// Appends what is due in a stream, and notes when the next is.
    ///
    /// # Errors
    /// That Redis is away. What fails otherwise is tried again later.
    /// # Cancel safety
    /// Dropped after it was sent, it may be appended all the same, once.
    pub async fn move_due(&self, due: &DueStream) -> Result<Moved, StoreError> {
        let mut all = Moved {
            entries: 0,
            stuck: false,
        };
        let site = self.connections.site()?;
        loop {
            let reply = self.verb(&MOVE, Repeat::Unsafe, |command| {
                let [times, entries] = keys(&due.stream);
                command
                    .arg(3)
                    .arg(due.stream.as_str())
                    .arg(times)
                    .arg(entries);
            });
            let again = match reply.await {
                Err(error) if error.is_outage_for_writes() => return Err(error),
                // One stream is to blame; the others are not to wait for it.
                Err(error) => {
                    tracing::warn!(%error, stream = due.stream.as_str(), "what is due was not appended");
                    all.stuck = true;
                    format!("+{AGAIN_MS}")
                }
                Ok(reply) => {
                    let [moved, more, next, stuck] = tuple(reply)?;
                    all.entries += unsigned(&moved)?;
                    all.stuck = unsigned(&stuck)? == 1;
                    if unsigned(&more)? == 1 {
                        continue;
                    }
                    if all.stuck {
                        format!("+{AGAIN_MS}")
                    } else {
                        text(next)?
                    }
                }
            };
            // What was moved on one server must not be taken out of the index of another.
            if site.left.is_cancelled() {
                return Err(StoreError::Broken("the Redis master changed".to_owned()));
            }
            self.settle_due(due.stream.as_str().as_bytes(), &due.edition, &again)
                .await?;
            return Ok(all);
        }
    }

    async fn settle_due(&self, name: &[u8], edition: &str, again: &str) -> Result<(), StoreError> {
        let settled = self.verb(&SETTLE, Repeat::Unsafe, |command| {
            command
                .arg(2)
                .arg(INDEX)
                .arg(EDITIONS)
                .arg(name)
                .arg(edition)
                .arg(again);
        });
        settled.await.map(drop)
    }
}
