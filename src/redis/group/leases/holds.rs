//! Checks whether leases are still valid.

use crate::model::name::{ConsumerName, GroupName, StreamName};
use crate::redis::conn::send_options::RetryPolicy;
use crate::redis::decode::{int, list};
use crate::redis::group::leases::begin;
use crate::redis::group::leases::settle::{Item, write_items};
use crate::redis::script::{LuaScript, lua};
use crate::redis::{Store, StoreError};

/// Returns 1 for each lease that is the current lease of its entry and has not ended. Optionally
/// also requires that the entry is still pending with the consumer, because native clients
/// acknowledge and claim without regard to leases.
static HOLDS: LuaScript =
    LuaScript::new(lua!["lib/life", "lib/leases", "lib/items", "valid_leases"]);

impl Store {
    /// Returns for each lease of a consumer whether it is still valid, by the clock of Redis. With
    /// `pending`, also checks that the entry is pending with the consumer, at the cost of a look-up
    /// per entry.
    ///
    /// # Errors
    /// [`StoreError::GroupNotFound`] (only with `pending`), [`StoreError::NotAStream`], or an
    /// outage of Redis.
    /// # Cancel safety
    /// Cancel safe: only reads.
    pub async fn lease_holds(
        &self,
        stream: &StreamName,
        group: &GroupName,
        consumer: &ConsumerName,
        leases: &[Item],
        pending: bool,
    ) -> Result<Vec<bool>, StoreError> {
        let reply = self.run_script(&HOLDS, RetryPolicy::Safe, |command| {
            begin(command, stream, group);
            command.arg(consumer.as_bytes()).arg(u8::from(pending));
            write_items(command, leases);
        });
        list(reply.await?)?
            .iter()
            .map(|holds| Ok(int(holds)? == 1))
            .collect()
    }
}
