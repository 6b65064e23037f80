//! Retention settings of streams, and the script that trims a stream to its retention.
//!
//! The retention of a stream is a string in the stream's slot. The trimming script reads the string
//! each time, so a change takes effect on all gateways at once.
//!
//! An index lists the streams with a retention. The index is in a separate slot and is not written
//! atomically with the retention, so callers verify its entries against the retention itself.
//!
//! The string ends with a record of the stream (`stream_life.rs`), which the background job of one
//! gateway updates. The retention is discarded if another client has replaced the stream.

use deadpool_redis::redis::{Cmd, Pipeline, Value};

use crate::model::id::EntryId;
use crate::model::name::{OWN_PREFIX, RawName, StreamName};
use crate::model::retention::Retention;
use crate::redis::conn::pool::Repeat;
use crate::redis::decode::{bytes, id, list, name, text, tuple, unsigned};
use crate::redis::group::leases::Verb;
use crate::redis::stream::life::lua_stream_life;
use crate::redis::stream::trim::lua_held_back;
use crate::redis::{Store, StoreError};

/// Index of the streams with a retention.
const INDEX: &str = "streamgate:{retention}:index";
/// Random version of the index; changes with the index.
const EDITION: &str = "streamgate:{retention}:edition";

/// Returns the Redis key of the retention of a stream.
pub(in crate::redis) fn key(stream: &StreamName) -> String {
    format!(
        "{OWN_PREFIX}{{{}}}:retention:{}",
        stream.tag(),
        stream.as_str()
    )
}

/// The result of one trimming pass over a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retained {
    /// Number of entries removed.
    pub trimmed: u64,
    /// Number of removed entries that a group had not read or not acknowledged.
    pub forced: u64,
    /// Whether there is more to remove in the next pass.
    pub unfinished: bool,
    /// Whether the retention is exact.
    pub exact: bool,
    /// Whether a group prevents entries from being removed.
    pub blocked: bool,
}

/// The group that prevents entries from being removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockedBy {
    /// Name of the group.
    pub group: RawName,
    /// The oldest entry of the stream, which the group has not read or not acknowledged.
    pub id: EntryId,
    /// Whether the entry is pending; otherwise the group has not read it.
    pub pending: bool,
}

/// Lua: `rules_in(stream, counters, text)` returns the retention from the stored string, or nil if
/// the stream was replaced. It needs `lua_stream_life`.
macro_rules! lua_rules {
    () => {
        "\
local function rules_in(stream, counters, text)
  if not text then return nil end
  local rules, record = text:match('^(%a+ %S+ %S+ %S+) ?(.*)$')
  if record ~= '' and is_replaced(stream, counters, record) then return nil end
  return rules
end\n"
    };
}
pub(in crate::redis) use lua_rules;

/// Lua: `rules_of(text)` parses a retention. `blocked_by(stream, rules)` returns group, id and
/// reason if the stream exceeds its retention and a group holds back its oldest entry.
macro_rules! lua_retention {
    () => {
        concat!(
            lua_held_back!(),
            lua_stream_life!("ARGV[1]"),
            lua_rules!(),
            "\
local function rules_of(text)
  local mode, length, age, hard = text:match('^(%a+) (%S+) (%S+) (%S+)$')
  local rules = {mode = mode, length = tonumber(length), hard = tonumber(hard)}
  if rules.length then rules.maxlen = length end
  if age ~= '-' then
    local time = redis.call('TIME')
    local now = time[1] * 1000 + math.floor(time[2] / 1000)
    rules.minid = string.format('%.0f-0', math.max(0, now - tonumber(age)))
  end
  return rules
end
local function blocked_by(stream, rules)
  local first = rules.mode == 'acked' and oldest(stream)
  if not first then return false end
  local long = rules.length and redis.call('XLEN', stream) > rules.length
  if not long and not (rules.minid and below(first, rules.minid)) then return false end
  local bound, group, why = held_back(stream)
  return bound == first and {group, bound, why}
end\n"
        )
    };
}

