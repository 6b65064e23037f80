//! The upkeep of groups, which needs no reader: entries that native consumers took are enrolled,
//! entries that were delivered as often as they may be go to the dead letters, consumers that are
//! long gone are forgotten.

use deadpool_redis::redis::{Cmd, Value};

use super::life::new_life;
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

/// The parts of a sweep and their bounds; 0 leaves a part out.
#[derive(Clone, Copy, Debug)]
pub struct SweepParts {
    /// Pending entries to look at.
    pub enrol: usize,
    /// Leases that are over to look at.
    pub due: usize,
    /// Whether to look at all consumers for those who are gone, which keeps Redis long where they
    /// are many.
    pub forget: bool,
}

/// What one sweep of a group did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Swept {
    /// Where the next one goes on.
    pub next: SweepAt,
    /// Entries that were enrolled.
    pub enrolled: u64,
    /// Entries that are pending without a lease and were not looked at in this pass, about: members
    /// of the leases that are not pending hide some.
    pub backlog: u64,
    /// What was moved to the dead letters.
    pub dead: HandedOut,
    /// Leases of entries that are no longer pending, which were removed.
    pub strays: u64,
    /// More leases are over than were looked at.
    pub more_due: bool,
    /// Consumers that were deleted, because they hold nothing and have long been away.
    pub forgotten: u64,
}

