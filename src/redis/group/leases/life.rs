//! Group identity: detects that a native client deleted a group and created another one of the same
//! name.
//!
//! Redis gives groups no creation id. A group with a policy therefore has a marker: a consumer
//! `streamgate:life:<random>`, whose name is stored with the policy. XGROUP CREATECONSUMER returns
//! 0 while the marker exists. It returns 1 in a recreated group: the policy and the leases belong
//! to the deleted group, and are discarded before they have any effect.
//!
//! When a policy is removed while leases remain, `- <time>` replaces it, so that the receipts of
//! these leases stay valid.

use deadpool_redis::redis::{Cmd, Value};

use crate::model::name::{GroupName, StreamName};
use crate::redis::conn::send_options::RetryPolicy;
use crate::redis::decode::{bytes, int, list};
use crate::redis::group::leases::begin;
use crate::redis::script::{LuaScript, lua};
use crate::redis::{Store, StoreError};

/// Number of the gateway's own consumers in a group with a marker: the marker, and the holder of
/// returned entries.
pub(super) const OWN_CONSUMERS: u64 = 2;

/// Discards the policies and leases of deleted groups. Returns the streams whose group had a
/// policy. Takes the keys and the group of any script that can find such a policy.
static DISCARD: LuaScript = LuaScript::new(lua!["lib/life", "discard_policies"]);

/// Cleans up after a removed policy: removes leases of entries that are no longer pending. Returns
/// the offset from which to continue, or -1 when nothing is left.
static WIND_DOWN: LuaScript = LuaScript::new(lua!["lib/life", "lib/leases", "clean_up_policy"]);

impl Store {
    /// Discards and logs the policies of deleted groups that a script has found.
    pub(in crate::redis) async fn discard_other_lives(
        &self,
        write: &impl Fn(&mut Cmd),
    ) -> Result<(), StoreError> {
        let discarded = self.run_once(&DISCARD, RetryPolicy::Safe, write).await?;
        for stream in list(discarded)? {
            self.discarded.policy();
            let stream = String::from_utf8_lossy(&bytes(stream)?).into_owned();
            tracing::warn!(
                stream,
                "another client deleted and recreated a group; discarded its old policy"
            );
        }
        Ok(())
    }

    /// Cleans up a group whose policy was removed, `limit` leases at a time starting at `skip`.
    /// Returns the offset from which to continue, or `None` when nothing is left to do.
    ///
    /// # Errors
    /// An outage of Redis.
    /// # Cancel safety
    /// If dropped after the command was sent, the clean-up may still run.
    pub(super) async fn wind_down(
        &self,
        stream: &StreamName,
        group: &GroupName,
        skip: u64,
        limit: usize,
    ) -> Result<Option<u64>, StoreError> {
        let reply = self.run_script(&WIND_DOWN, RetryPolicy::Unsafe, |command| {
            begin(command, stream, group);
            command.arg(skip).arg(limit);
        });
        Ok(u64::try_from(int(&reply.await?)?).ok())
    }
}

/// Returns a new random part of a marker.
pub(super) fn new_life() -> String {
    format!("{:016x}", fastrand::u64(..))
}

/// Decodes a stored policy, unless it was removed or belongs to a deleted group, and returns the
/// number of the gateway's own consumers in the group.
pub(super) fn decode_policy(value: Value) -> Result<(Option<Vec<u8>>, u64), StoreError> {
    match value {
        Value::Nil => Ok((None, 0)),
        Value::Int(_) => Ok((None, OWN_CONSUMERS)),
        text => bytes(text).map(|text| (Some(text), OWN_CONSUMERS)),
    }
}
