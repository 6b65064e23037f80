//! Groups with their policies: making, changing, looking, deleting, each in one step.

use deadpool_redis::redis::{Cmd, Value};

use super::life::{kept as kept_policy, lua_life, new_life};
use super::lua::lua_leases;
use super::{Verb, begin, policies};
use crate::model::name::{GroupName, StreamName};
use crate::model::policy::Policy;
use crate::model::position::Start;
use crate::store::decode::{int, list};
use crate::store::groups::write_start;
use crate::store::pool::Repeat;
use crate::store::{Store, StoreError};

/// The set of all groups that have a policy, for the sweeper: `stream\0group`. It lies in a slot of
/// its own and is written beside the policies, not with them, so what it says is looked up before
/// it is believed.
pub(super) const INDEX: &str = "streamgate:{policies}:index";

/// A name in the index.
pub(super) fn indexed(stream: &StreamName, group: &GroupName) -> String {
    format!("{}\0{group}", stream.as_str())
}

/// How to make a group.
#[derive(Clone, Debug)]
pub struct GroupStart {
    /// Where it begins.
    pub start: Start,
    /// How many entries the stream had been given up to there.
    pub entries_read: Option<u64>,
    /// Make an empty stream if there is none.
    pub create_stream: bool,
    /// Leave a group that is there as it is, its policy too.
    pub only_new: bool,
    /// Give it this policy, or none; `None` leaves that of a group that is there.
    pub policy: Option<Option<Policy>>,
}

/// How to change a group.
#[derive(Clone, Debug, Default)]
pub struct GroupChange {
    /// Where it reads on.
    pub to: Option<Start>,
    /// How many entries the stream had been given up to there.
    pub entries_read: Option<u64>,
    /// The policy as it was seen, and as it is to be.
    pub policy: Option<(Option<Policy>, Option<Policy>)>,
}

/// Lua: sets a policy, or takes it away (`-`): while leases are left its marker stays, so that
/// their receipts stay good.
macro_rules! lua_set_policy {
    () => {
        concat!(
            lua_leases!(),
            "\
local key, policies, leases, group = KEYS[1], KEYS[2], KEYS[3], ARGV[1]
local function set_policy(kept, life, text)
  local is_taken = text == '-'
  if is_taken and (not kept or retired_at(kept)) then return end
  if is_taken and redis.call('EXISTS', leases) == 0 then
    end_life(key, group, life)
    redis.call('HDEL', policies, group)
    return
  end
  if is_taken then text = '- ' .. digits(math.floor(now_us() / 1000)) end
  if not life then
    life = ARGV[5]
    begin_life(key, group, life)
  end
  redis.call('HSET', policies, group, '@' .. life .. ' ' .. text)
end\n"
        )
    };
}

/// Makes a group: 1 if it was not there. What a group of this name had before it was destroyed by
/// others is not its policy.
static CREATE: Verb = Verb::new(concat!(
    lua_set_policy!(),
    "\
local made = redis.pcall('XGROUP', 'CREATE', key, group, unpack(ARGV, 6))
local kept, life
if made.err then
  if not made.err:find('BUSYGROUP') then return redis.error_reply(made.err) end
  if ARGV[4] == '1' then return 0 end
  if ARGV[3] ~= '' then kept, life = kept_of(policies, key, group) end
else
  redis.call('HDEL', policies, group)
  redis.call('DEL', leases)
end
if ARGV[3] ~= '' then set_policy(kept, life, ARGV[3]) end
redis.call('PUBLISH', ARGV[2], '0')
return made.err and 0 or 1"
));

/// Moves a group, and changes its policy unless that is another than was seen.
static CHANGE: Verb = Verb::new(concat!(
    lua_set_policy!(),
    "\
redis.call('XPENDING', key, group, '-', '+', 1)
local kept, life = kept_of(policies, key, group)
local seen = kept and not retired_at(kept) and kept or '-'
if ARGV[4] ~= '' and seen ~= ARGV[3] then return redis.error_reply('CHANGED by someone else') end
if #ARGV > 5 then redis.call('XGROUP', 'SETID', key, group, unpack(ARGV, 6)) end
if ARGV[4] ~= '' then set_policy(kept, life, ARGV[4]) end
redis.call('PUBLISH', ARGV[2], '0')
return 1"
));

/// The policies of groups, `false` for none; 0 for one that was taken away.
static LOOK: Verb = Verb::new(concat!(
    lua_life!(),
    "\
local found = {}
for i, group in ipairs(ARGV) do
  local kept = redis.call('HGET', KEYS[2], group)
  local text, life = split_life(kept or '')
  if not kept or life and is_other_life(KEYS[1], group, life) then found[i] = false
  else found[i] = retired_at(text) and 0 or text end
end
return found"
));

/// Deletes a group with its policy and its leases: 1 if there was one.
static DELETE: Verb = Verb::new(
    "\
local gone = redis.call('XGROUP', 'DESTROY', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('DEL', KEYS[3])
redis.call('PUBLISH', ARGV[2], '0')
return gone",
);

fn kept(policy: Option<&Policy>) -> String {
    policy.map_or_else(|| "-".to_owned(), Policy::encode)
}

