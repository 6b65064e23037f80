//! Atomic creation, change, look-up and deletion of groups with their policies.

use deadpool_redis::redis::{Cmd, Value};

use crate::model::name::{GroupName, StreamName};
use crate::model::policy::Policy;
use crate::model::position::Start;
use crate::redis::conn::send_options::RetryPolicy;
use crate::redis::decode::{int, list};
use crate::redis::group::leases::begin;
use crate::redis::group::leases::life::{decode_policy as kept_policy, new_life};
use crate::redis::group::plain::write_start;
use crate::redis::keys;
use crate::redis::script::{LuaScript, lua};
use crate::redis::{Store, StoreError};

/// Returns the member of the index for a group.
pub(super) fn indexed(stream: &StreamName, group: &GroupName) -> String {
    format!("{}\0{group}", stream.redis_key())
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

/// Creates a group. Returns 1 if it did not exist. Deletes the policy and the leases of an earlier
/// group of this name that another client has destroyed.
static CREATE: LuaScript = LuaScript::new(lua![
    "lib/life",
    "lib/leases",
    "lib/set_policy",
    "group_create"
]);

/// Moves a group and changes its policy, unless the policy differs from the one the caller has
/// seen.
static CHANGE: LuaScript = LuaScript::new(lua![
    "lib/life",
    "lib/leases",
    "lib/set_policy",
    "group_change"
]);

/// Returns the policies of groups: `false` for none, 0 for a removed one.
static LOOK: LuaScript = LuaScript::new(lua!["lib/life", "group_policies"]);

/// Deletes a group with its policy and its leases. Returns 1 if the group existed.
static DELETE: LuaScript = LuaScript::new(lua!["group_delete"]);

fn decode_policy(policy: Option<&Policy>) -> String {
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
        let made = self.run_script(&CREATE, RetryPolicy::Unsafe, |command| {
            begin(command, stream, group);
            let policy = new
                .policy
                .as_ref()
                .map(|policy| decode_policy(policy.as_ref()));
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
        let changed = self.run_script(&CHANGE, RetryPolicy::Unsafe, |command| {
            begin(command, stream, group);
            match &change.policy {
                Some((seen, next)) => {
                    command
                        .arg(decode_policy(seen.as_ref()))
                        .arg(decode_policy(next.as_ref()));
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
            .run_script(&DELETE, RetryPolicy::Unsafe, |command| {
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
        let found = self.run_script(&LOOK, RetryPolicy::Safe, |command| {
            command
                .arg(2)
                .arg(stream.redis_key())
                .arg(keys::policies(stream))
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
        command
            .arg("SADD")
            .arg(keys::POLICY_INDEX)
            .arg(indexed(stream, group));
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
