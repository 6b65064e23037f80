//! Reading as a consumer of groups that may have a policy.

use std::time::Duration;

use deadpool_redis::redis::{Cmd, Pipeline, Value};

use super::lua::{lua_bury, lua_leases};
use super::{Verb, channel, leases, policies};
use crate::model::id::EntryId;
use crate::model::name::{GroupName, StreamName};
use crate::store::decode::{delivery, fields, id, list, text, tuple, unsigned};
use crate::store::groups::write_read;
use crate::store::pool::Repeat;
use crate::store::{Delivery, GroupRead, Store, StoreError};

/// What an entry was lent for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// How often the entry was delivered, this time with it.
    pub deliveries: u64,
    /// When the lease ends, in Unix microseconds by the clock of Redis; `None` where the entry is
    /// pending without one.
    pub until_us: Option<u64>,
}

/// A read in groups that may have a policy.
#[derive(Clone, Debug)]
pub struct WorkRead {
    /// What to read, and for whom.
    pub read: GroupRead,
    /// In place of the lease of the policy.
    pub lease: Option<Duration>,
}

/// What one group handed out.
#[derive(Clone, Debug, Default)]
pub struct Handed {
    /// To the consumer.
    pub entries: Vec<Delivery>,
    /// The group has a policy.
    pub leased: bool,
    /// When there was nothing: how long until a lease falls due.
    pub due_in: Option<Duration>,
    /// What was moved to the dead letters meanwhile.
    pub dead: HandedOut,
}

/// What became of entries that were due and could not be handed out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HandedOut {
    /// Delivered as often as they may be.
    pub exhausted: u64,
    /// Pending, but gone from the stream.
    pub gone: u64,
    /// They should have been moved, but the dead-letter key holds something else.
    pub stuck: u64,
}