/// Trims a stream to its retention. Returns false if the stream has no retention, or no longer
/// exists, in which case its retention is deleted. Returns `replaced` if the retention was that of
/// an earlier stream and was discarded. A pass removes about 10,000 entries, or 1000 that a group
/// holds back.
static RETAIN: Verb = Verb::new(concat!(
    lua_retention!(),
    "\
local stream, limit = KEYS[1], 10000
local kept = redis.call('GET', KEYS[2])
if not kept then return false end
local counters = counters_of(stream)
local text = counters and rules_in(stream, counters, kept)
if not text then
  redis.call('DEL', KEYS[2])
  return counters and 'replaced' or false
end
if ARGV[2] == '1' or text == kept then
  local renewed = text .. ' ' .. record_of(counters)
  if renewed ~= kept then redis.call('SET', KEYS[2], renewed) end
end
local rules = rules_of(text)
local trimmed, forced, more = 0, 0, false
local function trim(kind, threshold)
  local gone = redis.call('XTRIM', stream, kind, '~', threshold, 'LIMIT', limit)
  if gone > limit / 2 then more = true
  elseif rules.mode ~= 'approximate' then gone = gone + redis.call('XTRIM', stream, kind, '=', threshold) end
  trimmed = trimmed + gone
end
local function trim_below(bound)
  local excess = redis.call('XLEN', stream) - rules.length
  if excess <= 0 then return end
  local gone = redis.call('XTRIM', stream, 'MINID', '~', bound, 'LIMIT', math.min(excess, limit))
  excess = excess - gone
  if gone > limit / 2 then more = true
  elseif excess > 0 then
    local look = math.min(excess, 100)
    local cut = redis.call('XRANGE', stream, '-', '+', 'COUNT', look + 1)[look + 1][1]
    if not below(cut, bound) then cut = bound
    elseif look < excess then more = true end
    gone = gone + redis.call('XTRIM', stream, 'MINID', '=', cut)
  end
  trimmed = trimmed + gone
end
local function force(count)
  local page = redis.call('XRANGE', stream, '-', '+', 'COUNT', count + 1)
  local needed = {}
  for _, group in ipairs(groups_of(stream)) do
    local held = redis.call('XPENDING', stream, group['name'], page[1][1], page[count][1], 1000)
    for _, one in ipairs(held) do needed[one[1]] = true end
    for i = count, 1, -1 do
      if not below(group['last-delivered-id'], page[i][1]) then break end
      needed[page[i][1]] = true
    end
  end
  for i = 1, count do if needed[page[i][1]] then forced = forced + 1 end end
  trimmed = trimmed + redis.call('XTRIM', stream, 'MINID', '=', page[count + 1][1])
end
local bound = rules.mode == 'acked' and held_back(stream)
if bound then
  if rules.minid then trim('MINID', below(bound, rules.minid) and bound or rules.minid) end
  if rules.length then trim_below(bound) end
else
  if rules.minid then trim('MINID', rules.minid) end
  if rules.length then trim('MAXLEN', rules.maxlen) end
end
if rules.hard and not more then
  local over = redis.call('XLEN', stream) - rules.hard
  for _ = 1, 10 do
    if over <= 0 then break end
    force(math.min(over, 100))
    over = over - 100
  end
  more = over > 0
end
local function number(flag) return flag and 1 or 0 end
return {trimmed, forced, number(more), number(rules.mode == 'exact'), number(blocked_by(stream, rules))}"
));

/// Returns the retention of a stream, and the group that prevents entries from being removed.
static LOOK: Verb = Verb::new(concat!(
    lua_retention!(),
    "\
local counters = counters_of(KEYS[1])
local text = counters and rules_in(KEYS[1], counters, redis.call('GET', KEYS[2]))
if not text then return false end
return {text, blocked_by(KEYS[1], rules_of(text))}"
));

fn begin(command: &mut Cmd, stream: &StreamName) {
    command.arg(2).arg(stream.as_str()).arg(key(stream));
}

pub(in crate::redis) fn kept(retention: Option<&Retention>) -> String {
    retention.map_or_else(|| "-".to_owned(), Retention::encode)
}

