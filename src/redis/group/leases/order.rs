//! Keys of a group with `order_by`: in flight, waiting, and blocked by a dead letter.

use deadpool_redis::redis::{Cmd, Value};

use crate::model::id::EntryId;
use crate::model::name::{GroupName, StreamName};
use crate::redis::conn::send_options::RetryPolicy;
use crate::redis::decode::{bytes, id, int, list, text, tuple, unsigned};
use crate::redis::script::{LuaScript, lua};
use crate::redis::{Store, StoreError};

/// Lists keys by their hash.
static LIST: LuaScript = LuaScript::new(lua!["lib/life", "lib/leases", "lib/order", "keys_list"]);

/// Frees a key. Returns the number of entries it no longer waits for, or -1 if it is unknown.
static FREE: LuaScript = LuaScript::new(lua!["lib/life", "lib/leases", "lib/order", "key_free"]);

/// Counts entries of the order, or returns false if the group has none.
static STATE: LuaScript =
    LuaScript::new(lua!["lib/life", "lib/leases", "lib/order", "order_state"]);

/// A key of a group, named by its value or by its hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyName {
    /// The value of the field.
    Value(Vec<u8>),
    /// The hash of the value, as listed.
    Hash(String),
}

/// A key with unfinished entries.
#[derive(Clone, Debug)]
pub struct OrderedKey {
    /// Hash of the key.
    pub hash: String,
    /// The value, if an entry of the key still exists.
    pub value: Option<Vec<u8>>,
    /// First entry that is handed out or due.
    pub first: Option<EntryId>,
    /// First entry whose dead letter blocks the key.
    pub blocked_by: Option<EntryId>,
    /// First entry that waits.
    pub next: Option<EntryId>,
    /// Number of entries that are handed out or due.
    pub in_flight: u64,
    /// Number of entries whose dead letters block the key.
    pub blocking: u64,
    /// Number of entries that were read ahead and wait.
    pub waiting: u64,
}

/// A page of keys.
#[derive(Clone, Debug, Default)]
pub struct OrderedKeys {
    /// Keys by their hash.
    pub keys: Vec<OrderedKey>,
    /// Start of the next page.
    pub next: Option<String>,
}

/// The numbers of entries in the order of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderState {
    /// Entries with a key that are handed out or due.
    pub in_flight: u64,
    /// Entries whose dead letters block their keys.
    pub blocked: u64,
    /// Entries that were read ahead and wait for their keys.
    pub waiting: u64,
    /// The oldest entry whose dead letter blocks its key, with its age by its id, in milliseconds.
    pub oldest_blocked: Option<(EntryId, u64)>,
}

fn write_name(command: &mut Cmd, name: &KeyName) {
    match name {
        KeyName::Value(value) => command.arg("key").arg(value),
        KeyName::Hash(hash) => command.arg("hash").arg(hash),
    };
}

impl Store {
    /// Lists keys of a group that have unfinished entries, from a hash on.
    ///
    /// # Errors
    /// [`StoreError::GroupIsUnordered`], the errors of [`Store::needed_policy`], or an outage of
    /// Redis.
    /// # Cancel safety
    /// Cancel safe: only reads.
    pub async fn ordered_keys(
        &self,
        stream: &StreamName,
        group: &GroupName,
        from: &str,
        limit: usize,
    ) -> Result<OrderedKeys, StoreError> {
        let reply = self.run_script(&LIST, RetryPolicy::Safe, |command| {
            self.begin(command, stream, group);
            command.arg(from).arg(limit).arg("").arg("");
        });
        let [keys, next] = tuple(reply.await?)?;
        let keys = list(keys)?.into_iter().map(ordered_key);
        Ok(OrderedKeys {
            keys: keys.collect::<Result<_, _>>()?,
            next: Some(text(next)?).filter(|next| !next.is_empty()),
        })
    }

    /// Returns one key of a group, or `None` if it has no unfinished entries.
    ///
    /// # Errors
    /// Same as [`Store::ordered_keys`].
    /// # Cancel safety
    /// Cancel safe: only reads.
    pub async fn key_in_order(
        &self,
        stream: &StreamName,
        group: &GroupName,
        name: &KeyName,
    ) -> Result<Option<OrderedKey>, StoreError> {
        let reply = self.run_script(&LIST, RetryPolicy::Safe, |command| {
            self.begin(command, stream, group);
            command.arg("").arg(1);
            write_name(command, name);
        });
        let [keys, _] = tuple(reply.await?)?;
        list(keys)?.into_iter().next().map(ordered_key).transpose()
    }

    /// Frees a key from its dead letters, which stay. Returns the number of entries that it no longer
    /// waits for, or `None` if the key has no unfinished entries.
    ///
    /// # Errors
    /// Same as [`Store::ordered_keys`].
    /// # Cancel safety
    /// If dropped after the command was sent, the key may still be freed.
    pub async fn free_key(
        &self,
        stream: &StreamName,
        group: &GroupName,
        name: &KeyName,
    ) -> Result<Option<u64>, StoreError> {
        let reply = self.run_script(&FREE, RetryPolicy::Unsafe, |command| {
            self.begin(command, stream, group);
            write_name(command, name);
        });
        Ok(u64::try_from(int(&reply.await?)?).ok())
    }

    /// Returns the numbers of entries in the order of a group, or `None` without an order.
    ///
    /// # Errors
    /// An outage of Redis.
    /// # Cancel safety
    /// Cancel safe: only reads.
    pub async fn order_state(
        &self,
        stream: &StreamName,
        group: &GroupName,
    ) -> Result<Option<OrderState>, StoreError> {
        let reply = self.run_script(&STATE, RetryPolicy::Safe, |command| {
            self.begin(command, stream, group);
        });
        let reply = reply.await?;
        if reply == Value::Nil {
            return Ok(None);
        }
        let [in_flight, blocked, waiting, oldest, now_ms] = tuple(reply)?;
        let now_ms = unsigned(&now_ms)?;
        Ok(Some(OrderState {
            in_flight: unsigned(&in_flight)?,
            blocked: unsigned(&blocked)?,
            waiting: unsigned(&waiting)?,
            oldest_blocked: id(oldest).ok().map(|id| (id, now_ms.saturating_sub(id.ms))),
        }))
    }
}

fn ordered_key(value: Value) -> Result<OrderedKey, StoreError> {
    let [
        hash,
        value,
        first,
        blocked_by,
        next,
        in_flight,
        blocking,
        waiting,
    ] = tuple(value)?;
    Ok(OrderedKey {
        hash: text(hash)?,
        value: match value {
            Value::Nil => None,
            present => Some(bytes(present)?),
        },
        first: id(first).ok(),
        blocked_by: id(blocked_by).ok(),
        next: id(next).ok(),
        in_flight: unsigned(&in_flight)?,
        blocking: unsigned(&blocking)?,
        waiting: unsigned(&waiting)?,
    })
}
