//! Dead letters of a group: looking at them, deleting them.

use deadpool_redis::redis::{Cmd, Value};

use crate::model::entry::{Entry, Fields};
use crate::model::id::EntryId;
use crate::model::name::{GroupName, RawName, StreamName};
use crate::model::packed::{PACKED, unpack};
use crate::model::policy::Policy;
use crate::store::decode::{entries, unsigned};
use crate::store::large::{ANSWER, heaviest};
use crate::store::{Store, StoreError};

/// What stands before the names of the fields that tell where a dead letter came from.
const OURS: &[u8] = b"streamgate-";
/// How many fields tell that.
const TELLING: usize = 7;
/// Entries of a dead-letter stream looked at in one step, for other groups may share it.
const AT_ONCE: usize = 1000;
/// Steps in one call.
const STEPS: usize = 10;

/// An entry that nobody could work off.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// Its id among the dead letters.
    pub id: EntryId,
    /// The fields of the original, in order; none if that was gone by then.
    pub fields: Fields,
    /// The id of the original.
    pub entry: EntryId,
    /// Who held it last; nobody if it had been handed back.
    pub consumer: Option<RawName>,
    /// How often it was delivered.
    pub deliveries: u64,
    /// Why it is here.
    pub reason: String,
    /// When it came here, in Unix milliseconds.
    pub time_ms: u64,
}

/// Some dead letters.
#[derive(Clone, Debug)]
pub struct DeadLetters {
    /// By id.
    pub letters: Vec<DeadLetter>,
    /// The first id that was not looked at; `None` at the end.
    pub next: Option<EntryId>,
}

impl DeadLetter {
    /// An entry of a dead-letter stream, if it came from this group.
    #[must_use]
    fn read(entry: Entry, from: &str, group: &GroupName) -> Option<Self> {
        let mut fields = entry.fields;
        let telling = fields.split_off(fields.len().checked_sub(TELLING)?);
        let bytes_of = |name: &str| {
            let mut found = telling.iter();
            let named = found.find(|(key, _)| key.strip_prefix(OURS) == Some(name.as_bytes()));
            named.map(|(_, value)| value.as_slice())
        };
        let of = |name: &str| bytes_of(name).and_then(|value| std::str::from_utf8(value).ok());
        if of("stream")? != from || bytes_of("group")? != group.as_bytes() {
            return None;
        }
        if let [(name, packed)] = fields.as_slice()
            && name == PACKED.as_bytes()
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
    /// The policy of a group that must have one.
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

    /// Dead letters of a group from an id on, at most `limit`; fewer where they are large or where
    /// other groups share the stream, though there may be more.
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
            let (count, _room) = portion.map_err(of_dead)?;
            let mut command = Cmd::new();
            command
                .arg("XRANGE")
                .arg(policy.dead_letter.as_str())
                .arg(start.to_string());
            command.arg("+").arg("COUNT").arg(count);
            let page = entries(self.read(&command).await.map_err(of_dead)?)?;
            self.large.saw(policy.dead_letter.as_str(), heaviest(&page));
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

    /// One dead letter of a group.
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
        command.arg("XRANGE").arg(policy.dead_letter.as_str());
        command.arg(id.to_string()).arg(id.to_string());
        let found = entries(self.read(&command).await.map_err(of_dead)?)?.pop();
        Ok(found.and_then(|entry| DeadLetter::read(entry, &policy.calls(stream), group)))
    }

    /// Deletes dead letters of a group, which must be its own; answers how many there were.
    ///
    /// # Errors
    /// [`StoreError::DeadLetterNotAStream`], or an outage of Redis.
    /// # Cancel safety
    /// If dropped after the command was sent, they may still be gone.
    pub async fn delete_dead_letters(
        &self,
        policy: &Policy,
        ids: &[EntryId],
    ) -> Result<u64, StoreError> {
        if ids.is_empty() {
            return Ok(0);
        }
        let mut command = Cmd::new();
        command.arg("XDEL").arg(policy.dead_letter.as_str());
        for id in ids {
            command.arg(id.to_string());
        }
        let gone: Value = self.write(&command).await.map_err(of_dead)?;
        unsigned(&gone)
    }
}

/// It is the dead-letter key that holds something else.
pub(super) fn of_dead(error: StoreError) -> StoreError {
    match error {
        StoreError::NotAStream => StoreError::DeadLetterNotAStream,
        other => other,
    }
}
