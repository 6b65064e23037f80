//! Storage of idempotency keys, in the same slot as their stream.
//!
//! A hash holds for each key its expiry time, the fingerprint of the appended content and its ids.
//! A sorted set by expiry time serves only to find expired keys. Redis may evict or expire either
//! without the other.
//!
//! The hash also holds a record of the stream (`life.rs`). Appends with a key update it at
//! most once a second, and so does a background job of one gateway. The keys are discarded if
//! another client has replaced the stream.

use deadpool_redis::redis::{Cmd, Value};

use crate::model::name::StreamName;
use crate::redis::conn::send_options::RetryPolicy;
use crate::redis::decode::unsigned;
use crate::redis::keys;
use crate::redis::script::{LuaScript, lua};
use crate::redis::{Lane, Store, StoreError};

/// Updates the record of a stream with idempotency keys. Returns 0 if there are no keys, 1 if
/// updated, 2 if the keys were discarded. Restores a lost sorted set, unless there are more than
/// 10,000 keys.
static REFRESH: LuaScript = LuaScript::new(lua!["lib/below", "lib/stream_life", "keys_refresh"]);

/// Extends the lifetime of the idempotency keys of a stream; never shortens it.
static TOUCH: LuaScript = LuaScript::new(lua!["keys_touch"]);

impl Store {
    /// Handles the marks in the reply to an append: the keys of a replaced stream were discarded
    /// (`forgotten`), or the stream has its first keys (`first`).
    pub(in crate::redis) async fn note_keys<'a>(
        &self,
        stream: &StreamName,
        marks: impl Iterator<Item = &'a str>,
    ) {
        for mark in marks {
            match mark {
                "forgotten" => self.forgot_keys(stream),
                "first" => {
                    let mut command = Cmd::new();
                    command
                        .arg("SADD")
                        .arg(keys::IDEMPOTENCY_INDEX)
                        .arg(stream.redis_key());
                    // If this fails, only appends update the record.
                    if let Err(error) = self.write(&command).await {
                        tracing::debug!(%error, "cannot index the idempotency keys of a stream");
                    }
                }
                _ => {}
            }
        }
    }

    fn forgot_keys(&self, stream: &StreamName) {
        self.discarded.keys();
        tracing::warn!(
            stream = stream.redis_key(),
            "another client replaced a stream; discarded its idempotency keys"
        );
    }

    /// Extends the lifetime of a stream's keys, which gives WAIT a write to wait for.
    pub(in crate::redis) async fn touch_keys(
        &self,
        lane: &Lane,
        stream: &StreamName,
        window_ms: u64,
    ) -> Result<(), StoreError> {
        let [known, _] = keys::idempotency(stream);
        let touched = self.run_script_on(lane, &TOUCH, RetryPolicy::Unsafe, |command| {
            command.arg(1).arg(&known);
            command.arg(window_ms.saturating_add(1000));
        });
        touched.await.map(drop)
    }

    /// Returns a page of the indexed streams with idempotency keys, and the next cursor. Cursor 0
    /// is the start and the end.
    ///
    /// # Errors
    /// An outage of Redis.
    /// # Cancel safety
    /// Cancel safe: only reads.
    pub async fn keys_index(&self, cursor: u64) -> Result<(Vec<StreamName>, u64), StoreError> {
        let (members, next) = self.index_page(keys::IDEMPOTENCY_INDEX, cursor).await?;
        let stream = |member| StreamName::new(&String::from_utf8(member).ok()?).ok();
        Ok((members.into_iter().filter_map(stream).collect(), next))
    }

    /// Updates the record of a stream with idempotency keys, or discards the keys if the stream was
    /// replaced. Removes a stream without keys from the index.
    ///
    /// # Errors
    /// An outage of Redis.
    /// # Cancel safety
    /// If dropped after the command was sent, the record may still be updated.
    pub async fn refresh_keys(&self, stream: &StreamName) -> Result<(), StoreError> {
        let [known, ends] = keys::idempotency(stream);
        let refreshed = self.run_script(&REFRESH, RetryPolicy::Unsafe, |command| {
            command
                .arg(3)
                .arg(stream.redis_key())
                .arg(&known)
                .arg(&ends)
                .arg(self.untraced_holes_flag());
        });
        match unsigned(&refreshed.await?)? {
            1 => return Ok(()),
            2 => self.forgot_keys(stream),
            _ => {}
        }
        let index = async |how: &str| {
            let mut command = Cmd::new();
            command
                .arg(how)
                .arg(keys::IDEMPOTENCY_INDEX)
                .arg(stream.redis_key());
            self.write(&command).await
        };
        index("SREM").await?;
        // An append may have stored a key meanwhile.
        let mut exists = Cmd::new();
        exists.arg("EXISTS").arg(&known);
        if self.read(&exists).await? != Value::Int(0) {
            index("SADD").await?;
        }
        Ok(())
    }
}
