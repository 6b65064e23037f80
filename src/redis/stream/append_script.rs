//! Conditional, batched and idempotent appends. One script checks everything before it writes, and
//! behaves the same on every server.

use deadpool_redis::redis::Cmd;
use sha2::{Digest, Sha256};

use crate::model::id::NewId;
use crate::model::name::StreamName;
use crate::redis::decode::{list, text};
use crate::redis::stream::append::{Append, Appended, Key, Placed, Refusal, fingerprint, hex};
use crate::redis::stream::idempotency::{keys, lua_keys};
use crate::redis::stream::life::lua_stream_life;
use crate::redis::stream::read_budget::Room;
use crate::redis::stream::trim::{lua_held_back, lua_trim};
use crate::redis::{Lane, Store, StoreError};

const SCRIPT: &str = concat!(
    lua_trim!(),
    lua_stream_life!("ARGV[1]"),
    "\
local stream, known, ends = KEYS[1], KEYS[2], KEYS[3]
local at = 1
local function take() at = at + 1 return ARGV[at] end
local if_match, if_new, no_make, window = take(), take(), take(), tonumber(take())
local by_last = take() == '1'
local whole, whole_print, atomic = take(), take(), take() == '1'
local trimming = {}
for i = 1, tonumber(take()) do trimming[i] = take() end

local kind = redis.call('TYPE', stream).ok
if kind ~= 'none' and kind ~= 'stream' then return redis.error_reply('WRONGTYPE the key holds no stream') end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
",
    lua_keys!(),
    "\
if whole ~= '' then
  local print, ids = recall(whole)
  if print and print ~= whole_print then return {'reused', '0'} end
  if print then return {'replayed', ids} end
end

local last = '0-0'
if kind == 'stream' and by_last then
  local info = redis.call('XINFO', 'STREAM', stream)
  for i = 1, #info, 2 do if info[i] == 'last-generated-id' then last = info[i + 1] end end
elseif kind == 'none' and no_make == '1' then return {'no-stream'} end
if (if_match ~= '' and if_match ~= last) or (if_new == '1' and last ~= '0-0') then return {'stale', last} end

local entries, seen, chosen, from = {}, {}, false, last
local keyed = whole ~= ''
for i = 1, tonumber(take()) do
  local entry = {id = take(), key = take(), print = take(), fields = {}}
  for f = 1, tonumber(take()) do entry.fields[f] = take() end
  entries[i] = entry
  if entry.key ~= '' then
    keyed = true
    local print, id = recall(entry.key)
    local twin = seen[entry.key]
    if twin then print, entry.twin = twin.print, twin end
    if print and print ~= entry.print then entry.refused = 'reused' end
    entry.given = id
    if not print then seen[entry.key] = entry end
  end
  if atomic and not entry.refused and not entry.given and not entry.twin then
    local ms = entry.id:match('^(%d+)-%*$')
    if entry.id == '*' then chosen = true
    elseif chosen then entry.refused = 'after-chosen'
    elseif ms then
      if not below(from, ms .. '-18446744073709551615') then entry.refused = 'not-monotonic' end
      chosen = true
    elseif not below(from, entry.id) then entry.refused = 'not-monotonic'
    else from = entry.id end
  end
  if atomic and entry.refused then return {entry.refused, tostring(i)} end
end

for _, key in ipairs(redis.call('ZRANGEBYSCORE', ends, '-inf', now, 'LIMIT', 0, 100 + 2 * #entries)) do
  redis.call('HDEL', known, key)
  redis.call('ZREM', ends, key)
end
local due = keyed and is_due()
local results, ids, wrote, stopped = {'each'}, {}, false, false
for i, entry in ipairs(entries) do
  if entry.twin then entry.given, entry.refused = entry.twin.given, entry.refused or entry.twin.refused end
  if stopped then entry.refused = 'exhausted' end
  local mark = '~'
  if not entry.given and not entry.refused then
    local words = {'XADD', stream, entry.id}
    for _, word in ipairs(entry.fields) do words[#words + 1] = word end
    local given = redis.pcall(unpack(words))
    if type(given) == 'table' then
      local why = tostring(given.err)
      local function says(text) return why:find(text, 1, true) end
      if says('exhausted the last possible') then
        entry.refused, stopped = 'exhausted', atomic
      elseif not atomic and (says('equal or smaller') or says('too large to be stored')) then
        entry.refused = 'not-monotonic'
      else return given end
    else
      entry.given, mark, wrote = given, '', true
      if entry.key ~= '' then remember(entry.key, entry.print, given) end
    end
  end
  ids[i] = entry.given
  results[#results + 1] = entry.refused and '!' .. entry.refused or mark .. entry.given
end
if wrote and #trimming > 0 then trim(stream, unpack(trimming)) end
if whole ~= '' and not stopped then remember(whole, whole_print, table.concat(ids, ',')) end
if due and wrote then record() end
results[1] = 'each' .. marks
return results"
);

impl Store {
    /// Runs [`Store::append`] with the script.
    pub(in crate::redis) async fn append_by_script(
        &self,
        lane: &Lane,
        stream: &StreamName,
        append: &Append,
    ) -> Result<Appended, StoreError> {
        let mut command = Cmd::new();
        let [known, ends] = keys(stream);
        command
            .arg("EVAL")
            .arg(SCRIPT)
            .arg(3)
            .arg(stream.as_str())
            .arg(known)
            .arg(ends);
        command.arg(self.holes());
        command.arg(append.if_match.map(|id| id.to_string()).unwrap_or_default());
        command
            .arg(u8::from(append.if_new))
            .arg(u8::from(!append.create))
            .arg(append.window_ms);
        // XINFO copies two entries of the stream, possibly large, into the script. Only appends
        // that compare something with the last id need it.
        let by_last = append.if_match.is_some()
            || append.if_new
            || append.entries.iter().any(|entry| entry.id != NewId::Auto);
        command.arg(u8::from(by_last));
        let _room = match by_last {
            true => self.large.room_for_facts(stream.as_str()).await?,
            false => Room::default(),
        };
        let keyed = append.key.is_some();
        let prints: Vec<String> = append
            .entries
            .iter()
            .map(|entry| match keyed || entry.key.is_some() {
                true => fingerprint(&entry.fields),
                false => String::new(),
            })
            .collect();
        command.arg(append.key.as_ref().map_or("", Key::as_str));
        command
            .arg(hex(Sha256::new_with_prefix(prints.concat())))
            .arg(u8::from(append.atomic));
        match append.trimming {
            Some(trimming) => {
                command.arg(5);
                trimming.write_script(&mut command);
            }
            None => {
                command.arg(0);
            }
        }
        command.arg(append.entries.len());
        for (entry, print) in append.entries.iter().zip(&prints) {
            command
                .arg(entry.id.to_string())
                .arg(entry.key.as_ref().map_or("", Key::as_str));
            command.arg(print).arg(2 * entry.fields.len());
            for (name, value) in &entry.fields {
                command.arg(name.as_slice()).arg(value.as_slice());
            }
        }
        let mut reply = list(self.write_on(lane, &command).await?)?.into_iter();
        let verdict = text(reply.next().unwrap_or_default())?;
        let rest: Vec<String> = reply.map(text).collect::<Result<_, _>>()?;
        let mut words = verdict.split(' ');
        let word = words.next().unwrap_or_default();
        self.note_keys(stream, words).await;
        decode(word, &rest)
            .ok_or_else(|| StoreError::Unexpected(format!("an append returned {verdict}")))
    }
}

fn decode(verdict: &str, rest: &[String]) -> Option<Appended> {
    let first = rest.first().map(String::as_str);
    Some(match verdict {
        "each" => {
            let one = |text: &String| {
                let given = |text: &str, replayed| {
                    Some(Ok(Placed {
                        id: text.parse().ok()?,
                        replayed,
                    }))
                };
                match text.split_at_checked(1)? {
                    ("!", word) => Some(Err(refusal(word)?)),
                    ("~", id) => given(id, true),
                    _ => given(text, false),
                }
            };
            Appended::Each(rest.iter().map(one).collect::<Option<_>>()?)
        }
        "replayed" => Appended::Replayed(
            first?
                .split(',')
                .map(|id| id.parse().ok())
                .collect::<Option<_>>()?,
        ),
        "stale" => Appended::Refused(None, Refusal::Stale(first?.parse().ok()?)),
        "no-stream" => Appended::Refused(None, Refusal::NoStream),
        // Index 0 means the whole request.
        word => Appended::Refused(first?.parse::<usize>().ok()?.checked_sub(1), refusal(word)?),
    })
}

fn refusal(word: &str) -> Option<Refusal> {
    Some(match word {
        "reused" => Refusal::KeyReused,
        "not-monotonic" => Refusal::NotMonotonic,
        "after-chosen" => Refusal::AfterChosen,
        "exhausted" => Refusal::Exhausted,
        _ => return None,
    })
}
