//! Appending under conditions, many entries at once, and idempotently: one script that looks at
//! everything before it writes anything, the same on every server.
//!
//! What is remembered of idempotency keys lies beside the stream, in its slot: a hash of key to
//! fingerprint and ids, and a sorted set of when each is to be forgotten.

use std::fmt::Write as _;

use deadpool_redis::redis::Cmd;
use sha2::{Digest, Sha256};

use super::decode::{list, text};
use super::entries::Trim;
use super::{Store, StoreError};
use crate::model::entry::Fields;
use crate::model::id::{EntryId, NewId};
use crate::model::name::{OWN_PREFIX, StreamName};

/// The most fields an entry may have that goes through the script: Lua passes arguments on a stack.
pub const MAX_FIELDS: usize = 3000;

/// A batch, of which all or nothing is appended.
#[derive(Clone, Debug)]
pub struct Batch {
    /// In order; not empty.
    pub entries: Vec<BatchEntry>,
    /// Only if this is the id last generated.
    pub if_match: Option<EntryId>,
    /// Only if nothing was ever appended.
    pub if_new: bool,
    /// Make the stream if there is none.
    pub create: bool,
    /// Trimming, with the last entry.
    pub trim: Option<Trim>,
    /// Trim to the letter.
    pub exact: bool,
    /// The idempotency key of the whole.
    pub key: Option<Key>,
    /// How long keys are remembered, in milliseconds.
    pub window_ms: u64,
}

/// An entry of a batch.
#[derive(Clone, Debug)]
pub struct BatchEntry {
    /// Which id it is to have.
    pub id: NewId,
    /// Not empty.
    pub fields: Fields,
    /// Its own idempotency key.
    pub key: Option<Key>,
}

/// An idempotency key, as it is remembered: a digest of the key and of whoever may use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key(String);

impl Key {
    /// The key of one producer.
    #[must_use]
    pub fn new(producer: &str, key: &str) -> Self {
        let mut digest = Sha256::new();
        add(&mut digest, producer.as_bytes());
        add(&mut digest, key.as_bytes());
        Self(hex(digest))
    }
}

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Appended {
    /// Every entry has its id; the flag says that it had it already, by its own key.
    All(Vec<(EntryId, bool)>),
    /// The whole was appended before, with these ids.
    Replayed(Vec<EntryId>),
    /// A key was used for something else: the key of this entry, or of the whole.
    KeyReused(Option<usize>),
    /// The condition does not hold; this is the id last generated.
    Stale(EntryId),
    /// The id of this entry is not above the one before it.
    NotMonotonic(usize),
    /// The id of this entry follows one that Redis is to choose.
    AfterChosen(usize),
    /// There is no stream, and none was to be made.
    NoStream,
}