impl Store {
    /// Makes a group; false if it was there, which then stays where it is.
    ///
    /// # Errors
    /// [`StoreError::StreamNotFound`] without `create_stream`, [`StoreError::NotAStream`], or that
    /// Redis is away.
    /// # Cancel safety
    /// If dropped after the command was sent, the group may still be made.
    pub async fn create_group(
        &self,
        stream: &StreamName,
        group: &GroupName,
        new: &GroupStart,
    ) -> Result<bool, StoreError> {
        let life = new_life();
        let made = self.verb(&CREATE, Repeat::Unsafe, |command| {
            begin(command, stream, group);
            let policy = new.policy.as_ref().map(|policy| kept(policy.as_ref()));
            command
                .arg(policy.unwrap_or_default())
                .arg(u8::from(new.only_new));
            command.arg(life.as_str());
            let counted = write_start(command, new.start);
            if new.create_stream {
                command.arg("MKSTREAM");
            }
            if let Some(read) = new.entries_read.or(counted) {
                command.arg("ENTRIESREAD").arg(read);
            }
        });
        let made = int(&made.await?)? == 1;
        if let Some(Some(_)) = &new.policy {
            self.enlist(stream, group).await?;
        }
        Ok(made)
    }

    /// Moves a group, changes its policy, or both.
    ///
    /// # Errors
    /// [`StoreError::GroupNotFound`], [`StoreError::Changed`] when the policy is no longer as it
    /// was seen (nothing was changed then), [`StoreError::NotAStream`], or an outage of Redis.
    /// # Cancel safety
    /// If dropped after the command was sent, the group may still be changed.
    pub async fn change_group(
        &self,
        stream: &StreamName,
        group: &GroupName,
        change: &GroupChange,
    ) -> Result<(), StoreError> {
        let life = new_life();
        let changed = self.verb(&CHANGE, Repeat::Unsafe, |command| {
            begin(command, stream, group);
            match &change.policy {
                Some((seen, next)) => {
                    command.arg(kept(seen.as_ref())).arg(kept(next.as_ref()));
                }
                None => {
                    command.arg("").arg("");
                }
            }
            command.arg(life.as_str());
            let Some(to) = change.to else { return };
            let counted = write_start(command, to);
            if let Some(read) = change.entries_read.or(counted) {
                command.arg("ENTRIESREAD").arg(read);
            }
        });
        changed.await.map_err(StoreError::of_group)?;
        match &change.policy {
            Some((_, Some(_))) => self.enlist(stream, group).await,
            _ => Ok(()),
        }
    }

    /// Deletes a group with all that is pending in it; false if there was none.
    ///
    /// # Errors
    /// [`StoreError::NotAStream`], or an outage of Redis.
    /// # Cancel safety
    /// If dropped after the command was sent, the group may still be gone.
    pub async fn delete_group(
        &self,
        stream: &StreamName,
        group: &GroupName,
    ) -> Result<bool, StoreError> {
        let deleted = self
            .verb(&DELETE, Repeat::Unsafe, |command| {
                begin(command, stream, group)
            })
            .await;
        Ok(int(&deleted.map_err(StoreError::of_group)?)? == 1)
    }

    /// The policies of some groups of a stream, in their order, with how many consumers of each are
    /// ours and not shown; nothing for a group without a policy, also where
    /// there is no such group.
    ///
    /// # Errors
    /// An outage of Redis.
    /// # Cancel safety
    /// Cancel safe: only reads.
    pub async fn policies(
        &self,
        stream: &StreamName,
        groups: &[&[u8]],
    ) -> Result<Vec<(Option<Policy>, u64)>, StoreError> {
        if groups.is_empty() {
            return Ok(Vec::new());
        }
        let found = self.verb(&LOOK, Repeat::Safe, |command| {
            command
                .arg(2)
                .arg(stream.as_str())
                .arg(policies(stream))
                .arg(groups);
        });
        list(found.await?)?.into_iter().map(policy).collect()
    }

    /// The policy of a group; nothing for one without, also where there is no such group.
    ///
    /// # Errors
    /// An outage of Redis.
    /// # Cancel safety
    /// Cancel safe: only reads.
    pub async fn policy(
        &self,
        stream: &StreamName,
        group: &GroupName,
    ) -> Result<Option<Policy>, StoreError> {
        let mut found = self.policies(stream, &[group.as_bytes()]).await?;
        Ok(found.pop().and_then(|(policy, _)| policy))
    }

    /// Puts a group into the index. It comes after the policy: who takes it out looks for the
    /// policy after that, and puts it in again.
    pub(super) async fn enlist(
        &self,
        stream: &StreamName,
        group: &GroupName,
    ) -> Result<(), StoreError> {
        let mut command = Cmd::new();
        command.arg("SADD").arg(INDEX).arg(indexed(stream, group));
        self.write(&command).await.map(drop)
    }
}

fn policy(value: Value) -> Result<(Option<Policy>, u64), StoreError> {
    let (text, own) = kept_policy(value)?;
    let Some(text) = text else {
        return Ok((None, own));
    };
    let policy = std::str::from_utf8(&text).ok().and_then(Policy::decode);
    policy
        .map(|policy| (Some(policy), own))
        .ok_or_else(|| StoreError::Unexpected("a policy".to_owned()))
}
