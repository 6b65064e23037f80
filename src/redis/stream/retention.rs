//! Retention settings of streams, and the script that trims a stream to its retention.
//!
//! The retention of a stream is a string in the stream's slot. The trimming script reads the string
//! each time, so a change takes effect on all gateways at once.
//!
//! An index lists the streams with a retention. The index is in a separate slot and is not written
//! atomically with the retention, so callers verify its entries against the retention itself.
//!
//! The string ends with a record of the stream (`life.rs`), which the background job of one
//! gateway updates. The retention is discarded if another client has replaced the stream.

use deadpool_redis::redis::{Cmd, Pipeline, Value};

use crate::model::id::EntryId;
use crate::model::name::{RawName, StreamName};
use crate::model::retention::Retention;
use crate::redis::conn::send_options::RetryPolicy;
use crate::redis::decode::{bytes, id, name, text, tuple, unsigned};
use crate::redis::keys;
use crate::redis::script::{LuaScript, lua};
use crate::redis::{Store, StoreError};

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

/// Trims a stream to its retention. Returns false if the stream has no retention, or no longer
/// exists, in which case its retention is deleted. Returns `replaced` if the retention was that of
/// an earlier stream and was discarded. A pass removes about 10,000 entries, or 1000 that a group
/// holds back.
static RETAIN: LuaScript = LuaScript::new(lua![
    "lib/below",
    "lib/groups",
    "lib/held_back",
    "lib/stream_life",
    "lib/rules",
    "lib/retention",
    "retention_trim"
]);

/// Returns the retention of a stream, and the group that prevents entries from being removed.
static LOOK: LuaScript = LuaScript::new(lua![
    "lib/below",
    "lib/groups",
    "lib/held_back",
    "lib/stream_life",
    "lib/rules",
    "lib/retention",
    "retention_read"
]);

fn begin(command: &mut Cmd, stream: &StreamName) {
    command
        .arg(2)
        .arg(stream.redis_key())
        .arg(keys::retention(stream));
}

pub(in crate::redis) fn encode_retention(retention: Option<&Retention>) -> String {
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
        let reply = self.run_script(&LOOK, RetryPolicy::Safe, |command| {
            begin(command, stream);
            command.arg(self.untraced_holes_flag());
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
        let reply = self.run_script(&RETAIN, RetryPolicy::Unsafe, |command| {
            begin(command, stream);
            command.arg(self.untraced_holes_flag()).arg(u8::from(renew));
        });
        let reply = reply.await?;
        if !matches!(reply, Value::Array(_)) {
            if reply != Value::Nil {
                self.discarded.retention();
                tracing::warn!(
                    stream = stream.redis_key(),
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
        let (members, next) = self.index_page(keys::RETENTION_INDEX, cursor).await?;
        let stream = |member| StreamName::new(&String::from_utf8(member).ok()?).ok();
        Ok((members.into_iter().filter_map(stream).collect(), next))
    }

    /// Returns the version of the index, which differs after every change of the index.
    ///
    /// # Errors
    /// An outage of Redis.
    /// # Cancel safety
    /// Cancel safe: only reads.
    pub async fn retention_edition(&self) -> Result<Option<Vec<u8>>, StoreError> {
        let mut command = Cmd::new();
        command.arg("GET").arg(keys::RETENTION_VERSION);
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
            .arg(keys::RETENTION_INDEX)
            .arg(stream.redis_key());
        transaction
            .cmd("SET")
            .arg(keys::RETENTION_VERSION)
            .arg(format!("{:016x}", fastrand::u64(..)));
        self.write_pipeline(&transaction).await.map(drop)
    }
}