const SCRIPT: &str = concat!(
    lua_below!(),
    "\
local stream, known, ends = KEYS[1], KEYS[2], KEYS[3]
local at = 0
local function take() at = at + 1 return ARGV[at] end
local if_match, if_new, no_make, window = take(), take(), take(), tonumber(take())
local whole, whole_print = take(), take()
local trim = {}
for i = 1, tonumber(take()) do trim[i] = take() end

local kind = redis.call('TYPE', stream).ok
if kind ~= 'none' and kind ~= 'stream' then return redis.error_reply('WRONGTYPE the key holds no stream') end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function recall(key)
  local till = redis.call('ZSCORE', ends, key)
  if not till or tonumber(till) <= now then return end
  return redis.call('HGET', known, key):match('^(%S+) (.*)$')
end
if whole ~= '' then
  local print, ids = recall(whole)
  if print and print ~= whole_print then return {'reused', '0'} end
  if print then return {'replayed', ids} end
end

local last = '0-0'
if kind == 'stream' then
  local info = redis.call('XINFO', 'STREAM', stream)
  for i = 1, #info, 2 do if info[i] == 'last-generated-id' then last = info[i + 1] end end
elseif no_make == '1' then return {'no-stream'} end
if (if_match ~= '' and if_match ~= last) or (if_new == '1' and last ~= '0-0') then return {'stale', last} end

local entries, seen, chosen, from = {}, {}, false, last
for i = 1, tonumber(take()) do
  local entry = {id = take(), key = take(), print = take(), fields = {}}
  for f = 1, tonumber(take()) do entry.fields[f] = take() end
  if entry.key ~= '' then
    local print, id = recall(entry.key)
    local twin = seen[entry.key]
    if twin then print, entry.twin = twin.print, twin end
    if print and print ~= entry.print then return {'reused', tostring(i)} end
    entry.given = id
    if not twin then seen[entry.key] = entry end
  end
  if not entry.given and not entry.twin then
    local ms = entry.id:match('^(%d+)-%*$')
    if entry.id == '*' then chosen = true
    elseif chosen then return {'after-chosen', tostring(i)}
    elseif ms then
      if not below(from, ms .. '-18446744073709551615') then return {'not-monotonic', tostring(i)} end
      chosen = true
    elseif not below(from, entry.id) then return {'not-monotonic', tostring(i)}
    else from = entry.id end
  end
  entries[i] = entry
end

for _, key in ipairs(redis.call('ZRANGEBYSCORE', ends, '-inf', now, 'LIMIT', 0, 100)) do
  redis.call('HDEL', known, key)
  redis.call('ZREM', ends, key)
end
local function remember(key, print, ids)
  redis.call('HSET', known, key, print .. ' ' .. ids)
  redis.call('ZADD', ends, now + window, key)
  redis.call('PEXPIRE', known, window + 1000)
  redis.call('PEXPIRE', ends, window + 1000)
end
local final = 0
for i, entry in ipairs(entries) do if not entry.given and not entry.twin then final = i end end
local results, ids = {'all'}, {}
for i, entry in ipairs(entries) do
  local replayed = entry.given or entry.twin
  if not replayed then
    local words = {'XADD', stream}
    if i == final then for _, word in ipairs(trim) do words[#words + 1] = word end end
    words[#words + 1] = entry.id
    for _, word in ipairs(entry.fields) do words[#words + 1] = word end
    entry.given = redis.call(unpack(words))
    if entry.key ~= '' then remember(entry.key, entry.print, entry.given) end
  elseif entry.twin then entry.given = entry.twin.given end
  ids[i] = entry.given
  results[#results + 1] = (replayed and '~' or '') .. entry.given
end
if whole ~= '' then remember(whole, whole_print, table.concat(ids, ',')) end
return results"
);

impl Store {
    /// Appends a batch, or says why not.
    ///
    /// # Errors
    /// [`StoreError::NotAStream`], [`StoreError::OutOfMemory`], or that Redis is away; after
    /// [`StoreError::Broken`] and [`StoreError::Timeout`] all of it may be there, or nothing.
    /// # Cancel safety
    /// Dropped after it was sent, the batch may be appended all the same.
    pub async fn append_batch(
        &self,
        stream: &StreamName,
        batch: &Batch,
    ) -> Result<Appended, StoreError> {
        let mut command = Cmd::new();
        let [known, ends] = keys(stream);
        command.arg("EVAL").arg(SCRIPT).arg(3).arg(stream.as_str()).arg(known).arg(ends);
        command.arg(batch.if_match.map(|id| id.to_string()).unwrap_or_default());
        command.arg(u8::from(batch.if_new)).arg(u8::from(!batch.create)).arg(batch.window_ms);
        let prints: Vec<String> =
            batch.entries.iter().map(|entry| fingerprint(&entry.fields)).collect();
        command.arg(batch.key.as_ref().map_or("", |key| &key.0));
        command.arg(hex(Sha256::new_with_prefix(prints.concat())));
        match batch.trim {
            Some(trim) => {
                command.arg(3);
                trim.write(&mut command, batch.exact);
            }
            None => {
                command.arg(0);
            }
        }
        command.arg(batch.entries.len());
        for (entry, print) in batch.entries.iter().zip(&prints) {
            command.arg(entry.id.to_string()).arg(entry.key.as_ref().map_or("", |key| &key.0));
            command.arg(print).arg(2 * entry.fields.len());
            for (name, value) in &entry.fields {
                command.arg(name.as_slice()).arg(value.as_slice());
            }
        }
        let mut reply = list(self.write(&command).await?)?.into_iter();
        let verdict = text(reply.next().unwrap_or_default())?;
        let rest: Vec<String> = reply.map(text).collect::<Result<_, _>>()?;
        decode(&verdict, &rest)
            .ok_or_else(|| StoreError::Unexpected(format!("a batch answered {verdict}")))
    }
}

fn decode(verdict: &str, rest: &[String]) -> Option<Appended> {
    let first = rest.first().map(String::as_str);
    let index = || first?.parse::<usize>().ok();
    Some(match verdict {
        "all" => {
            let one = |text: &String| match text.strip_prefix('~') {
                Some(id) => Some((id.parse().ok()?, true)),
                None => Some((text.parse().ok()?, false)),
            };
            Appended::All(rest.iter().map(one).collect::<Option<_>>()?)
        }
        "replayed" => {
            Appended::Replayed(first?.split(',').map(|id| id.parse().ok()).collect::<Option<_>>()?)
        }
        "reused" => Appended::KeyReused(index()?.checked_sub(1)),
        "stale" => Appended::Stale(first?.parse().ok()?),
        "not-monotonic" => Appended::NotMonotonic(index()?.checked_sub(1)?),
        "after-chosen" => Appended::AfterChosen(index()?.checked_sub(1)?),
        "no-stream" => Appended::NoStream,
        _ => return None,
    })
}

/// The keys beside a stream that remember idempotency keys: in its slot, and deleted with it.
pub(super) fn keys(stream: &StreamName) -> [String; 2] {
    let name = stream.as_str();
    let tag = name
        .split_once('{')
        .and_then(|(_, rest)| rest.split_once('}'))
        .map_or(name, |(tag, _)| tag);
    // Streams that share a tag share the slot, but not what is remembered of them.
    ["known", "ends"].map(|kind| format!("{OWN_PREFIX}{{{tag}}}:idempotency:{kind}:{name}"))
}

fn add(digest: &mut Sha256, bytes: &[u8]) {
    digest.update((bytes.len() as u64).to_le_bytes());
    digest.update(bytes);
}

/// The same for the same fields in the same order, and for nothing else.
fn fingerprint(fields: &Fields) -> String {
    let mut digest = Sha256::new();
    for (name, value) in fields {
        add(&mut digest, name);
        add(&mut digest, value);
    }
    hex(digest)
}

fn hex(digest: Sha256) -> String {
    let mut text = String::with_capacity(64);
    for byte in digest.finalize() {
        // Writing into a `String` cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
