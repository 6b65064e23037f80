//! Consumers of a group, and the transfer of pending entries between them.

use deadpool_redis::redis::{Cmd, Value};

use crate::model::entry::size;
use crate::model::id::EntryId;
use crate::model::name::{ConsumerName, GroupName, StreamName};
use crate::redis::conn::send_options::RetryPolicy;
use crate::redis::decode::{delivery, id, int, list, unsigned};
use crate::redis::group::plain::Delivery;
use crate::redis::script::{LuaScript, lua};
use crate::redis::stream::read_budget::{ANSWER, ReadPermit, heaviest_handed};
use crate::redis::{Store, StoreError};

/// The treatment of pending entries when their consumer is deleted.
#[derive(Clone, Debug)]
pub enum PendingAction {
    /// A consumer with pending entries is not deleted.
    Refuse,
    /// The entries move to another consumer, with their delivery counts and idle times.
    Transfer(ConsumerName),
    /// The entries are no longer pending; no consumer of the group will get them again.
    Drop,
}

/// The parameters of an XCLAIM.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Consumer that claims the entries.
    pub consumer: ConsumerName,
    /// Minimum time since the last delivery, in milliseconds.
    pub min_idle_ms: u64,
    /// Ids of the entries.
    pub ids: Vec<EntryId>,
    /// New idle time in milliseconds, instead of 0.
    pub idle_ms: Option<u64>,
    /// New time of the last delivery in Unix milliseconds, instead of now.
    pub time_ms: Option<u64>,
    /// New delivery count, instead of an increment.
    pub retry_count: Option<u64>,
    /// Whether to claim entries that are not pending, too.
    pub force: bool,
    /// Whether to return only ids and leave the delivery counts unchanged.
    pub just_id: bool,
    /// New last delivered id of the group, if greater than the current one.
    pub last_id: Option<EntryId>,
}

impl Claim {
    /// Returns the arguments that XCLAIM takes after the ids.
    pub(in crate::redis) fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        let numbers = [
            ("IDLE", self.idle_ms),
            ("TIME", self.time_ms),
            ("RETRYCOUNT", self.retry_count),
        ];
        for (word, number) in numbers {
            words.extend(
                number
                    .into_iter()
                    .flat_map(|number| [word.to_owned(), number.to_string()]),
            );
        }
        for (word, given) in [("FORCE", self.force), ("JUSTID", self.just_id)] {
            words.extend(given.then(|| word.to_owned()));
        }
        words.extend(
            self.last_id
                .into_iter()
                .flat_map(|id| ["LASTID".to_owned(), id.to_string()]),
        );
        words
    }
}

/// The parameters of an XAUTOCLAIM.
#[derive(Clone, Debug)]
pub struct AutoClaim {
    /// Consumer that claims the entries.
    pub consumer: ConsumerName,
    /// Minimum time since the last delivery, in milliseconds.
    pub min_idle_ms: u64,
    /// First id to consider.
    pub start: EntryId,
    /// Maximum number of entries.
    pub count: usize,
    /// Whether to return only ids and leave the delivery counts unchanged.
    pub just_id: bool,
}

/// The result of a claim.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// Claimed entries; without fields if only ids were requested.
    pub entries: Vec<Delivery>,
    /// Start of the next call; `0-0` after the last pending entry.
    pub next: EntryId,
    /// Pending entries that had been deleted from the stream; they are no longer pending.
    pub deleted: Vec<EntryId>,
    /// Whether the group has a policy; the deleted entries are then among its dead letters.
    pub leased: bool,
}

/// Deletes a consumer. Returns the number of pending entries moved or dropped.
static DELETE_CONSUMER: LuaScript = LuaScript::new(lua!["consumer_delete"]);

impl Store {
    /// Creates a consumer. Returns false if it already exists.
    ///
    /// # Errors
    /// [`StoreError::GroupNotFound`], [`StoreError::NotAStream`], or an outage of Redis.
    /// # Cancel safety
    /// If dropped after the command was sent, the consumer may still be created.
    pub async fn create_consumer(
        &self,
        stream: &StreamName,
        group: &GroupName,
        consumer: &ConsumerName,
    ) -> Result<bool, StoreError> {
        let mut command = Cmd::new();
        command
            .arg("XGROUP")
            .arg("CREATECONSUMER")
            .arg(stream.redis_key());
        command.arg(group.as_bytes()).arg(consumer.as_bytes());
        Ok(int(&self.write(&command).await.map_err(StoreError::of_group)?)? == 1)
    }

    /// Deletes a consumer. Returns the number of pending entries moved or dropped.
    ///
    /// # Errors
    /// [`StoreError::ConsumerNotFound`], [`StoreError::ConsumerHasPending`],
    /// [`StoreError::GroupNotFound`], [`StoreError::NotAStream`], or an outage of Redis.
    /// # Cancel safety
    /// If dropped after the command was sent, the consumer may still be deleted.
    pub async fn delete_consumer(
        &self,
        stream: &StreamName,
        group: &GroupName,
        consumer: &ConsumerName,
        fate: &PendingAction,
    ) -> Result<u64, StoreError> {
        self.admissions.forget(stream, group, consumer);
        let deleted = self.run_script(&DELETE_CONSUMER, RetryPolicy::Unsafe, |command| {
            command.arg(1).arg(stream.redis_key());
            command.arg(group.as_bytes()).arg(consumer.as_bytes());
            match fate {
                PendingAction::Refuse => command.arg("refuse"),
                PendingAction::Drop => command.arg("drop"),
                PendingAction::Transfer(to) => command.arg("transfer").arg(to.as_bytes()),
            };
        });
        unsigned(&deleted.await?)
    }

