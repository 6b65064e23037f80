//! Atomic creation, change, look-up and deletion of groups with their policies.

use deadpool_redis::redis::{Cmd, Value};

use crate::model::name::{GroupName, StreamName};
use crate::model::policy::Policy;
use crate::model::position::Start;
use crate::redis::conn::pool::Repeat;
use crate::redis::decode::{int, list};
use crate::redis::group::leases::life::{kept as kept_policy, lua_life, new_life};
use crate::redis::group::leases::lua::lua_leases;
use crate::redis::group::leases::{Verb, begin, policies};
use crate::redis::group::plain::write_start;
use crate::redis::{Store, StoreError};

/// Index of all groups with a policy, for the sweep: `stream\0group`. The index is in a separate
/// slot and is not written atomically with the policies, so callers verify its entries.
pub(super) const INDEX: &str = "streamgate:{policies}:index";

/// Returns the member of the index for a group.
pub(super) fn indexed(stream: &StreamName, group: &GroupName) -> String {
    format!("{}\0{group}", stream.as_str())
}

/// The parameters of creating a group.
#[derive(Clone, Debug)]
pub struct GroupStart {
    /// Start position of the group.
    pub start: Start,
    /// Number of entries added to the stream up to the start position.
    pub entries_read: Option<u64>,
    /// Whether to create an empty stream if it does not exist.
    pub create_stream: bool,
    /// Whether to leave an existing group and its policy unchanged.
    pub only_new: bool,
    /// New policy: `Some(None)` removes the policy of an existing group, `None` leaves it
    /// unchanged.
    pub policy: Option<Option<Policy>>,
}

/// A change of a group.
#[derive(Clone, Debug, Default)]
pub struct GroupChange {
    /// New position of the group.
    pub to: Option<Start>,
    /// Number of entries added to the stream up to that position.
    pub entries_read: Option<u64>,
    /// The policy the caller has seen, and the new policy.
    pub policy: Option<(Option<Policy>, Option<Policy>)>,
}

/// Lua: `set_policy(kept, life, text)` sets a policy, or removes it (`-`). While leases remain, the
/// marker stays, so that their receipts stay valid.
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

/// Creates a group. Returns 1 if it did not exist. Deletes the policy and the leases of an earlier
/// group of this name that another client has destroyed.
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

/// Moves a group and changes its policy, unless the policy differs from the one the caller has
/// seen.
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

/// Returns the policies of groups: `false` for none, 0 for a removed one.
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

/// Deletes a group with its policy and its leases. Returns 1 if the group existed.
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
    /// Creates a group. Returns false if it already exists; its position is then unchanged.
    ///
    /// # Errors
    /// [`StoreError::StreamNotFound`] without `create_stream`, [`StoreError::NotAStream`], or an
    /// outage of Redis.
    /// # Cancel safety
    /// If dropped after the command was sent, the group may still be created.
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
    /// [`StoreError::GroupNotFound`], [`StoreError::Changed`] when the policy is no longer the one
    /// the caller has seen (nothing was changed then), [`StoreError::NotAStream`], or an outage of
    /// Redis.
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

    /// Deletes a group with its pending entries. Returns false if the group did not exist.
    ///
    /// # Errors
    /// [`StoreError::NotAStream`], or an outage of Redis.
    /// # Cancel safety
    /// If dropped after the command was sent, the group may still be deleted.
    pub async fn delete_group(
        &self,
        stream: &StreamName,
        group: &GroupName,
    ) -> Result<bool, StoreError> {
        let deleted = self
            .verb(&DELETE, Repeat::Unsafe, |command| {
                begin(command, stream, group);
            })
            .await;
        Ok(int(&deleted.map_err(StoreError::of_group)?)? == 1)
    }

    /// Returns the policies of some groups of a stream, in order, each with the number of the
    /// gateway's own hidden consumers. The policy is `None` if the group has none or does not
    /// exist.
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

    /// Returns the policy of a group, or `None` if the group has no policy or does not exist.
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

    /// Adds a group to the index, after its policy was set. A concurrent removal from the index
    /// checks for a policy after the removal, and adds the group again.
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
        .ok_or_else(|| StoreError::Unexpected("an invalid policy".to_owned()))
}
