//! Checks whether leases are still valid.

use crate::model::name::{ConsumerName, GroupName, StreamName};
use crate::redis::conn::pool::Repeat;
use crate::redis::decode::{int, list};
use crate::redis::group::leases::lua::lua_leases;
use crate::redis::group::leases::settle::{Item, lua_items, write_items};
use crate::redis::group::leases::{Verb, begin};
use crate::redis::{Store, StoreError};

/// Returns 1 for each lease that is the current lease of its entry and has not ended. Optionally
/// also requires that the entry is still pending with the consumer, because native clients
/// acknowledge and claim without regard to leases.
static HOLDS: Verb = Verb::new(concat!(
    lua_leases!(),
    lua_items!(),
    "\
local key, leases, group, consumer, pending = KEYS[1], KEYS[3], ARGV[1], ARGV[3], ARGV[4] == '1'
local now, results = now_us(), {}
for n, score in ipairs(scores_of(leases, 5)) do
  local id, ends = ARGV[2 * n + 3], tonumber(ARGV[2 * n + 4])
  local holds = score and tonumber(score) == ends and ends > now
  if holds and pending then
    local held = held_by(key, group, id)
    holds = held and held[2] == consumer
  end
  results[n] = holds and 1 or 0
end
return results"
));

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
        let reply = self.verb(&HOLDS, Repeat::Safe, |command| {
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
