//! What happens without anyone reading: entries that native consumers took are enrolled, entries
//! that were delivered as often as they may be go to the dead letters, consumers that are long gone
//! are forgotten.

use deadpool_redis::redis::{Cmd, Value};

use super::lua::{lua_bury, lua_leases};
use super::policy::{INDEX, indexed};
use super::{Verb, begin};
use crate::model::id::EntryId;
use crate::model::name::{GroupName, StreamName};
use crate::store::decode::{bytes, id, list, text, tuple, unsigned};
use crate::store::pool::Repeat;
use crate::store::{HandedOut, Store, StoreError};

/// Where a sweep of a group goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SweepAt {
    /// In the list of pending entries.
    pub enrol_after: EntryId,
    /// In the leases that are over, by how many lie before.
    pub due_skip: u64,
}

/// What one sweep of a group did.
#[derive(Clone, Copy, Debug)]
pub struct Swept {
    /// Where the next one goes on.
    pub next: SweepAt,
    /// Entries that were enrolled.
    pub enrolled: u64,
    /// What was moved to the dead letters.
    pub dead: HandedOut,
    /// Consumers that were deleted, because they hold nothing and have long been away.
    pub forgotten: u64,
}

/// Sweeps a group; false if it has no policy, or is no more and what was kept of it went with it.
///
/// A native consumer has `lease` from when it was handed the entry. Members that are due and not
/// pending are strays; those that are due and may be delivered again are left to readers.
static SWEEP: Verb = Verb::new(concat!(
    lua_leases!(),
    lua_bury!(),
    "\
local key, leases, group, channel = KEYS[1], KEYS[3], ARGV[1], ARGV[2]
local after, skip, limit = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local policy, now = policy_of(KEYS[2], group), now_us()
if not policy then return false end
local batch = redis.pcall('XPENDING', key, group, after, '+', limit)
if batch.err then
  if not batch.err:find('NOGROUP') and not batch.err:find('WRONGTYPE') then return redis.error_reply(batch.err) end
  redis.call('HDEL', KEYS[2], group)
  redis.call('DEL', leases)
  return false
end
local enrolled, soonest = 0, nil
if #batch > 0 then
  local words = {'ZMSCORE', leases}
  for i, held in ipairs(batch) do words[i + 2] = held[1] end
  for i, score in ipairs(redis.call(unpack(words))) do
    if not score then
      local at = now + math.max(0, policy.lease - batch[i][3] * 1000)
      lend(leases, {batch[i][1]}, at)
      enrolled = enrolled + 1
      if not soonest or at < soonest then soonest = at end
    end
  end
end
local next_after = #batch == limit and batch[#batch][1] or '0-0'
local due = redis.call('ZRANGEBYSCORE', leases, '-inf', digits(now), 'LIMIT', skip, limit)
local strays, exhausted, gone, stuck = {}, 0, 0, 0
for _, id in ipairs(due) do
  local held = held_by(key, group, id)
  if not held then strays[#strays + 1] = id
  else
    local over = policy.max > 0 and held[4] >= policy.max
    local fields = entry(key, id)
    if over or not fields then
      local why = fields and 'max-deliveries' or 'gone'
      if not bury(key, leases, group, policy, id, fields, held[2], held[4], why, now) then stuck = stuck + 1
      elseif fields then exhausted = exhausted + 1
      else gone = gone + 1 end
    end
  end
end
forget(leases, strays)
local next_skip = #due == limit and skip + limit - #strays - exhausted - gone or 0
local forgotten = 0
for _, flat in ipairs(ARGV[6] == '1' and policy.expiry > 0 and redis.call('XINFO', 'CONSUMERS', key, group) or {}) do
  local consumer = {}
  for i = 1, #flat, 2 do consumer[flat[i]] = flat[i + 1] end
  if consumer['pending'] == 0 and consumer['idle'] >= policy.expiry then
    redis.call('XGROUP', 'DELCONSUMER', key, group, consumer['name'])
    forgotten = forgotten + 1
  end
end
if soonest then redis.call('PUBLISH', channel, digits((soonest - now) / 1000)) end
return {next_after, next_skip, enrolled, exhausted, gone, stuck, forgotten}"
));

impl Store {
    /// Some of the groups that have a policy, as far as the index knows, and where to go on; 0 is the
    /// beginning and the end.
    ///
    /// # Errors
    /// That Redis is away.
    /// # Cancel safety
    /// Reads only.
    pub async fn policy_index(
        &self,
        cursor: u64,
    ) -> Result<(Vec<(StreamName, GroupName)>, u64), StoreError> {
        let mut command = Cmd::new();
        command.arg("SSCAN").arg(INDEX).arg(cursor).arg("COUNT").arg(100);
        let [next, members] = tuple(self.read(&command).await?)?;
        let next = text(next)?.parse();
        let next = next.map_err(|_| StoreError::Unexpected("a cursor".to_owned()))?;
        let mut groups = Vec::new();
        for member in list(members)? {
            let member = bytes(member)?;
            let named = std::str::from_utf8(&member).ok().and_then(|text| text.split_once('\0'));
            let named = named.and_then(|(stream, group)| {
                Some((StreamName::new(stream).ok()?, GroupName::new(group).ok()?))
            });
            groups.extend(named);
        }
        Ok((groups, next))
    }

    /// Sweeps a group: looks at `limit` of its pending entries, at as many leases that are over, and to
    /// `forget` those who are gone at all of its consumers, which keeps Redis long where they are many.
    /// `None` if it turns out to have no policy; it is taken out of the index then.
    ///
    /// # Errors
    /// That Redis is away.
    /// # Cancel safety
    /// Dropped after it was sent, the group may be swept all the same.
    pub async fn sweep(
        &self,
        stream: &StreamName,
        group: &GroupName,
        at: SweepAt,
        limit: usize,
        forget: bool,
    ) -> Result<Option<Swept>, StoreError> {
        let after = match at.enrol_after {
            EntryId::MIN => "-".to_owned(),
            id => format!("({id}"),
        };
        let reply = self.verb(&SWEEP, Repeat::Unsafe, |command| {
            begin(command, stream, group);
            command.arg(after.as_str()).arg(at.due_skip).arg(limit).arg(u8::from(forget));
        });
        let reply = reply.await?;
        if reply == Value::Nil {
            self.strike(stream, group).await?;
            return Ok(None);
        }
        let [enrol_after, due_skip, enrolled, exhausted, gone, stuck, forgotten] = tuple(reply)?;
        Ok(Some(Swept {
            next: SweepAt { enrol_after: id(enrol_after)?, due_skip: unsigned(&due_skip)? },
            enrolled: unsigned(&enrolled)?,
            dead: HandedOut {
                exhausted: unsigned(&exhausted)?,
                gone: unsigned(&gone)?,
                stuck: unsigned(&stuck)?,
            },
            forgotten: unsigned(&forgotten)?,
        }))
    }

    /// Takes a group out of the index, and puts it in again if it has been given a policy since.
    async fn strike(&self, stream: &StreamName, group: &GroupName) -> Result<(), StoreError> {
        let mut command = Cmd::new();
        command.arg("SREM").arg(INDEX).arg(indexed(stream, group));
        self.write(&command).await?;
        match self.policy(stream, group).await? {
            Some(_) => self.enlist(stream, group).await,
            None => Ok(()),
        }
    }
}
