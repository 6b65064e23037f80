//! Scheduled appends: entries that are appended at a later time.
//!
//! Each stream has, in its slot, a sorted set of tokens by due time, and a hash with the entries of
//! each token and their total size in bytes. One script removes a token from both and appends its
//! entries, so each token is delivered once, whichever gateway runs the script.
//!
//! An index in a separate slot lists the streams with scheduled appends, by the time when the first
//! of them is due at the latest. The index is written before and after the stream's own keys. Each
//! write increments an edition of the stream. A gateway that finds a stream empty removes it from
//! the index only if its edition is unchanged since it looked.

use std::fmt::Write as _;
use std::time::Duration;

use deadpool_redis::redis::{Cmd, Value};

use crate::model::name::StreamName;
use crate::redis::conn::send_options::RetryPolicy;
use crate::redis::decode::{bytes, list, text, tuple, unsigned};
use crate::redis::keys;
use crate::redis::script::{LuaScript, lua};
use crate::redis::stream::append::NewEntry;
use crate::redis::{Store, StoreError};

/// Delay before a failed delivery is retried, in milliseconds.
const AGAIN_MS: u64 = 30_000;

/// A scheduled append of one or several entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scheduled {
    /// Token that identifies the append.
    pub token: String,
    /// Due time by the clock of Redis, in Unix milliseconds.
    pub due_ms: u64,
    /// Number of entries.
    pub entries: u64,
}

/// A stream with entries that are due.
#[derive(Clone, Debug)]
pub struct DueStream {
    /// Name of the stream.
    pub stream: StreamName,
    /// Edition of the stream in the index at the time of the look-up.
    edition: String,
}

/// The result of delivering the due entries of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Number of entries appended.
    pub entries: u64,
    /// Whether nothing can be appended, for instance because the key is not a stream.
    pub stuck: bool,
}

/// Records in the index that a stream has entries due after a delay in milliseconds.
static ANNOUNCE: LuaScript = LuaScript::new(lua!["schedule_announce"]);

/// Schedules entries. Returns false if a limit is reached.
static SCHEDULE: LuaScript = LuaScript::new(lua!["schedule"]);

/// Returns at most 100 streams with due entries, their editions, and the milliseconds until the
/// first entry of the index is due (negative if the index is empty).
static DUE: LuaScript = LuaScript::new(lua!["schedule_due"]);

/// Appends due entries. Stops after about 1000 entries or 1 MiB, because the script blocks Redis.
/// Returns the number of entries, whether more are due, when the next is due, and whether the key
/// holds another type.
static MOVE: LuaScript = LuaScript::new(lua!["lib/release", "schedule_append"]);

/// Updates or removes the due time of a stream in the index, unless an append was scheduled since
/// the look-up.
static SETTLE: LuaScript = LuaScript::new(lua!["schedule_reindex"]);

/// Encodes entries for the scripts: the number of entries, then for each entry a line with the
/// lengths of its names and values, followed by these.
fn encode(entries: &[NewEntry]) -> Vec<u8> {
    let mut text = format!("{}\n", entries.len()).into_bytes();
    for entry in entries {
        let words = || entry.fields.iter().flat_map(|(name, value)| [name, value]);
        let mut lengths = String::new();
        for word in words() {
            // Writing into a `String` cannot fail.
            let _ = write!(lengths, "{} ", word.len());
        }
        text.extend_from_slice(lengths.as_bytes());
        text.push(b'\n');
        words().for_each(|word| text.extend_from_slice(word));
    }
    text
}

pub(in crate::redis) fn number(value: Value) -> Result<u64, StoreError> {
    text(value)?
        .parse()
        .map_err(|_| StoreError::Unexpected("an invalid number".to_owned()))
}

impl Store {
    /// Schedules entries to be appended together after `delay`. Returns `None` if the stream
    /// already has `most` scheduled appends, or would exceed `most_bytes` of scheduled data.
    ///
    /// # Errors
    /// [`StoreError::NotAStream`], [`StoreError::OutOfMemory`], or an outage of Redis.
    /// # Cancel safety
    /// If dropped after the command was sent, the entries may still be scheduled.
    pub async fn schedule(
        &self,
        stream: &StreamName,
        entries: &[NewEntry],
        delay: Duration,
        most: usize,
        most_bytes: usize,
    ) -> Result<Option<Scheduled>, StoreError> {
        let delay_ms = delay.as_millis().to_string();
        self.announce(stream, &delay_ms, false).await?;
        let (kept, salt) = (encode(entries), format!("-{:08x}", fastrand::u32(..)));
        let reply = self.run_script(&SCHEDULE, RetryPolicy::Unsafe, |command| {
            let [due, entries] = keys::scheduled(stream);
            command.arg(3).arg(stream.redis_key()).arg(due).arg(entries);
            command
                .arg(most)
                .arg(&delay_ms)
                .arg(&salt)
                .arg(kept.as_slice());
            command.arg(most_bytes);
        });
        let reply = reply.await?;
        if reply == Value::Nil {
            return Ok(None);
        }
        let [token, due] = tuple(reply)?;
        // The append is stored and indexed by now. The second announcement only increments the
        // edition and wakes the waiting gateway.
        if let Err(error) = self.announce(stream, &delay_ms, true).await {
            tracing::debug!(%error, "cannot announce a scheduled append");
        }
        let entries = entries.len() as u64;
        Ok(Some(Scheduled {
            token: text(token)?,
            due_ms: number(due)?,
            entries,
        }))
    }

