//! Atomic changes of a stream's counters and retention.

use crate::model::name::StreamName;
use crate::model::retention::Retention;
use crate::redis::conn::pool::Repeat;
use crate::redis::decode::int;
use crate::redis::group::leases::Verb;
use crate::redis::stream::counters::{Counters, write_counters};
use crate::redis::stream::idempotency;
use crate::redis::stream::life::lua_stream_life;
use crate::redis::stream::retention::{kept, key, lua_rules};
use crate::redis::{Store, StoreError};

/// A change of a stream's settings.
#[derive(Clone, Debug, Default)]
pub struct StreamChange {
    /// Whether to create an empty stream if it does not exist.
    pub create: bool,
    /// New counters.
    pub counters: Option<Counters>,
    /// The retention the caller has seen, and the new retention.
    pub retention: Option<(Option<Retention>, Option<Retention>)>,
}

/// Sets the counters and the retention of a stream, unless the retention differs from the one the
/// caller has seen. If requested, creates the stream first, and returns 1 if it did. Changes
/// everything or nothing. Counters may be set back: the data kept about the stream then gets a
/// record of the new counters.
static CHANGE: Verb = Verb::new(concat!(
    lua_below!(),
    lua_stream_life!("ARGV[1]"),
    lua_rules!(),
    "\
local stream, kept, known = KEYS[1], KEYS[2], KEYS[3]
local seen, wanted, create = ARGV[2], ARGV[3], ARGV[4] == '1'
local kind = redis.call('TYPE', stream).ok
if kind == 'none' and not create then return redis.error_reply('ERR no such key') end
if kind ~= 'none' and kind ~= 'stream' then return redis.error_reply('WRONGTYPE the key holds no stream') end
local rules = rules_in(stream, counters_of(stream), redis.call('GET', kept))
if wanted ~= '' and (rules or '-') ~= seen then return redis.error_reply('CHANGED by someone else') end
if kind == 'none' then
  redis.call('XGROUP', 'CREATE', stream, 'streamgate', '0', 'MKSTREAM')
  redis.call('XGROUP', 'DESTROY', stream, 'streamgate')
end
if #ARGV > 4 then
  local set = redis.pcall('XSETID', stream, unpack(ARGV, 5))
  if type(set) == 'table' and set.err then
    if kind == 'none' then redis.call('DEL', stream) end
    return set
  end
end
local record = record_of(counters_of(stream))
if wanted == '' then wanted = rules or '-' end
if wanted == '-' then redis.call('DEL', kept) else redis.call('SET', kept, wanted .. ' ' .. record) end
if #ARGV > 4 and redis.call('EXISTS', known) == 1 then redis.call('HSET', known, 'life', record .. ' 0') end
return kind == 'none' and 1 or 0"
));

impl Store {
    /// Changes the counters of a stream, its retention, or both, atomically. Returns true if it
    /// created the stream.
    ///
    /// # Errors
    /// Nothing was changed after an error, except after a timeout or a broken connection.
    ///
    /// - [`StoreError::StreamNotFound`], unless the stream may be created.
    /// - [`StoreError::NotAStream`].
    /// - [`StoreError::IdNotMonotonic`] when the stream has entries above the new last id.
    /// - [`StoreError::Contradiction`] when the other counters are impossible.
    /// - [`StoreError::Changed`] when the retention is no longer the one the caller has seen.
    /// - An outage of Redis.
    /// # Cancel safety
    /// If dropped after the command was sent, the stream may still be changed.
    pub async fn change_stream(
        &self,
        stream: &StreamName,
        change: &StreamChange,
    ) -> Result<bool, StoreError> {
        let gets_one = matches!(change.retention, Some((_, Some(_))));
        // Indexed before the change, so that a gateway that dies here leaves no unindexed
        // retention. Indexed again after it, because a concurrent removal from the index checks for
        // a retention only after the removal.
        if gets_one {
            self.enlist_retention(stream).await?;
        }
        let [known, _] = idempotency::keys(stream);
        let changed = self.verb(&CHANGE, Repeat::Unsafe, |command| {
            command
                .arg(3)
                .arg(stream.as_str())
                .arg(key(stream))
                .arg(&known)
                .arg(self.holes());
            match &change.retention {
                Some((seen, next)) => {
                    command.arg(kept(seen.as_ref())).arg(kept(next.as_ref()));
                }
                None => {
                    command.arg("").arg("");
                }
            }
            command.arg(u8::from(change.create));
            if let Some(counters) = change.counters {
                write_counters(command, counters);
            }
        });
        let made = int(&changed.await?)? == 1;
        if gets_one {
            self.enlist_retention(stream).await?;
        }
        Ok(made)
    }
}
