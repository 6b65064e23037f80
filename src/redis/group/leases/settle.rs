//! Operations of consumers on leased entries: ack, nack, return, reject and extend.

use std::time::Duration;

use deadpool_redis::redis::{Cmd, Value};

use crate::model::id::EntryId;
use crate::model::name::{GroupName, StreamName};
use crate::redis::conn::pool::Repeat;
use crate::redis::decode::{int, list, tuple};
use crate::redis::group::leases::lua::{lua_bury, lua_leases};
use crate::redis::group::leases::read::micros;
use crate::redis::group::leases::{NOBODY, Verb, begin};
use crate::redis::{Store, StoreError};

/// An entry with the lease under which a consumer operates on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    /// Id of the entry.
    pub id: EntryId,
    /// Required end of the current lease, in Unix microseconds; `None` applies to any holder.
    pub until_us: Option<u64>,
}

/// An operation on a leased entry, other than [`Store::ack`].
#[derive(Clone, Debug)]
pub enum Settlement {
    /// Releases the entry for another delivery after a delay. An entry with the maximum number of
    /// deliveries becomes a dead letter instead.
    Nack {
        /// Delay before the next delivery; the policy's delay if `None`.
        delay: Option<Duration>,
        /// Reason, stored in the dead letter.
        reason: Option<String>,
    },
    /// Returns an unprocessed entry, as if it had not been delivered.
    HandBack,
    /// Moves the entry to the dead letters.
    Reject {
        /// Reason, stored in the dead letter.
        reason: Option<String>,
    },
    /// Extends the lease.
    Extend {
        /// New duration from now; the policy's duration if `None`.
        lease: Option<Duration>,
    },
}

/// The outcome for one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The entry was not pending; nothing was changed.
    NotPending,
    /// The entry was acknowledged.
    Acknowledged,
    /// The entry was acknowledged and deleted.
    Deleted,
    /// The lease is no longer the current one; nothing was changed.
    LeaseLost,
    /// The entry was released for another delivery.
    Released,
    /// The entry was moved to the dead letters.
    DeadLettered,
    /// The lease was extended; contains its new end in Unix microseconds.
    Extended(u64),
}

/// Lua: `verdict(…)` returns 'ok' if the caller's lease permits an operation on an entry, and
/// otherwise 'lost' or 'none' (not pending).
///
/// In a group whose policy was removed (at the time `retired`), a lease does not protect against
/// claims. The entry must then not have been delivered to any consumer since.
macro_rules! lua_items {
    () => {
        "\
local function scores_of(leases, from)
  local words = {'ZMSCORE', leases}
  for i = from, #ARGV, 2 do words[#words + 1] = ARGV[i] end
  return redis.call(unpack(words))
end
local function verdict(key, group, id, until_us, score, retired)
  if until_us == '' then return 'ok' end
  local is_same = score and tonumber(score) == tonumber(until_us)
  if is_same and not retired then return 'ok' end
  local held = redis.call('XPENDING', key, group, id, id, 1)[1]
  if is_same and held and now_us() / 1000 - held[3] <= retired + 2 then return 'ok' end
  return (held or score and not retired) and 'lost' or 'none'
end\n"
    };
}
pub(in crate::redis) use lua_items;

