//! Listing and deletion of dead letters of a group.

use deadpool_redis::redis::Cmd;

use crate::model::entry::{Entry, Fields};
use crate::model::id::EntryId;
use crate::model::name::{GroupName, RawName, StreamName};
use crate::model::packed::unpack;
use crate::model::policy::Policy;
use crate::redis::conn::send_options::RetryPolicy;
use crate::redis::constants::{LETTER_FIELD, PACKED_FIELD};
use crate::redis::decode::{entries, unsigned};
use crate::redis::script::{LuaScript, lua};
use crate::redis::stream::read_budget::{ANSWER, heaviest};
use crate::redis::{Store, StoreError};

/// Number of fields that describe the origin of a dead letter.
const TELLING: usize = 7;
/// Maximum entries of a dead-letter stream read per page. Other groups may share the stream, so a
/// page may contain few letters of this group.
const AT_ONCE: usize = 1000;
/// Maximum pages per call.
const STEPS: usize = 10;

/// Deletes dead letters, and frees the keys that waited for them.
static DELETE: LuaScript = LuaScript::new(lua![
    "lib/life",
    "lib/leases",
    "lib/order",
    "letters_delete"
]);

/// An entry that no consumer could process.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// Id of the dead letter in the dead-letter stream.
    pub id: EntryId,
    /// Fields of the original entry, in order; empty if the original had been deleted.
    pub fields: Fields,
    /// Id of the original entry.
    pub entry: EntryId,
    /// Consumer that last held the entry; `None` if it had been returned to the group.
    pub consumer: Option<RawName>,
    /// Number of deliveries.
    pub deliveries: u64,
    /// Reason for the dead letter.
    pub reason: String,
    /// Time when the entry became a dead letter, in Unix milliseconds.
    pub time_ms: u64,
}

/// A page of dead letters.
#[derive(Clone, Debug)]
pub struct DeadLetters {
    /// Dead letters, by id.
    pub letters: Vec<DeadLetter>,
    /// First id of the next page; `None` at the end.
    pub next: Option<EntryId>,
}

impl DeadLetter {
    /// Decodes an entry of a dead-letter stream, or returns `None` if it came from another group.
    #[must_use]
    fn read(entry: Entry, from: &str, group: &GroupName) -> Option<Self> {
        let mut fields = entry.fields;
        let telling = fields.split_off(fields.len().checked_sub(TELLING)?);
        let bytes_of = |name: &str| {
            let mut found = telling.iter();
            let named = found.find(|(key, _)| {
                key.strip_prefix(LETTER_FIELD.as_bytes()) == Some(name.as_bytes())
            });
            named.map(|(_, value)| value.as_slice())
        };
        let of = |name: &str| bytes_of(name).and_then(|value| std::str::from_utf8(value).ok());
        if of("stream")? != from || bytes_of("group")? != group.as_bytes() {
            return None;
        }
        if let [(name, packed)] = fields.as_slice()
            && name == PACKED_FIELD.as_bytes()
            && let Some(unpacked) = unpack(packed)
        {
            fields = unpacked;
        }
        let consumer = bytes_of("consumer").filter(|name| !name.is_empty());
        Some(Self {
            id: entry.id,
            entry: of("id")?.parse().ok()?,
            consumer: consumer.map(|name| name.to_vec().into()),
            deliveries: of("deliveries")?.parse().ok()?,
            reason: of("reason")?.to_owned(),
            time_ms: of("time")?.parse().ok()?,
            fields,
        })
    }
}

impl Store {
    /// Returns the policy of a group that must have one.
    ///
    /// # Errors
    /// [`StoreError::GroupHasNoPolicy`], [`StoreError::GroupNotFound`], [`StoreError::NotAStream`],
    /// or an outage of Redis.
    /// # Cancel safety
    /// Cancel safe: only reads.
    pub async fn needed_policy(
        &self,
        stream: &StreamName,
        group: &GroupName,
    ) -> Result<Policy, StoreError> {
        if let Some((_, error)) = self
            .lacks_group(std::slice::from_ref(stream), group)
            .await?
        {
            return Err(error);
        }
        self.policy(stream, group)
            .await?
            .ok_or(StoreError::GroupHasNoPolicy)
    }