    /// Claims pending entries for a consumer, with a lease if the group has a policy. If the
    /// entries are large, claims only as many as fit in a response, in the requested order.
    ///
    /// # Errors
    /// [`StoreError::GroupNotFound`], [`StoreError::NotAStream`], or an outage of Redis.
    /// # Cancel safety
    /// If dropped after the command was sent, the consumer may still have claimed the entries.
    pub async fn claim(
        &self,
        stream: &StreamName,
        group: &GroupName,
        claim: &Claim,
    ) -> Result<Claimed, StoreError> {
        if claim.just_id {
            return self.claim_some(stream, group, claim).await;
        }
        let (portion, _permit) = self.portion(stream, claim.ids.len()).await?;
        let (mut all, mut bytes) = (None::<Claimed>, 0);
        for ids in claim.ids.chunks(portion) {
            let some = Claim {
                ids: ids.to_vec(),
                ..claim.clone()
            };
            let some = match (self.claim_some(stream, group, &some).await, &all) {
                // Report the entries claimed so far: they belong to the consumer already.
                (Err(_), Some(_)) => break,
                (some, _) => some?,
            };
            self.large
                .saw(stream.redis_key(), heaviest_handed(&some.entries));
            bytes += some
                .entries
                .iter()
                .filter_map(|entry| entry.fields.as_ref())
                .map(size)
                .sum::<usize>();
            match &mut all {
                None => all = Some(some),
                Some(all) => {
                    all.entries.extend(some.entries);
                    all.deleted.extend(some.deleted);
                }
            }
            if bytes >= ANSWER {
                break;
            }
        }
        all.ok_or_else(|| StoreError::Unexpected("a claim without ids".to_owned()))
    }

    async fn claim_some(
        &self,
        stream: &StreamName,
        group: &GroupName,
        claim: &Claim,
    ) -> Result<Claimed, StoreError> {
        if let Some(claimed) = self.claim_leased(stream, group, claim).await? {
            return Ok(claimed);
        }
        let mut command = Cmd::new();
        command
            .arg("XCLAIM")
            .arg(stream.redis_key())
            .arg(group.as_bytes())
            .arg(claim.consumer.as_bytes());
        command.arg(claim.min_idle_ms);
        for id in &claim.ids {
            command.arg(id.to_string());
        }
        command.arg(claim.words());
        let entries = taken(self.write(&command).await?, claim.just_id)?;
        Ok(Claimed {
            entries,
            next: EntryId::MIN,
            deleted: Vec::new(),
            leased: false,
        })
    }

    /// Claims idle pending entries of any consumer, with a lease if the group has a policy.
    ///
    /// # Errors
    /// [`StoreError::GroupNotFound`], [`StoreError::NotAStream`], or an outage of Redis.
    /// # Cancel safety
    /// If dropped after the command was sent, the consumer may still have claimed the entries.
    pub async fn auto_claim(
        &self,
        stream: &StreamName,
        group: &GroupName,
        claim: &AutoClaim,
    ) -> Result<Claimed, StoreError> {
        let mut claim = claim.clone();
        let mut _permit = ReadPermit::default();
        if !claim.just_id {
            (claim.count, _permit) = self.portion(stream, claim.count).await?;
        }
        let claimed = self.auto_claim_some(stream, group, &claim).await?;
        self.large
            .saw(stream.redis_key(), heaviest_handed(&claimed.entries));
        Ok(claimed)
    }

    async fn auto_claim_some(
        &self,
        stream: &StreamName,
        group: &GroupName,
        claim: &AutoClaim,
    ) -> Result<Claimed, StoreError> {
        if let Some(claimed) = self.auto_claim_leased(stream, group, claim).await? {
            return Ok(claimed);
        }
        let mut command = Cmd::new();
        command
            .arg("XAUTOCLAIM")
            .arg(stream.redis_key())
            .arg(group.as_bytes());
        command
            .arg(claim.consumer.as_bytes())
            .arg(claim.min_idle_ms);
        command
            .arg(claim.start.to_string())
            .arg("COUNT")
            .arg(claim.count);
        if claim.just_id {
            command.arg("JUSTID");
        }
        let mut reply = list(self.write(&command).await?)?.into_iter();
        let mut next = || reply.next().unwrap_or_default();
        let (cursor, entries, deleted) = (next(), next(), next());
        let deleted = match deleted {
            Value::Nil => Vec::new(),
            ids => list(ids)?.into_iter().map(id).collect::<Result<_, _>>()?,
        };
        Ok(Claimed {
            next: id(cursor)?,
            entries: taken(entries, claim.just_id)?,
            deleted,
            leased: false,
        })
    }
}

/// Decodes claimed entries or ids. Before Redis 7.0, deleted entries are nil in the reply.
fn taken(value: Value, just_id: bool) -> Result<Vec<Delivery>, StoreError> {
    let present = list(value)?
        .into_iter()
        .filter(|value| *value != Value::Nil);
    let one = |value| match just_id {
        true => Ok(Delivery {
            id: id(value)?,
            fields: None,
            lease: None,
        }),
        false => delivery(value).map(|(id, fields)| Delivery {
            id,
            fields,
            lease: None,
        }),
    };
    present.map(one).collect()
}