/// Hands out: of each stream entries that are due up to half of the count, then new ones, then due
/// ones again. A group without a policy is read as XREADGROUP does.
///
/// An entry that is pending and that XCLAIM does not return is gone from the stream: Redis 7.0
/// drops it from the pending list without a word, 6.2 answers nil. Either way it leaves a stone.
static READ: Verb = Verb::new(concat!(
    lua_leases!(),
    lua_bury!(),
    "\
local group, consumer, count, own = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local streams, now = #KEYS / 3, now_us()
if streams > 1 then
  for i = 1, streams do redis.call('XPENDING', KEYS[3 * i - 2], group, '-', '+', 1) end
end
local rules = {}
for i = 1, streams do
  local policy, refused = nil, nil
  if own ~= '' then policy, refused = needed(KEYS[3 * i - 1], KEYS[3 * i - 2], group)
  else policy = policy_of(KEYS[3 * i - 1], group) end
  if refused then return refused end
  rules[i] = policy or false
end
local function fresh_of(key, limit)
  local read = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', limit, 'STREAMS', key, '>')
  return read and read[1] and read[1][2] or {}
end
local function read(key, leases, policy, channel)
  if not policy then return {'', {}, {}, fresh_of(key, count), '', 0, 0, 0} end
  local length = own ~= '' and own * 1000 or policy.lease
  local until_us, taken, counts = now + length, {}, {}
  local exhausted, gone, stuck = 0, 0, 0
  local function lay_down(id, fields, held, reason)
    if bury(key, leases, group, policy, id, fields, held[2], held[4], reason, now) then return true end
    lend(leases, {id}, now + policy.lease)
    stuck = stuck + 1
    return false
  end
  local function take(limit)
    local looked = 0
    while limit > 0 and looked < 1000 do
      local due = redis.call('ZRANGEBYSCORE', leases, '-inf', digits(now), 'LIMIT', 0, limit)
      if #due == 0 then return end
      looked = looked + #due
      local ids, records, strays = {}, {}, {}
      for _, id in ipairs(due) do
        local held = held_by(key, group, id)
        if not held then strays[#strays + 1] = id
        elseif policy.max > 0 and held[4] >= policy.max then
          local fields = entry(key, id)
          if lay_down(id, fields, held, fields and 'max-deliveries' or 'gone') then
            if fields then exhausted = exhausted + 1 else gone = gone + 1 end
          end
        else
          ids[#ids + 1] = id
          records[id] = held
        end
      end
      forget(leases, strays)
      if #ids > 0 then
        local lent = {}
        for _, got in ipairs(redis.call('XCLAIM', key, group, consumer, 0, unpack(ids))) do
          if got and got[2] then
            taken[#taken + 1] = got
            counts[#counts + 1] = records[got[1]][4] + 1
            lent[#lent + 1] = got[1]
            records[got[1]] = nil
          end
        end
        lend(leases, lent, until_us)
        for id, held in pairs(records) do
          if lay_down(id, nil, held, 'gone') then gone = gone + 1 end
        end
        limit = limit - #lent
      end
    end
  end
  take(math.floor((count + now % 2) / 2))
  local fresh = {}
  if #taken < count then
    fresh = fresh_of(key, count - #taken)
    local ids = {}
    for i, got in ipairs(fresh) do ids[i] = got[1] end
    lend(leases, ids, until_us)
  end
  take(count - #taken - #fresh)
  local due_in = ''
  if #taken + #fresh == 0 then
    local first = redis.call('ZRANGE', leases, 0, 0, 'WITHSCORES')
    if first[2] then due_in = digits(math.max(0, first[2] - now)) end
  elseif length < 5000000 then
    redis.call('PUBLISH', channel, digits(length / 1000))
  end
  return {digits(until_us), taken, counts, fresh, due_in, exhausted, gone, stuck}
end
local answers = {}
for i = 1, streams do
  answers[i] = read(KEYS[3 * i - 2], KEYS[3 * i], rules[i], ARGV[4 + i])
end
return answers"
));

/// Gives leases to entries that were just read as if their group had no policy.
static LEND: Verb = Verb::new(concat!(
    lua_leases!(),
    "\
local policy = policy_of(KEYS[2], ARGV[1])
if not policy then return '' end
local until_us = now_us() + policy.lease
lend(KEYS[3], {unpack(ARGV, 3)}, until_us)
if policy.lease < 5000000 then redis.call('PUBLISH', ARGV[2], digits(policy.lease / 1000)) end
return digits(until_us)"
));

/// What a consumer holds, looked at without touching it: XREADGROUP would count a delivery and set
/// its time. Answers false for a group without a policy.
static HISTORY: Verb = Verb::new(concat!(
    lua_leases!(),
    "\
local group, consumer, from, count = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local answers = {}
for i = 1, #KEYS, 3 do
  if not policy_of(KEYS[i + 1], group) then return false end
  local found = {}
  for _, held in ipairs(redis.call('XPENDING', KEYS[i], group, from, '+', count, consumer)) do
    local entry = redis.call('XRANGE', KEYS[i], held[1], held[1])[1]
    local score = redis.call('ZSCORE', KEYS[i + 2], held[1])
    found[#found + 1] = {held[1], entry and entry[2] or false, held[4], score and digits(tonumber(score)) or ''}
  end
  answers[#answers + 1] = found
end
return answers"
));

fn write_keys(command: &mut Cmd, streams: &[StreamName], group: &GroupName) {
    command.arg(3 * streams.len());
    for stream in streams {
        command.arg(stream.as_str()).arg(policies(stream)).arg(leases(stream, group));
    }
    command.arg(group.as_str());
}

impl Store {
    /// Hands entries of several streams, each named once, to a consumer of the groups of one name;
    /// at once: waiting is done elsewhere, without a connection. Where a group has a policy they are
    /// lent; `leased` says whether any is believed to. Redis looks for all groups before anything is
    /// read.
    ///
    /// # Errors
    /// [`StoreError::GroupNotFound`] and [`StoreError::NotAStream`] if that is so of any stream
    /// ([`Store::lacks_group`] tells of which), [`StoreError::GroupHasNoPolicy`] if a lease is asked
    /// for and any has none, or that Redis is away.
    /// # Cancel safety
    /// None: dropped after it was sent, the entries are pending with the consumer, who finds them
    /// in its history. Run it where it is not dropped.
    pub async fn read_work(
        &self,
        streams: &[StreamName],
        group: &GroupName,
        work: &WorkRead,
        leased: bool,
    ) -> Result<Vec<Handed>, StoreError> {
        let read = &work.read;
        if let Some(after) = read.history {
            return self.read_history(streams, group, read, after).await;
        }
        if read.no_ack || !(leased || work.lease.is_some()) {
            return self.read_plainly(streams, group, read).await;
        }
        let reply = self.verb(&READ, Repeat::Unsafe, |command| {
            write_keys(command, streams, group);
            command.arg(read.consumer.as_str()).arg(read.count);
            command.arg(work.lease.map(|lease| lease.as_millis().to_string()).unwrap_or_default());
            for stream in streams {
                command.arg(channel(stream, group));
            }
        });
        list(reply.await?)?.into_iter().map(handed).collect()
    }

    /// Reads as if no group had a policy, and asks in the same breath whether one has; if so its
    /// entries are given leases before anybody sees them. So plain groups pay for no script.
    async fn read_plainly(
        &self,
        streams: &[StreamName],
        group: &GroupName,
        read: &GroupRead,
    ) -> Result<Vec<Handed>, StoreError> {
        let mut pipeline = Pipeline::with_capacity(1 + streams.len());
        let mut command = Cmd::new();
        write_read(&mut command, streams, group, read);
        pipeline.add_command(command);
        for stream in streams {
            let mut command = Cmd::new();
            command.arg("HEXISTS").arg(policies(stream)).arg(group.as_str());
            pipeline.add_command(command);
        }
        let mut replies = self.write_pipeline(&pipeline).await?.into_iter();
        let of_all = crate::store::groups::read_of(replies.next().unwrap_or_default(), streams)?;
        let mut handed = Vec::with_capacity(streams.len());
        for (stream, (entries, has)) in streams.iter().zip(of_all.into_iter().zip(replies)) {
            let leased = unsigned(&has)? == 1;
            let mut one = Handed { entries, leased, ..Handed::default() };
            if leased && !read.no_ack && !one.entries.is_empty() {
                self.lend(stream, group, &mut one.entries).await?;
            }
            handed.push(one);
        }
        Ok(handed)
    }

    /// When the leases of entries end, in Unix microseconds; nothing for one without.
    ///
    /// # Errors
    /// That Redis is away.
    /// # Cancel safety
    /// Reads only.
    pub async fn lease_ends(
        &self,
        stream: &StreamName,
        group: &GroupName,
        ids: &[EntryId],
    ) -> Result<Vec<Option<u64>>, StoreError> {
        let mut command = Cmd::new();
        command.arg("ZMSCORE").arg(leases(stream, group));
        for id in ids {
            command.arg(id.to_string());
        }
        let end = |score: Value| match score {
            Value::Nil => Ok(None),
            // Some servers write great numbers with an exponent.
            score => match text(score)?.parse::<f64>() {
                Ok(end) => Ok(format!("{end:.0}").parse().ok()),
                Err(_) => Err(StoreError::Unexpected("the end of a lease".to_owned())),
            },
        };
        list(self.read(&command).await?)?.into_iter().map(end).collect()
    }

    async fn lend(
        &self,
        stream: &StreamName,
        group: &GroupName,
        entries: &mut [Delivery],
    ) -> Result<(), StoreError> {
        let reply = self.verb(&LEND, Repeat::Unsafe, |command| {
            super::begin(command, stream, group);
            for entry in &*entries {
                command.arg(entry.id.to_string());
            }
        });
        let until_us = micros(reply.await?)?;
        for entry in entries {
            entry.lease = until_us.map(|end| Lease { deliveries: 1, until_us: Some(end) });
        }
        Ok(())
    }

    async fn read_history(
        &self,
        streams: &[StreamName],
        group: &GroupName,
        read: &GroupRead,
        after: EntryId,
    ) -> Result<Vec<Handed>, StoreError> {
        let Some(from) = after.next() else {
            // Nothing lies beyond, and XREADGROUP touches nothing then.
            return self.read_plainly(streams, group, read).await;
        };
        let reply = self.verb(&HISTORY, Repeat::Safe, |command| {
            write_keys(command, streams, group);
            command.arg(read.consumer.as_str()).arg(from.to_string()).arg(read.count);
        });
        match reply.await? {
            Value::Nil => self.read_plainly(streams, group, read).await,
            present => {
                let of_one = |entries| {
                    let entries = list(entries)?.into_iter().map(pending);
                    let entries = entries.collect::<Result<_, _>>()?;
                    Ok(Handed { entries, leased: true, ..Handed::default() })
                };
                list(present)?.into_iter().map(of_one).collect()
            }
        }
    }
}

/// The end of a lease as the scripts write it; empty for none.
pub(super) fn micros(value: Value) -> Result<Option<u64>, StoreError> {
    let text = text(value)?;
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| StoreError::Unexpected("the end of a lease".to_owned()))
}

fn handed(value: Value) -> Result<Handed, StoreError> {
    let [until_us, taken, counts, fresh, due_in, exhausted, gone, stuck] = tuple(value)?;
    let until_us = micros(until_us)?;
    let lease = |deliveries| until_us.map(|end| Lease { deliveries, until_us: Some(end) });
    let mut entries = Vec::new();
    for (value, count) in list(taken)?.into_iter().zip(list(counts)?) {
        let (id, fields) = delivery(value)?;
        entries.push(Delivery { id, fields, lease: lease(unsigned(&count)?) });
    }
    for value in list(fresh)? {
        let (id, fields) = delivery(value)?;
        entries.push(Delivery { id, fields, lease: lease(1) });
    }
    Ok(Handed {
        entries,
        leased: until_us.is_some(),
        due_in: micros(due_in)?.map(Duration::from_micros),
        dead: HandedOut {
            exhausted: unsigned(&exhausted)?,
            gone: unsigned(&gone)?,
            stuck: unsigned(&stuck)?,
        },
    })
}

fn pending(value: Value) -> Result<Delivery, StoreError> {
    let [entry, found, count, score] = tuple(value)?;
    let found = match found {
        Value::Nil => None,
        present => Some(fields(present)?),
    };
    let lease = Some(Lease { deliveries: unsigned(&count)?, until_us: micros(score)? });
    Ok(Delivery { id: id(entry)?, fields: found, lease })
}
