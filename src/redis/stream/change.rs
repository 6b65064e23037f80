//! Atomic changes of a stream's counters and retention.

use crate::model::name::StreamName;
use crate::model::retention::Retention;
use crate::redis::conn::send_options::RetryPolicy;
use crate::redis::decode::int;
use crate::redis::keys;
use crate::redis::script::{LuaScript, lua};
use crate::redis::stream::counters::{Counters, write_counters};
use crate::redis::stream::retention::encode_retention;
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
static CHANGE: LuaScript = LuaScript::new(lua![
    "lib/below",
    "lib/stream_life",
    "lib/rules",
    "stream_change"
]);

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
        let [known, _] = keys::idempotency(stream);
        let changed = self.run_script(&CHANGE, RetryPolicy::Unsafe, |command| {
            command
                .arg(3)
                .arg(stream.redis_key())
                .arg(keys::retention(stream))
                .arg(&known)
                .arg(self.untraced_holes_flag());
            match &change.retention {
                Some((seen, next)) => {
                    command
                        .arg(encode_retention(seen.as_ref()))
                        .arg(encode_retention(next.as_ref()));
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