    async fn announce(
        &self,
        stream: &StreamName,
        delay_ms: &str,
        ring: bool,
    ) -> Result<(), StoreError> {
        let announced = self.run_script(&ANNOUNCE, RetryPolicy::Unsafe, |command| {
            command
                .arg(2)
                .arg(keys::SCHEDULED_INDEX)
                .arg(keys::SCHEDULED_VERSIONS)
                .arg(stream.redis_key())
                .arg(delay_ms);
            command.arg(u8::from(ring)).arg(keys::SCHEDULED_CHANNEL);
        });
        announced.await.map(drop)
    }

    /// Returns the channel on which new scheduled appends are announced.
    #[must_use]
    pub fn schedule_channel() -> &'static str {
        keys::SCHEDULED_CHANNEL
    }

    /// Returns whether any stream has scheduled appends.
    ///
    /// # Errors
    /// An outage of Redis.
    /// # Cancel safety
    /// Cancel safe: only reads.
    pub async fn has_scheduled(&self) -> Result<bool, StoreError> {
        let mut command = Cmd::new();
        command.arg("EXISTS").arg(keys::SCHEDULED_INDEX);
        Ok(unsigned(&self.read(&command).await?)? == 1)
    }

    /// Returns some streams with due entries, and the time until the next entry of any stream is
    /// due. The time is `None` if nothing is scheduled.
    ///
    /// # Errors
    /// An outage of Redis.
    /// # Cancel safety
    /// Cancel safe: only reads.
    pub async fn due_streams(&self) -> Result<(Vec<DueStream>, Option<Duration>), StoreError> {
        let reply = self.run_script(&DUE, RetryPolicy::Safe, |command| {
            command
                .arg(2)
                .arg(keys::SCHEDULED_INDEX)
                .arg(keys::SCHEDULED_VERSIONS);
        });
        let [names, editions, due_in] = tuple(reply.await?)?;
        let (mut streams, mut invalid) = (Vec::new(), 0);
        for (name, edition) in list(names)?.into_iter().zip(list(editions)?) {
            let (name, edition) = (bytes(name)?, text(edition)?);
            let stream = std::str::from_utf8(&name)
                .ok()
                .and_then(|name| StreamName::new(name).ok());
            if let Some(stream) = stream {
                streams.push(DueStream { stream, edition });
                continue;
            }
            // Another client wrote this name. It would stay first in the index forever and delay
            // the other streams.
            self.settle_due(&name, &edition, &format!("+{AGAIN_MS}"))
                .await?;
            invalid += 1;
        }
        if invalid > 0 {
            tracing::warn!(
                key = keys::SCHEDULED_INDEX,
                invalid,
                "the index of scheduled appends contains invalid stream names; skipping them for 30s"
            );
        }
        let due_in = u64::try_from(crate::redis::decode::int(&due_in)?).ok();
        Ok((streams, due_in.map(Duration::from_millis)))
    }

    /// Appends the due entries of a stream and updates the index.
    ///
    /// # Errors
    /// An outage of Redis. Other failures are logged and retried later.
    /// # Cancel safety
    /// If dropped after the command was sent, the entries may still be appended, but only once.
    pub async fn move_due(&self, due: &DueStream) -> Result<Moved, StoreError> {
        let mut all = Moved {
            entries: 0,
            stuck: false,
        };
        let key = due.stream.redis_key().as_bytes();
        let endpoint = self.nodes.node(Some(key))?.endpoint()?;
        loop {
            let reply = self.run_script(&MOVE, RetryPolicy::Unsafe, |command| {
                let [times, entries] = keys::scheduled(&due.stream);
                command
                    .arg(3)
                    .arg(due.stream.redis_key())
                    .arg(times)
                    .arg(entries);
            });
            let again = match reply.await {
                Err(error) if error.is_outage_for_writes() => return Err(error),
                // The failure concerns this stream only and must not delay the others.
                Err(error) => {
                    tracing::warn!(%error, stream = due.stream.redis_key(), "cannot append scheduled entries; retrying in 30s");
                    all.stuck = true;
                    format!("+{AGAIN_MS}")
                }
                Ok(reply) => {
                    let [moved, more, next, stuck] = tuple(reply)?;
                    all.entries += unsigned(&moved)?;
                    all.stuck = unsigned(&stuck)? == 1;
                    if unsigned(&more)? == 1 {
                        continue;
                    }
                    if all.stuck {
                        format!("+{AGAIN_MS}")
                    } else {
                        text(next)?
                    }
                }
            };
            // A delivery on one server must not change the index of another.
            if endpoint.replaced.is_cancelled() {
                return Err(StoreError::Broken("the Redis master changed".to_owned()));
            }
            self.settle_due(due.stream.redis_key().as_bytes(), &due.edition, &again)
                .await?;
            return Ok(all);
        }
    }

    async fn settle_due(&self, name: &[u8], edition: &str, again: &str) -> Result<(), StoreError> {
        let settled = self.run_script(&SETTLE, RetryPolicy::Unsafe, |command| {
            command
                .arg(2)
                .arg(keys::SCHEDULED_INDEX)
                .arg(keys::SCHEDULED_VERSIONS)
                .arg(name)
                .arg(edition)
                .arg(again);
        });
        settled.await.map(drop)
    }
}