impl Store {
    /// Returns the retention of a stream, and the group that prevents entries from being removed.
    /// Returns `None` if the stream has no retention or does not exist.
    ///
    /// # Errors
    /// An outage of Redis.
    /// # Cancel safety
    /// Cancel safe: only reads.
    pub async fn retention(
        &self,
        stream: &StreamName,
    ) -> Result<Option<(Retention, Option<BlockedBy>)>, StoreError> {
        let reply = self.verb(&LOOK, Repeat::Safe, |command| {
            begin(command, stream);
            command.arg(self.holes());
        });
        let reply = reply.await?;
        if reply == Value::Nil {
            return Ok(None);
        }
        let [kept, blocked] = tuple(reply)?;
        let retention = Retention::decode(&text(kept)?);
        let retention =
            retention.ok_or_else(|| StoreError::Unexpected("an invalid retention".to_owned()))?;
        let blocked = match blocked {
            Value::Nil => None,
            present => {
                let [group, held, why] = tuple(present)?;
                let pending = text(why)? == "pending";
                Some(BlockedBy {
                    group: name(group)?,
                    id: id(held)?,
                    pending,
                })
            }
        };
        Ok(Some((retention, blocked)))
    }

    /// Trims a stream to its retention, in one bounded pass. Removes a stream without retention
    /// from the index and returns `None`. With `renew`, updates the record of the stream.
    ///
    /// # Errors
    /// An outage of Redis.
    /// # Cancel safety
    /// If dropped after the command was sent, the stream may still be trimmed.
    pub async fn retain(
        &self,
        stream: &StreamName,
        renew: bool,
    ) -> Result<Option<Retained>, StoreError> {
        let reply = self.verb(&RETAIN, Repeat::Unsafe, |command| {
            begin(command, stream);
            command.arg(self.holes()).arg(u8::from(renew));
        });
        let reply = reply.await?;
        if !matches!(reply, Value::Array(_)) {
            if reply != Value::Nil {
                self.discarded.retention();
                tracing::warn!(
                    stream = stream.as_str(),
                    "another client replaced a stream; discarded its retention"
                );
            }
            self.strike_retention(stream).await?;
            return Ok(None);
        }
        let [trimmed, forced, unfinished, exact, blocked] = tuple(reply)?;
        Ok(Some(Retained {
            trimmed: unsigned(&trimmed)?,
            forced: unsigned(&forced)?,
            unfinished: unsigned(&unfinished)? == 1,
            exact: unsigned(&exact)? == 1,
            blocked: unsigned(&blocked)? == 1,
        }))
    }

    /// Returns a page of the indexed streams with a retention, and the next cursor. Cursor 0 is the
    /// start and the end.
    ///
    /// # Errors
    /// An outage of Redis.
    /// # Cancel safety
    /// Cancel safe: only reads.
    pub async fn retention_index(&self, cursor: u64) -> Result<(Vec<StreamName>, u64), StoreError> {
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

    /// Returns the version of the index, which differs after every change of the index.
    ///
    /// # Errors
    /// An outage of Redis.
    /// # Cancel safety
    /// Cancel safe: only reads.
    pub async fn retention_edition(&self) -> Result<Option<Vec<u8>>, StoreError> {
        let mut command = Cmd::new();
        command.arg("GET").arg(EDITION);
        match self.read(&command).await? {
            Value::Nil => Ok(None),
            edition => bytes(edition).map(Some),
        }
    }

    pub(in crate::redis) async fn enlist_retention(
        &self,
        stream: &StreamName,
    ) -> Result<(), StoreError> {
        self.edit_index("SADD", stream).await
    }

    /// Removes a stream from the index. Adds it again if it has a retention by then.
    async fn strike_retention(&self, stream: &StreamName) -> Result<(), StoreError> {
        self.edit_index("SREM", stream).await?;
        match self.retention(stream).await? {
            Some(_) => self.enlist_retention(stream).await,
            None => Ok(()),
        }
    }

    async fn edit_index(&self, how: &str, stream: &StreamName) -> Result<(), StoreError> {
        let mut transaction = Pipeline::new();
        transaction
            .atomic()
            .cmd(how)
            .arg(INDEX)
            .arg(stream.as_str());
        transaction
            .cmd("SET")
            .arg(EDITION)
            .arg(format!("{:016x}", fastrand::u64(..)));
        self.write_pipeline(&transaction).await.map(drop)
    }
}
