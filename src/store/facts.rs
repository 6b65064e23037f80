//! The counters of a stream, read by one small script: XINFO STREAM alone fails on a missing key
//! and carries the whole of the first and the last entry along. And ranges, read in one step with
//! them.

use std::sync::atomic::Ordering;

use deadpool_redis::redis::{Cmd, Pipeline, Value};

use super::decode::{id, list, optional, optional_id, tuple, unsigned};
use super::large::Room;
use super::{Lane, Store, StoreError};
use crate::model::entry::Entry;
use crate::model::history::Facts;
use crate::model::id::EntryId;
use crate::model::name::StreamName;
use crate::model::position::Position;
use crate::model::range::Order;

/// Lua: `weight_of(info)` is what the heavier of the two entries weighs that XINFO copied along.
macro_rules! lua_weight {
    () => {
        "\
local function weight_of(info)
  local most = 0
  for _, which in ipairs({'first-entry', 'last-entry'}) do
    local weight = 0
    for _, text in ipairs(info[which] and info[which][2] or {}) do weight = weight + #text + 128 end
    most = math.max(most, weight)
  end
  return most
end\n"
    };
}

const SCRIPT: &str = concat!(
    lua_weight!(),
    "\
local kind = redis.call('TYPE', KEYS[1]).ok
if kind == 'none' then return false end
if kind ~= 'stream' then return redis.error_reply('WRONGTYPE the key holds no stream') end
local info, flat = {}, redis.call('XINFO', 'STREAM', KEYS[1])
for i = 1, #flat, 2 do info[flat[i]] = flat[i + 1] end
local first = info['first-entry']
local facts = {info['length'], info['last-generated-id'], info['entries-added'] or false,
               info['max-deleted-entry-id'] or false, first and first[1] or false, weight_of(info)}
if #ARGV == 0 then return facts end
return {redis.call(ARGV[1], KEYS[1], ARGV[2], ARGV[3], 'COUNT', ARGV[4]), facts}"
);

/// Where each of several streams ends: its last id and entries-added; `0-0` and 0 of a key that is not
/// there, nothing of one that is no stream.
const GLANCE: &str = concat!(
    lua_weight!(),
    "\
local ends = {}
for i, key in ipairs(KEYS) do
  local kind = redis.call('TYPE', key).ok
  if kind == 'none' then
    ends[i] = {'0-0', 0, 0}
  elseif kind == 'stream' then
    local info, flat = {}, redis.call('XINFO', 'STREAM', key)
    for j = 1, #flat, 2 do info[flat[j]] = flat[j + 1] end
    ends[i] = {info['last-generated-id'], info['entries-added'] or false, weight_of(info)}
  else
    ends[i] = {false, false, 0}
  end
end
return ends"
);

/// Entries between two ids, both included.
#[derive(Clone, Copy)]
pub(super) struct Range {
    pub(super) order: Order,
    pub(super) low: EntryId,
    pub(super) high: EntryId,
    pub(super) count: usize,
}

/// The script call, to be put into a transaction beside what must be read in the same step.
fn command(stream: &StreamName) -> Cmd {
    let mut command = Cmd::new();
    command.arg("EVAL").arg(SCRIPT).arg(1).arg(stream.as_str());
    command
}

/// The script call that tells where streams end.
pub(super) fn glance(streams: &[&StreamName]) -> Cmd {
    let mut command = Cmd::new();
    command.arg("EVAL").arg(GLANCE).arg(streams.len());
    for stream in streams {
        command.arg(stream.as_str());
    }
    command
}

impl Store {
    /// What it answers.
    pub(super) fn decode_ends(
        &self,
        streams: &[&StreamName],
        reply: Value,
    ) -> Result<Vec<Option<Position>>, StoreError> {
        let end = |(stream, end): (&&StreamName, Value)| {
            let [last_id, added, weight] = tuple(end)?;
            let (last_id, added) = (optional_id(last_id)?, optional(&added)?);
            self.weighed(stream, &weight)?;
            Ok(last_id.map(|last_id| Position::new(last_id, added)))
        };
        streams.iter().zip(list(reply)?).map(end).collect()
    }

