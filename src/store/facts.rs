//! The counters of a stream, read by one small script: XINFO STREAM alone fails on a missing key
//! and carries the whole of the first and the last entry along.

use std::sync::atomic::Ordering;

use deadpool_redis::redis::{Cmd, Value};

use super::decode::{id, optional, tuple, unsigned};
use super::{Lane, Store, StoreError};
use crate::model::history::Facts;
use crate::model::id::EntryId;
use crate::model::name::StreamName;

const SCRIPT: &str = "\
local kind = redis.call('TYPE', KEYS[1]).ok
if kind == 'none' then return false end
if kind ~= 'stream' then return redis.error_reply('WRONGTYPE the key holds no stream') end
local info, flat = {}, redis.call('XINFO', 'STREAM', KEYS[1])
for i = 1, #flat, 2 do info[flat[i]] = flat[i + 1] end
local first = info['first-entry']
return {info['length'], info['last-generated-id'], info['entries-added'] or false,
        info['max-deleted-entry-id'] or false, first and first[1] or false}";

/// The script call, to be put into any pipeline beside what must be read in the same step.
pub(super) fn command(stream: &StreamName) -> Cmd {
    let mut command = Cmd::new();
    command.arg("EVAL").arg(SCRIPT).arg(1).arg(stream.as_str());
    command
}

impl Store {
    /// The counters of a stream; [`Facts::missing`] if there is none.
    ///
    /// # Errors
    /// [`StoreError::NotAStream`] when the key holds something else, or that Redis is away.
    /// # Cancel safety
    /// Reads only.
    pub async fn facts(&self, lane: &Lane, stream: &StreamName) -> Result<Facts, StoreError> {
        let command = command(stream);
        let reply = match lane {
            Lane::Shared => self.read(&command).await?,
            Lane::Own(handle) => command.query_async(&mut handle.clone()).await?,
        };
        self.decode_facts(reply)
    }

    pub(super) fn decode_facts(&self, value: Value) -> Result<Facts, StoreError> {
        if value == Value::Nil {
            return Ok(Facts::missing());
        }
        let [length, last_id, added, max_deleted, oldest] = tuple(value)?;
        let id_or_nil = |value| match value {
            Value::Nil => Ok(None),
            present => id(present).map(Some),
        };
        Ok(Facts {
            exists: true,
            length: unsigned(&length)?,
            entries_added: optional(&added)?,
            last_id: id(last_id)?,
            oldest: id_or_nil(oldest)?,
            max_deleted: id_or_nil(max_deleted)?.unwrap_or(EntryId::MIN),
            untraced_holes: self.untraced_holes.load(Ordering::Relaxed),
        })
    }
}
