//! Singleflight reads of the consumers of a group.
//!
//! Redis returns all consumers of a group or none, and a script that picks one takes five times as
//! long. With 60,000 consumers, Redis is busy for 70 ms with the whole list, and for 380 ms with
//! the script. Concurrent readers of a group therefore share one read, which starts after the last
//! of them has called.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use deadpool_redis::redis::Cmd;
use parking_lot::Mutex;

use crate::model::name::{GroupName, StreamName};
use crate::redis::decode::list;
use crate::redis::group::leases::is_nobody;
use crate::redis::group::plain::{ConsumerInfo, GroupInfo, consumer_info};
use crate::redis::{Store, StoreError};

/// The consumers of a group, by name.
pub type ConsumerList = Arc<Vec<ConsumerInfo>>;

/// Reads in progress, by group.
#[derive(Default)]
pub(in crate::redis) struct Looks(Mutex<HashMap<(StreamName, GroupName), Weak<Look>>>);

/// The shared reads of one group.
#[derive(Default)]
struct Look {
    /// Number of reads started.
    begun: AtomicU64,
    /// Number and result of the last completed read.
    last: tokio::sync::Mutex<(u64, Option<Result<ConsumerList, StoreError>>)>,
}

impl Looks {
    fn at(&self, stream: &StreamName, group: &GroupName) -> Arc<Look> {
        let mut looks = self.0.lock();
        let key = (stream.clone(), group.clone());
        if let Some(look) = looks.get(&key).and_then(Weak::upgrade) {
            return look;
        }
        looks.retain(|_, look| look.strong_count() > 0);
        let look = Arc::new(Look::default());
        looks.insert(key, Arc::downgrade(&look));
        look
    }
}

impl Store {
    /// Returns a group and its consumers.
    ///
    /// # Errors
    /// [`StoreError::GroupNotFound`], [`StoreError::NotAStream`], or an outage of Redis.
    /// # Cancel safety
    /// Cancel safe: only reads.
    pub async fn group(
        &self,
        stream: &StreamName,
        group: &GroupName,
    ) -> Result<(GroupInfo, ConsumerList), StoreError> {
        let groups = self
            .groups_with_lags(stream)
            .await
            .map_err(StoreError::of_group)?;
        let found = groups
            .into_iter()
            .find(|(info, _)| info.name.as_bytes() == group.as_bytes());
        let (mut found, lag) = found.ok_or(StoreError::GroupNotFound)?;
        found.lag = self.counted_lag(stream, group, lag).await?;
        let consumers = self.consumers(stream, group).await?;
        found.consumers = consumers.len() as u64;
        Ok((found, consumers))
    }

    /// Returns the consumers of a group, read after the time of this call.
    ///
    /// # Errors
    /// Same as [`Store::group`].
    /// # Cancel safety
    /// Cancel safe: only reads.
    pub async fn consumers(
        &self,
        stream: &StreamName,
        group: &GroupName,
    ) -> Result<ConsumerList, StoreError> {
        let look = self.looks.at(stream, group);
        let came = look.begun.load(Ordering::SeqCst);
        let mut last = look.last.lock().await;
        if last.0 > came
            && let Some(seen) = &last.1
        {
            return seen.clone();
        }
        let number = look.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let seen = self.read_consumers(stream, group).await;
        *last = (number, Some(seen.clone()));
        seen
    }

    async fn read_consumers(
        &self,
        stream: &StreamName,
        group: &GroupName,
    ) -> Result<ConsumerList, StoreError> {
        let mut command = Cmd::new();
        command
            .arg("XINFO")
            .arg("CONSUMERS")
            .arg(stream.redis_key())
            .arg(group.as_bytes());
        let consumers = list(self.read(&command).await.map_err(StoreError::of_group)?)?;
        let consumers = consumers.into_iter().map(consumer_info);
        let mut consumers = consumers.collect::<Result<Vec<_>, _>>()?;
        consumers.retain(|consumer| !is_nobody(&consumer.name));
        consumers.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(Arc::new(consumers))
    }
}