    fn weighed(&self, stream: &StreamName, weight: &Value) -> Result<(), StoreError> {
        let weight = usize::try_from(unsigned(weight)?).unwrap_or(usize::MAX);
        self.large.saw(stream.as_str(), Some(weight).filter(|weight| *weight > 0));
        Ok(())
    }

    /// The counters of a stream; [`Facts::missing`] if there is none.
    ///
    /// # Errors
    /// [`StoreError::NotAStream`] when the key holds something else, [`StoreError::Crowded`], or
    /// that Redis is away.
    /// # Cancel safety
    /// Reads only.
    pub async fn facts(&self, lane: &Lane, stream: &StreamName) -> Result<Facts, StoreError> {
        let _room = match lane {
            Lane::Shared => self.large.room_for_facts(stream.as_str()).await?,
            Lane::Own(_) => Room::default(),
        };
        self.decode_facts(stream, self.read_on(lane, &command(stream)).await?)
    }

    /// Where each of several streams ends, as [`Facts::tail`] tells it; `None` for a key that holds
    /// something else.
    ///
    /// # Errors
    /// That Redis is away.
    /// # Cancel safety
    /// Reads only.
    pub async fn glance(
        &self,
        lane: &Lane,
        streams: &[StreamName],
    ) -> Result<Vec<Option<Position>>, StoreError> {
        let streams: Vec<_> = streams.iter().collect();
        self.decode_ends(&streams, self.read_on(lane, &glance(&streams)).await?)
    }

    /// A range and the counters of its stream, read in one step.
    ///
    /// # Errors
    /// [`StoreError::NotAStream`], or that Redis is away.
    /// # Cancel safety
    /// Reads only.
    pub(super) async fn range_with_facts(
        &self,
        lane: &Lane,
        stream: &StreamName,
        range: &Range,
    ) -> Result<(Vec<Entry>, Facts), StoreError> {
        let (verb, from, to) = match range.order {
            Order::Asc => ("XRANGE", range.low, range.high),
            Order::Desc => ("XREVRANGE", range.high, range.low),
        };
        let mut plain = Cmd::new();
        plain.arg(verb).arg(stream.as_str()).arg(from.to_string()).arg(to.to_string());
        plain.arg("COUNT").arg(range.count);
        let mut transaction = Pipeline::new();
        transaction.atomic().add_command(plain).add_command(command(stream));
        let [entries, facts] = match self.read_pipeline(lane, &transaction).await {
            // Redis takes no transaction at all when it is full; a script that only reads may run.
            // Always to use the script would cost Redis four times as much for each entry.
            Err(StoreError::OutOfMemory) => {
                let mut whole = command(stream);
                whole.arg(verb).arg(from.to_string()).arg(to.to_string()).arg(range.count);
                match self.read_on(lane, &whole).await? {
                    Value::Nil => [Value::Array(Vec::new()), Value::Nil],
                    both => tuple(both)?,
                }
            }
            replies => tuple(Value::Array(replies?))?,
        };
        Ok((super::decode::entries(entries)?, self.decode_facts(stream, facts)?))
    }

    async fn read_on(&self, lane: &Lane, command: &Cmd) -> Result<Value, StoreError> {
        match lane {
            Lane::Shared => self.read(command).await,
            Lane::Own(handle) => self.connections.heed(handle.command(command).await),
        }
    }

    fn decode_facts(&self, stream: &StreamName, value: Value) -> Result<Facts, StoreError> {
        if value == Value::Nil {
            return Ok(Facts::missing());
        }
        let [length, last_id, added, max_deleted, oldest, weight] = tuple(value)?;
        self.weighed(stream, &weight)?;
        Ok(Facts {
            exists: true,
            length: unsigned(&length)?,
            entries_added: optional(&added)?,
            last_id: id(last_id)?,
            oldest: optional_id(oldest)?,
            max_deleted: optional_id(max_deleted)?.unwrap_or(EntryId::MIN),
            untraced_holes: self.untraced_holes.load(Ordering::Relaxed),
        })
    }
}