/// Sweeps a group; false if it has no policy, or is no more and what was kept of it went with it.
///
/// A policy without a marker (see `life.rs`) gets one: it was kept by an older gateway.
///
/// A native consumer has `lease` from when it was handed the entry. Members that are due and not
/// pending are strays; those that are due and may be delivered again are left to readers. Entries
/// of 4 MiB are looked at in one pass, since they are copied into the script.
static SWEEP: Verb = Verb::new(concat!(
    lua_groups!(),
    lua_leases!(),
    lua_bury!(),
    "\
local key, leases, group, channel = KEYS[1], KEYS[3], ARGV[1], ARGV[2]
local after, skip, limit, most_due = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local policy, now = policy_of(KEYS[2], key, group), now_us()
if not policy then return false end
local batch = redis.pcall('XPENDING', key, group, after, '+', math.max(limit, 1))
if batch.err then
  if not batch.err:find('NOGROUP') and not batch.err:find('WRONGTYPE') then return redis.error_reply(batch.err) end
  redis.call('HDEL', KEYS[2], group)
  redis.call('DEL', leases)
  return false
end
if not policy.life and redis.pcall('XGROUP', 'CREATECONSUMER', key, group, 'streamgate:life:' .. ARGV[8]) == 1 then
  begin_life(key, group, ARGV[8])
  redis.call('HSET', KEYS[2], group, '@' .. ARGV[8] .. ' ' .. policy.text)
end
local enrolled, soonest = 0, nil
if limit > 0 and #batch > 0 then
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
local next_after, backlog = '0-0', 0
if limit > 0 and #batch == limit then
  next_after = batch[#batch][1]
  for _, info in ipairs(groups_of(key)) do
    if info['name'] == group then backlog = math.max(0, info['pending'] - redis.call('ZCARD', leases)) end
  end
end
local due = redis.call('ZRANGEBYSCORE', leases, '-inf', digits(now), 'LIMIT', skip, most_due)
local strays, exhausted, gone, stuck, looked, bytes = {}, 0, 0, 0, 0, 0
for _, id in ipairs(due) do
  if bytes > 4194304 then break end
  looked = looked + 1
  local held = held_by(key, group, id)
  if not held then strays[#strays + 1] = id
  else
    local over = policy.max > 0 and held[4] >= policy.max
    local fields = entry(key, id)
    for _, text in ipairs(fields or {}) do bytes = bytes + #text end
    if over or not fields then
      local why = fields and 'max-deliveries' or 'gone'
      if not bury(key, leases, group, policy, id, fields, held[2], held[4], why, now) then stuck = stuck + 1
      elseif fields then exhausted = exhausted + 1
      else gone = gone + 1 end
    end
  end
end
forget(leases, strays)
local more_due = looked > 0 and (#due == most_due or looked < #due)
local next_skip = more_due and skip + looked - #strays - exhausted - gone or 0
local forgotten = 0
for _, flat in ipairs(ARGV[7] == '1' and policy.expiry > 0 and redis.call('XINFO', 'CONSUMERS', key, group) or {}) do
  local consumer = {}
  for i = 1, #flat, 2 do consumer[flat[i]] = flat[i + 1] end
  local is_ours = consumer['name']:sub(1, 11) == 'streamgate:'
  if not is_ours and consumer['pending'] == 0 and consumer['idle'] >= policy.expiry then
    redis.call('XGROUP', 'DELCONSUMER', key, group, consumer['name'])
    forgotten = forgotten + 1
  end
end
if soonest then redis.call('PUBLISH', channel, digits((soonest - now) / 1000)) end
return {next_after, next_skip, enrolled, exhausted, gone, stuck, forgotten, backlog, #strays, more_due and 1 or 0}"
));

impl Swept {
    /// What there is to do at once, rather than in the next round: to enrol while entries are known
    /// to be without a lease, to clear leases that are over while that removes any.
    #[must_use]
    pub fn left(&self) -> (bool, bool) {
        let enrol =
            self.next.enrol_after != EntryId::MIN && (self.enrolled > 0 || self.backlog > 0);
        let cleared = self.strays + self.dead.exhausted + self.dead.gone;
        (enrol, self.more_due && cleared > 0)
    }
}

impl Store {
    /// Some of the groups that have a policy, as far as the index knows, and where to go on; 0 is
    /// the beginning and the end.
    ///
    /// # Errors
    /// An outage of Redis.
    /// # Cancel safety
    /// Cancel safe: only reads.
    pub async fn policy_index(
        &self,
        cursor: u64,
    ) -> Result<(Vec<(StreamName, GroupName)>, u64), StoreError> {
        let mut command = Cmd::new();
        command
            .arg("SSCAN")
            .arg(INDEX)
            .arg(cursor)
            .arg("COUNT")
            .arg(100);
        let [next, members] = tuple(self.read(&command).await?)?;
        let next = text(next)?.parse();
        let next = next.map_err(|_| StoreError::Unexpected("a cursor".to_owned()))?;
        let mut groups = Vec::new();
        for member in list(members)? {
            let member = bytes(member)?;
            let named = std::str::from_utf8(&member)
                .ok()
                .and_then(|text| text.split_once('\0'));
            let named = named.and_then(|(stream, group)| {
                Some((StreamName::new(stream).ok()?, GroupName::new(group).ok()?))
            });
            groups.extend(named);
        }
        Ok((groups, next))
    }

    /// Sweeps a group. `None` if it turns out to have no policy; it is taken out of the index then.
    ///
    /// # Errors
    /// An outage of Redis.
    /// # Cancel safety
    /// If dropped after the command was sent, the group may still be swept.
    pub async fn sweep(
        &self,
        stream: &StreamName,
        group: &GroupName,
        at: SweepAt,
        parts: SweepParts,
    ) -> Result<Option<Swept>, StoreError> {
        let after = match at.enrol_after {
            EntryId::MIN => "-".to_owned(),
            id => format!("({id}"),
        };
        let life = new_life();
        let reply = self.verb(&SWEEP, Repeat::Unsafe, |command| {
            begin(command, stream, group);
            command
                .arg(after.as_str())
                .arg(at.due_skip)
                .arg(parts.enrol)
                .arg(parts.due);
            command.arg(u8::from(parts.forget)).arg(life.as_str());
        });
        let reply = reply.await?;
        if reply == Value::Nil {
            let limit = parts.due.max(1);
            if let Some(skip) = self.wind_down(stream, group, at.due_skip, limit).await? {
                let next = SweepAt {
                    due_skip: skip,
                    ..SweepAt::default()
                };
                return Ok(Some(Swept {
                    next,
                    ..Swept::default()
                }));
            }
            self.strike(stream, group).await?;
            return Ok(None);
        }
        let [
            enrol_after,
            due_skip,
            enrolled,
            exhausted,
            gone,
            stuck,
            forgotten,
            rest @ ..,
        ] = tuple::<10>(reply)?;
        let [backlog, strays, more_due] = rest;
        // A part that was left out goes on where it was.
        let mut next = at;
        if parts.enrol > 0 {
            next.enrol_after = id(enrol_after)?;
        }
        if parts.due > 0 {
            next.due_skip = unsigned(&due_skip)?;
        }
        Ok(Some(Swept {
            next,
            enrolled: unsigned(&enrolled)?,
            backlog: unsigned(&backlog)?,
            strays: unsigned(&strays)?,
            more_due: unsigned(&more_due)? == 1,
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
