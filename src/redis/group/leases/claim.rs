//! Claims of entries in a group with a policy, by id or by idle time. Claimed entries get a lease;
//! entries deleted from the stream become tombstones.

use deadpool_redis::redis::Value;

use crate::model::id::EntryId;
use crate::model::name::{GroupName, StreamName};
use crate::redis::conn::pool::Repeat;
use crate::redis::decode::{delivery, id, list, tuple, unsigned};
use crate::redis::group::leases::lua::{lua_bury, lua_leases};
use crate::redis::group::leases::read::micros;
use crate::redis::group::leases::{Lease, Verb, begin};
use crate::redis::{AutoClaim, Claim, Claimed, Delivery, Store, StoreError};

/// Lua: `take(id, held, min_idle, words)` claims one entry and records it for a lease. An entry
/// deleted from the stream becomes a tombstone.
macro_rules! lua_claim {
    () => {
        concat!(
            lua_leases!(),
            lua_bury!(),
            "\
local key, leases, group, consumer, just_id = KEYS[1], KEYS[3], ARGV[1], ARGV[3], ARGV[4] == '1'
local policy, now = policy_of(KEYS[2], key, group), now_us()
if not policy then return false end
local until_us = now + policy.lease
local taken, gone, lent = {}, {}, {}
local function take(id, held, min_idle, words)
  if #redis.call('XRANGE', key, id, id) == 0 then
    if held and bury(key, leases, group, policy, id, nil, held[2], held[4], 'gone', now) then
      gone[#gone + 1] = id
    end
    return
  end
  local got = redis.call('XCLAIM', key, group, consumer, min_idle, id, unpack(words))[1]
  if not got then return end
  lent[#lent + 1] = id
  local now_held = held_by(key, group, id)
  taken[#taken + 1] = {just_id and {id, false} or got, now_held and now_held[4] or 0}
end\n"
        )
    };
}

static CLAIM: Verb = Verb::new(concat!(
    lua_claim!(),
    "\
local words, count = {}, tonumber(ARGV[6])
for i = 1, count do words[i] = ARGV[6 + i] end
local force = ARGV[7 + count] == '1'
redis.call('XPENDING', key, group, '-', '+', 1)
for i = 8 + count, #ARGV do
  local held = held_by(key, group, ARGV[i])
  if held or force then take(ARGV[i], held, ARGV[5], words) end
end
lend(leases, lent, until_us)
return {digits(until_us), taken, gone, ''}"
));

static AUTOCLAIM: Verb = Verb::new(concat!(
    lua_claim!(),
    "\
local words, min_idle, count = just_id and {'JUSTID'} or {}, ARGV[5], tonumber(ARGV[7])
local batch = redis.call('XPENDING', key, group, 'IDLE', min_idle, ARGV[6], '+', count)
for _, held in ipairs(batch) do take(held[1], held, min_idle, words) end
lend(leases, lent, until_us)
return {digits(until_us), taken, gone, #batch == count and batch[#batch][1] or ''}"
));

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
        let reply = self.verb(&CLAIM, Repeat::Unsafe, |command| {
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
        let reply = self.verb(&AUTOCLAIM, Repeat::Unsafe, |command| {
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
