//! Trimming of streams, optionally with regard to groups that still refer to the entries.
//!
//! Trimming without regard to groups is Redis' own. Otherwise a script trims, on every server. The
//! `ACKED` option of Redis 8.2 leaves holes in the middle of a stream that no position can account
//! for, so the script removes only a prefix of the stream.

use deadpool_redis::redis::Cmd;

use crate::model::id::EntryId;
use crate::model::name::StreamName;
use crate::redis::decode::unsigned;
use crate::redis::stream::deletion::References;
use crate::redis::{Store, StoreError};

/// The entries that a trim may remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trim {
    /// All but this number of newest entries.
    MaxLen(u64),
    /// All entries below this id.
    MinId(EntryId),
}

/// The parameters of a trim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trimming {
    /// Entries to remove at most.
    pub trim: Trim,
    /// Whether to trim exactly; otherwise Redis removes only whole nodes, which is much cheaper.
    pub exact: bool,
    /// Maximum number of entries to examine; 0 for no limit. Not with `exact`.
    pub limit: Option<u64>,
    /// Treatment of groups. [`References::Acked`] removes only a prefix that every group has read
    /// and acknowledged. [`References::Delete`] also deletes pending records below the entry that
    /// is the oldest afterwards.
    pub references: References,
}

/// Lua: `held_back(stream)` returns the first entry that a group has not read or acknowledged, with
/// the group and `unread` or `pending`. Returns nothing if all groups have acknowledged all
/// entries. Pending records of deleted entries hold nothing back; at most 1000 of them are skipped
/// per group.
macro_rules! lua_held_back {
    () => {
        concat!(
            lua_below!(),
            lua_groups!(),
            "\
local function oldest(stream)
  local first = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
  return first and first[1]
end
local function first_pending(stream, group, from)
  local last, looked, count = nil, 0, 1
  while looked < 1000 do
    local page = redis.call('XPENDING', stream, group, from, '+', count)
    for _, one in ipairs(page) do
      last, looked = one[1], looked + 1
      if #redis.call('XRANGE', stream, last, last) > 0 then return last end
    end
    if #page < count then return nil end
    from, count = '(' .. last, 100
  end
  return last
end
local function held_back(stream)
  local bound, by, why
  local first = oldest(stream)
  for _, group in ipairs(first and groups_of(stream) or {}) do
    local function hold(id, reason)
      if id and (not bound or below(id, bound)) then bound, by, why = id, group['name'], reason end
    end
    hold(first_pending(stream, group['name'], first), 'pending')
    -- pcall: Redis rejects an exclusive range above the greatest id, where nothing can be.
    local rest = redis.pcall('XRANGE', stream, '(' .. group['last-delivered-id'], '+', 'COUNT', 1)
    hold(rest[1] and rest[1][1], 'unread')
  end
  return bound, by, why
end\n"
        )
    };
}
pub(in crate::redis) use lua_held_back;

/// Lua: `trim(stream, references, kind, how, threshold, limit)` trims and returns the number of
/// entries removed. With `acked`, an exact trim to a length removes at most 10,000 entries per
/// call.
macro_rules! lua_trim {
    () => {
        concat!(
            lua_held_back!(),
            "\
local function trim(stream, references, kind, how, threshold, limit)
  if references == 'acked' then
    local bound = held_back(stream)
    if bound and kind == 'MAXLEN' then
      local excess = redis.call('XLEN', stream) - tonumber(threshold)
      if excess <= 0 then return 0 end
      kind = 'MINID'
      if how == '=' then
        excess = math.min(excess, 10000)
        local look = redis.call('XRANGE', stream, '-', '+', 'COUNT', excess + 1)
        threshold = #look > excess and look[#look][1] or bound
      else
        threshold = bound
        if limit == '' or limit == '0' or tonumber(limit) > excess then limit = excess end
      end
    end
    if bound and below(bound, threshold) then threshold = bound end
  end
  local words = {'XTRIM', stream, kind, how, threshold}
  if limit ~= '' then words[6], words[7] = 'LIMIT', limit end
  local gone = redis.call(unpack(words))
  if references == 'delete' then
    local first = oldest(stream)
    for _, group in ipairs(groups_of(stream)) do
      repeat
        local held = redis.call('XPENDING', stream, group['name'], '-', first and '(' .. first or '+', 1000)
        for _, one in ipairs(held) do redis.call('XACK', stream, group['name'], one[1]) end
      until #held == 0
    end
  end
  return gone
end\n"
        )
    };
}
pub(in crate::redis) use lua_trim;

const TRIM: &str = concat!(lua_trim!(), "return trim(KEYS[1], unpack(ARGV))");

impl Trimming {
    /// Returns whether Redis' own trimming suffices.
    pub(in crate::redis) fn is_native(&self) -> bool {
        self.references == References::Keep
    }

    /// Appends the arguments of XADD and XTRIM.
    pub(in crate::redis) fn write(&self, command: &mut Cmd) {
        let [kind, how, threshold] = self.words();
        command.arg(kind).arg(how).arg(threshold);
        if let Some(limit) = self.limit {
            command.arg("LIMIT").arg(limit);
        }
    }

    /// Appends the arguments of the Lua function `trim` after the stream.
    pub(in crate::redis) fn write_script(&self, command: &mut Cmd) {
        command.arg(self.references.word()).arg(&self.words());
        command.arg(
            self.limit
                .map(|limit| limit.to_string())
                .unwrap_or_default(),
        );
    }

    fn words(&self) -> [String; 3] {
        let (kind, threshold) = match self.trim {
            Trim::MaxLen(length) => ("MAXLEN", length.to_string()),
            Trim::MinId(min) => ("MINID", min.to_string()),
        };
        [
            kind.to_owned(),
            if self.exact { "=" } else { "~" }.to_owned(),
            threshold,
        ]
    }
}

impl Store {
    /// Trims a stream and returns the number of entries removed.
    ///
    /// # Errors
    /// [`StoreError::NotAStream`], or an outage of Redis.
    /// # Cancel safety
    /// If dropped after the command was sent, the stream may still be trimmed.
    pub async fn trim(&self, stream: &StreamName, trimming: &Trimming) -> Result<u64, StoreError> {
        let mut command = Cmd::new();
        if trimming.is_native() {
            command.arg("XTRIM").arg(stream.as_str());
            trimming.write(&mut command);
        } else {
            command.arg("EVAL").arg(TRIM).arg(1).arg(stream.as_str());
            trimming.write_script(&mut command);
        }
        unsigned(&self.write(&command).await?)
    }
}
