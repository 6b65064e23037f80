//! Listing and cancelling of scheduled entries.

use deadpool_redis::redis::{Cmd, Value};

use crate::model::name::StreamName;
use crate::redis::conn::send_options::RetryPolicy;
use crate::redis::decode::{list, text, tuple, unsigned};
use crate::redis::keys;
use crate::redis::script::{LuaScript, lua};
use crate::redis::stream::scheduled::{Scheduled, number};
use crate::redis::{Store, StoreError};

/// Lists a page of scheduled appends. Starts after the given token, or at the given due time if the
/// token no longer exists.
static LIST: LuaScript = LuaScript::new(lua!["schedule_list"]);

/// Finds a scheduled append.
static FIND: LuaScript = LuaScript::new(lua!["schedule_find"]);

/// Cancels a scheduled append. Returns 1 if it still existed.
static CANCEL: LuaScript = LuaScript::new(lua!["lib/release", "schedule_cancel"]);

fn beside(command: &mut Cmd, stream: &StreamName) {
    let [due, entries] = keys::scheduled(stream);
    command.arg(2).arg(due).arg(entries);
}

fn scheduled(value: Value) -> Result<Scheduled, StoreError> {
    let [token, due, entries] = tuple(value)?;
    Ok(Scheduled {
        token: text(token)?,
        due_ms: score(due)?,
        entries: number(entries)?,
    })
}

/// Decodes a score. Some servers write large numbers with an exponent.
fn score(value: Value) -> Result<u64, StoreError> {
    let score = text(value)?.parse::<f64>().ok();
    let score = score.and_then(|score| format!("{score:.0}").parse().ok());
    score.ok_or_else(|| StoreError::Unexpected("an invalid score".to_owned()))
}

impl Store {
    /// Returns the scheduled appends of a stream, soonest first, after the due time in Unix
    /// milliseconds and the token of `after`.
    ///
    /// # Errors
    /// An outage of Redis.
    /// # Cancel safety
    /// Cancel safe: only reads.
    pub async fn scheduled(
        &self,
        stream: &StreamName,
        after: Option<(u64, &str)>,
        limit: usize,
    ) -> Result<Vec<Scheduled>, StoreError> {
        let reply = self.run_script(&LIST, RetryPolicy::Safe, |command| {
            beside(command, stream);
            command.arg(limit);
            match after {
                Some((due_ms, token)) => command.arg(due_ms).arg(token),
                None => command.arg("").arg(""),
            };
        });
        list(reply.await?)?.into_iter().map(scheduled).collect()
    }

    /// Returns a scheduled append, or `None` if it does not exist or was already delivered.
    ///
    /// # Errors
    /// An outage of Redis.
    /// # Cancel safety
    /// Cancel safe: only reads.
    pub async fn find_scheduled(
        &self,
        stream: &StreamName,
        token: &str,
    ) -> Result<Option<Scheduled>, StoreError> {
        let reply = self.run_script(&FIND, RetryPolicy::Safe, |command| {
            beside(command, stream);
            command.arg(token);
        });
        match reply.await? {
            Value::Nil => Ok(None),
            found => scheduled(found).map(Some),
        }
    }

    /// Cancels a scheduled append. Returns false if it does not exist or was already delivered.
    ///
    /// # Errors
    /// An outage of Redis.
    /// # Cancel safety
    /// If dropped after the command was sent, the append may still be cancelled.
    pub async fn cancel_scheduled(
        &self,
        stream: &StreamName,
        token: &str,
    ) -> Result<bool, StoreError> {
        let reply = self.run_script(&CANCEL, RetryPolicy::Unsafe, |command| {
            beside(command, stream);
            command.arg(token);
        });
        Ok(unsigned(&reply.await?)? == 1)
    }
}