    /// Returns at most `limit` dead letters of a group, starting at an id. A page may have fewer
    /// letters although there are more, if they are large or other groups share the stream.
    ///
    /// # Errors
    /// [`StoreError::DeadLetterNotAStream`], or an outage of Redis.
    /// # Cancel safety
    /// Cancel safe: only reads.
    pub async fn dead_letters(
        &self,
        stream: &StreamName,
        group: &GroupName,
        policy: &Policy,
        start: EntryId,
        limit: usize,
    ) -> Result<DeadLetters, StoreError> {
        let (mut letters, mut start, from) = (Vec::new(), start, policy.calls(stream));
        let mut bytes = 0;
        for _ in 0..STEPS {
            let count = limit.min(AT_ONCE);
            let portion = self.portion(&policy.dead_letter, count).await;
            let (count, _permit) = portion.map_err(of_dead)?;
            let mut command = Cmd::new();
            command
                .arg("XRANGE")
                .arg(policy.dead_letter.redis_key())
                .arg(start.to_string());
            command.arg("+").arg("COUNT").arg(count);
            let page = entries(self.read(&command).await.map_err(of_dead)?)?;
            self.large
                .saw(policy.dead_letter.redis_key(), heaviest(&page));
            let is_last = page.len() < count;
            for entry in page {
                if letters.len() == limit || bytes >= ANSWER {
                    return Ok(DeadLetters {
                        letters,
                        next: Some(entry.id),
                    });
                }
                bytes += entry.size();
                start = entry.id.next().unwrap_or(EntryId::MAX);
                letters.extend(DeadLetter::read(entry, &from, group));
            }
            if is_last {
                return Ok(DeadLetters {
                    letters,
                    next: None,
                });
            }
        }
        Ok(DeadLetters {
            letters,
            next: Some(start),
        })
    }

    /// Returns one dead letter of a group.
    ///
    /// # Errors
    /// [`StoreError::DeadLetterNotAStream`], or an outage of Redis.
    /// # Cancel safety
    /// Cancel safe: only reads.
    pub async fn dead_letter(
        &self,
        stream: &StreamName,
        group: &GroupName,
        policy: &Policy,
        id: EntryId,
    ) -> Result<Option<DeadLetter>, StoreError> {
        let mut command = Cmd::new();
        command.arg("XRANGE").arg(policy.dead_letter.redis_key());
        command.arg(id.to_string()).arg(id.to_string());
        let found = entries(self.read(&command).await.map_err(of_dead)?)?.pop();
        Ok(found.and_then(|entry| DeadLetter::read(entry, &policy.calls(stream), group)))
    }

    /// Deletes dead letters and returns how many existed. The caller must have checked that they
    /// belong to the group.
    ///
    /// # Errors
    /// [`StoreError::DeadLetterNotAStream`], or an outage of Redis.
    /// # Cancel safety
    /// If dropped after the command was sent, the dead letters may still be deleted.
    pub async fn delete_dead_letters(
        &self,
        (stream, group): (&StreamName, &GroupName),
        policy: &Policy,
        ids: &[EntryId],
    ) -> Result<u64, StoreError> {
        if ids.is_empty() {
            return Ok(0);
        }
        let deleted = self.run_script(&DELETE, RetryPolicy::Unsafe, |command| {
            self.begin_with(command, stream, group, &[policy.dead_letter.redis_key()]);
            for id in ids {
                command.arg(id.to_string());
            }
        });
        unsigned(&deleted.await.map_err(of_dead)?)
    }
}

/// Converts an error of a command on the dead-letter key.
pub(super) fn of_dead(error: StoreError) -> StoreError {
    match error {
        StoreError::NotAStream => StoreError::DeadLetterNotAStream,
        other => other,
    }
}
