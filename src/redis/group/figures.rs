//! Figures of the groups of a stream, for metrics.

use deadpool_redis::redis::{Cmd, Pipeline, Value};

use crate::model::id::EntryId;
use crate::model::name::{GroupName, StreamName};
use crate::redis::decode::unsigned;
use crate::redis::group::leases::OrderState;
use crate::redis::group::pending::summary;
use crate::redis::group::plain::GroupInfo;
use crate::redis::keys;
use crate::redis::{Lane, Store, StoreError};

/// A group with its figures.
#[derive(Clone, Debug)]
pub struct MeasuredGroup {
    /// The group.
    pub info: GroupInfo,
    /// The lowest pending id.
    pub oldest_pending: Option<EntryId>,
    /// In a group with a policy: the number of leases that have not ended, and the length of the
    /// dead-letter stream.
    pub work: Option<(u64, u64)>,
    /// The numbers of entries by key in a group with an order.
    pub order: Option<OrderState>,
}

impl Store {
    /// Returns the figures of some groups of a stream, at `now_ms` by the clock of Redis.
    ///
    /// # Errors
    /// An outage of Redis. A group that another client deletes meanwhile may be an error, too.
    /// # Cancel safety
    /// Cancel safe: only reads.
    pub async fn measure_groups(
        &self,
        stream: &StreamName,
        groups: Vec<GroupInfo>,
        now_ms: u64,
    ) -> Result<Vec<MeasuredGroup>, StoreError> {
        let names: Vec<&[u8]> = groups.iter().map(|group| group.name.as_bytes()).collect();
        let policies = self.policies(stream, &names).await?;
        let mut pipeline = Pipeline::new();
        for (name, (policy, _)) in names.iter().zip(&policies) {
            let mut pending = Cmd::new();
            pending.arg("XPENDING").arg(stream.redis_key()).arg(*name);
            pipeline.add_command(pending);
            if let Some(policy) = policy {
                let leases = [keys::leases_prefix(stream).as_bytes(), name].concat();
                let (mut held, mut dead) = (Cmd::new(), Cmd::new());
                held.arg("ZCOUNT").arg(leases);
                held.arg(now_ms.saturating_mul(1000)).arg("+inf");
                dead.arg("XLEN").arg(policy.dead_letter.redis_key());
                pipeline.add_command(held).add_command(dead);
            }
        }
        let mut replies = self
            .read_pipeline(&Lane::Shared, &pipeline)
            .await?
            .into_iter();
        let mut next = || replies.next().unwrap_or(Value::Nil);
        let mut measured = Vec::with_capacity(groups.len());
        for (info, (policy, _)) in groups.into_iter().zip(policies) {
            let oldest_pending = summary(next())?.min_id;
            let work = match policy {
                None => None,
                Some(_) => Some((unsigned(&next())?, unsigned(&next())?)),
            };
            let name = std::str::from_utf8(info.name.as_bytes()).ok();
            let name = name.and_then(|name| GroupName::new(name).ok());
            let order = match name.filter(|_| policy.is_some_and(|policy| policy.order.is_some())) {
                Some(name) => self.order_state(stream, &name).await?,
                None => None,
            };
            measured.push(MeasuredGroup {
                info,
                oldest_pending,
                work,
                order,
            });
        }
        Ok(measured)
    }
}
