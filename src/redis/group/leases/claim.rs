//! Claims of entries in a group with a policy, by id or by idle time. Claimed entries get a lease;
//! entries deleted from the stream become tombstones.

use deadpool_redis::redis::Value;

use crate::model::id::EntryId;
use crate::model::name::{GroupName, StreamName};
use crate::redis::conn::send_options::RetryPolicy;
use crate::redis::decode::{delivery, id, list, tuple, unsigned};
use crate::redis::group::leases::read::micros;
use crate::redis::group::leases::{Lease, begin};
use crate::redis::script::{LuaScript, lua};
use crate::redis::{AutoClaim, Claim, Claimed, Delivery, Store, StoreError};

static CLAIM: LuaScript = LuaScript::new(lua![
    "lib/life",
    "lib/leases",
    "lib/bury",
    "lib/claim",
    "claim"
]);

static AUTOCLAIM: LuaScript = LuaScript::new(lua![
    "lib/life",
    "lib/leases",
    "lib/bury",
    "lib/claim",
    "autoclaim"
]);

impl Store {
    /// Claims pending entries of a group with a policy for a consumer, with a lease. Returns `None`
    /// if the group has no policy. The result also lists entries deleted from the stream.
    ///
    /// # Errors
    /// [`StoreError::GroupNotFound`], [`StoreError::NotAStream`], or an outage of Redis.
    /// # Cancel safety
    /// If dropped after the command was sent, the consumer may still have claimed the entries.
    pub(in crate::redis) async fn claim_leased(
        &self,
        stream: &StreamName,
        group: &GroupName,
        claim: &Claim,
    ) -> Result<Option<Claimed>, StoreError> {
        let reply = self.run_script(&CLAIM, RetryPolicy::Unsafe, |command| {
            begin(command, stream, group);
            command
                .arg(claim.consumer.as_bytes())
                .arg(u8::from(claim.just_id));
            command.arg(claim.min_idle_ms);
            let words = claim.words();
            command
                .arg(words.len())
                .arg(&words)
                .arg(u8::from(claim.force));
            for id in &claim.ids {
                command.arg(id.to_string());
            }
        });
        claimed(reply.await?, claim.just_id)
    }

    /// Claims idle entries of any consumer; otherwise like [`Store::claim_leased`].
    ///
    /// # Errors
    /// Same as [`Store::claim_leased`].
    /// # Cancel safety
    /// Same as [`Store::claim_leased`].
    pub(in crate::redis) async fn auto_claim_leased(
        &self,
        stream: &StreamName,
        group: &GroupName,
        claim: &AutoClaim,
    ) -> Result<Option<Claimed>, StoreError> {
        let reply = self.run_script(&AUTOCLAIM, RetryPolicy::Unsafe, |command| {
            begin(command, stream, group);
            command
                .arg(claim.consumer.as_bytes())
                .arg(u8::from(claim.just_id));
            command
                .arg(claim.min_idle_ms)
                .arg(claim.start.to_string())
                .arg(claim.count);
        });
        claimed(reply.await?, claim.just_id)
    }
}

fn claimed(reply: Value, just_id: bool) -> Result<Option<Claimed>, StoreError> {
    if reply == Value::Nil {
        return Ok(None);
    }
    let [until_us, taken, gone, last] = tuple(reply)?;
    let until_us = micros(until_us)?;
    let one = |value| {
        let [entry, count] = tuple(value)?;
        let (id, fields) = delivery(entry)?;
        let fields = if just_id { None } else { fields };
        Ok(Delivery {
            id,
            fields,
            lease: Some(Lease {
                deliveries: unsigned(&count)?,
                until_us,
            }),
        })
    };
    let entries = list(taken)?
        .into_iter()
        .map(one)
        .collect::<Result<_, StoreError>>()?;
    let deleted = list(gone)?.into_iter().map(id).collect::<Result<_, _>>()?;
    let next = match id(last) {
        Ok(last) => last.next().unwrap_or(EntryId::MIN),
        Err(_) => EntryId::MIN,
    };
    Ok(Some(Claimed {
        entries,
        next,
        deleted,
        leased: true,
    }))
}