/// Acknowledges entries: 0 not pending, 1 acknowledged, 2 lease lost. One XACK acknowledges all
/// permitted entries. Entries that a native client acknowledged meanwhile count as acknowledged
/// with them.
static ACK: Verb = Verb::new(concat!(
    lua_leases!(),
    lua_items!(),
    "\
local key, leases, group = KEYS[1], KEYS[3], ARGV[1]
local retired = retired_at(kept_of(KEYS[2], key, group))
local scores, results, done, words = scores_of(leases, 3), {}, {}, {'XACK', key, group}
for n = 1, #scores do
  local id, until_us, score = ARGV[2 * n + 1], ARGV[2 * n + 2], scores[n]
  if done[id] then results[n] = 0
  elseif score and not retired and tonumber(score) == tonumber(until_us) then
    results[n] = 1
    done[id] = true
    words[#words + 1] = id
  else
    local may = verdict(key, group, id, until_us, score, retired)
    results[n] = may == 'ok' and redis.call('XACK', key, group, id) or may == 'lost' and 2 or 0
    if may == 'ok' then redis.call('ZREM', leases, id) end
  end
end
if #words > 3 then
  if redis.call(unpack(words)) == 0 then
    for n = 1, #results do results[n] = results[n] == 1 and 0 or results[n] end
  end
  forget(leases, {unpack(words, 4)})
else redis.call('XPENDING', key, group, '-', '+', 1) end
return results"
));

/// Releases, dead-letters or extends entries. Returns `{code, end}` for each, with the codes of
/// `settled`.
///
/// The consumer `NOBODY` holds released entries. XCLAIM omits entries deleted from the stream;
/// these become tombstones.
static SETTLE: Verb = Verb::new(concat!(
    lua_leases!(),
    lua_items!(),
    lua_bury!(),
    "\
local key, leases, group, channel = KEYS[1], KEYS[3], ARGV[1], ARGV[2]
local how, given, reason, nobody = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local policy, refused = needed(KEYS[2], key, group)
if refused then return refused end
if (how == 'reject' or how == 'nack' and policy.max > 0) and not can_bury(policy.dead) then
  return redis.error_reply('DEADLETTER it is no stream')
end
local steps = {}
for step in policy.steps:gmatch('%d+') do steps[#steps + 1] = tonumber(step) end
local now, soonest = now_us(), nil
local function due(at)
  if not soonest or at < soonest then soonest = at end
  return at
end
local function lay_down(id, held, fields, why)
  if bury(key, leases, group, policy, id, fields, held[2], held[4], why, now) then return {4, ''} end
  lend(leases, {id}, due(now + policy.lease))
  return {3, ''}
end
local settle = {}
settle['reject'] = function(id, held)
  local fields = entry(key, id)
  return lay_down(id, held, fields, fields and reason or 'gone')
end
settle['extend'] = function(id, held, score)
  local at = now + (given ~= '' and given * 1000 or policy.lease)
  lend(leases, {id}, at)
  if not score or at < tonumber(score) then due(at) end
  return {5, digits(at)}
end
local function release(id, held, count, delay)
  local words = {'XCLAIM', key, group, nobody, 0, id, 'RETRYCOUNT', digits(count), 'JUSTID'}
  local got = redis.call('XRANGE', key, id, id)[1] and redis.call(unpack(words))
  if not got then return lay_down(id, held, nil, 'gone') end
  lend(leases, {id}, due(now + delay * 1000))
  return {3, ''}
end
settle['nack'] = function(id, held)
  if policy.max > 0 and held[4] >= policy.max then
    local fields = entry(key, id)
    return lay_down(id, held, fields, not fields and 'gone' or reason ~= '' and reason or 'max-deliveries')
  end
  local delay = given ~= '' and given or steps[math.min(math.max(held[4], 1), #steps)] or 0
  return release(id, held, held[4], delay)
end
settle['hand-back'] = function(id, held) return release(id, held, math.max(held[4] - 1, 0), 0) end
local scores, results, seen = scores_of(leases, 7), {}, {}
for i = 7, #ARGV, 2 do
  local id, n = ARGV[i], (i - 5) / 2
  local score = scores[n]
  if seen[id] then score = redis.call('ZSCORE', leases, id) end
  seen[id] = true
  local may = verdict(key, group, id, ARGV[i + 1], score)
  local held = may == 'ok' and held_by(key, group, id)
  if held then results[n] = settle[how](id, held, score)
  else
    if may == 'ok' then forget(leases, {id}) end
    results[n] = {may == 'lost' and 2 or 0, ''}
  end
end
if soonest then redis.call('PUBLISH', channel, digits(math.max(0, (soonest - now) / 1000))) end
return results"
));

/// Appends ids with the ends of their leases, as script arguments.
pub(in crate::redis) fn write_items(command: &mut Cmd, items: &[Item]) {
    for item in items {
        command.arg(item.id.to_string());
        command.arg(item.until_us.map(|end| end.to_string()).unwrap_or_default());
    }
}

impl Store {
    /// Acknowledges leased entries.
    ///
    /// # Errors
    /// [`StoreError::GroupNotFound`], [`StoreError::NotAStream`], or an outage of Redis.
    /// # Cancel safety
    /// If dropped after the command was sent, the entries may still be acknowledged.
    pub(in crate::redis) async fn ack_leased(
        &self,
        stream: &StreamName,
        group: &GroupName,
        items: &[Item],
    ) -> Result<Vec<Settled>, StoreError> {
        let reply = self.verb(&ACK, Repeat::Unsafe, |command| {
            begin(command, stream, group);
            write_items(command, items);
        });
        let one = |value: &Value| {
            Ok(match int(value)? {
                1 => Settled::Acknowledged,
                2 => Settled::LeaseLost,
                _ => Settled::NotPending,
            })
        };
        list(reply.await?)?.iter().map(one).collect()
    }

    /// Applies an operation to leased entries and returns the outcome for each, in order.
    ///
    /// # Errors
    /// [`StoreError::GroupHasNoPolicy`], [`StoreError::GroupNotFound`],
    /// [`StoreError::DeadLetterNotAStream`] (nothing was done in any of these cases),
    /// [`StoreError::NotAStream`], or an outage of Redis.
    /// # Cancel safety
    /// If dropped after the command was sent, the operation may still be applied.
    pub async fn settle(
        &self,
        stream: &StreamName,
        group: &GroupName,
        items: &[Item],
        settlement: &Settlement,
    ) -> Result<Vec<Settled>, StoreError> {
        let millis = |duration: &Option<Duration>| {
            duration
                .map(|duration| duration.as_millis().to_string())
                .unwrap_or_default()
        };
        let (how, given, reason) = match settlement {
            Settlement::Nack { delay, reason } => {
                ("nack", millis(delay), reason.as_deref().unwrap_or_default())
            }
            Settlement::HandBack => ("hand-back", String::new(), ""),
            Settlement::Reject { reason } => (
                "reject",
                String::new(),
                reason.as_deref().unwrap_or("rejected"),
            ),
            Settlement::Extend { lease } => ("extend", millis(lease), ""),
        };
        let reply = self.verb(&SETTLE, Repeat::Unsafe, |command| {
            begin(command, stream, group);
            command.arg(how).arg(given.as_str()).arg(reason).arg(NOBODY);
            write_items(command, items);
        });
        list(reply.await?)?.into_iter().map(settled).collect()
    }
}

fn settled(value: Value) -> Result<Settled, StoreError> {
    let [code, end] = tuple(value)?;
    Ok(match int(&code)? {
        2 => Settled::LeaseLost,
        3 => Settled::Released,
        4 => Settled::DeadLettered,
        5 => Settled::Extended(micros(end)?.unwrap_or_default()),
        _ => Settled::NotPending,
    })
}
