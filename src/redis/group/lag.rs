//! Lags of groups: derived from the counters of the stream, or counted if the counters do not
//! suffice.

use deadpool_redis::redis::{Cmd, Pipeline, Value};

use crate::model::lag::{GroupCursor, Lag, LagCounters, MAX_COUNTED};
use crate::model::name::{GroupName, StreamName};
use crate::redis::conn::send_options::RetryPolicy;
use crate::redis::decode::{list, optional};
use crate::redis::group::plain::{GroupInfo, group_info, xinfo_groups};
use crate::redis::script::{LuaScript, lua};
use crate::redis::stream::info::{StreamInfo, stream_info};
use crate::redis::{Lane, Store, StoreError};

/// Returns the number of entries after the position of a group. Counts the entries after it, or, if
/// there are too many, the entries up to it. Returns false if both exceed the limit.
static COUNT: LuaScript = LuaScript::new(lua!["lag_count"]);

impl Store {
    /// Returns all groups of a stream, with the lag as far as the counters determine it.
    pub(in crate::redis) async fn groups_with_lags(
        &self,
        stream: &StreamName,
    ) -> Result<Vec<(GroupInfo, Lag)>, StoreError> {
        let _permit = self
            .large
            .permit(2 * self.estimate_entry_size(stream).await?)
            .await?;
        let mut info = Cmd::new();
        info.arg("XINFO").arg("STREAM").arg(stream.redis_key());
        let mut pipeline = Pipeline::new();
        // No transaction: a Redis that is out of memory rejects it, and operators need this data
        // then.
        pipeline.add_command(info).add_command(xinfo_groups(stream));
        let mut replies = self
            .read_pipeline(&Lane::Shared, &pipeline)
            .await?
            .into_iter();
        let ends = ends(&stream_info(replies.next().unwrap_or_default())?);
        let groups = list(replies.next().unwrap_or_default())?
            .into_iter()
            .map(group_info);
        let judged = groups.map(|group| {
            let mut group = group?;
            let lag = Lag::of(&ends, &cursor_of(&group));
            group.lag = lag.uncounted();
            Ok((group, lag))
        });
        judged.collect()
    }

    /// Returns the lag of one group. If the counters do not determine it, counts at most
    /// [`MAX_COUNTED`] entries, fewer if they are large.
    pub(in crate::redis) async fn counted_lag(
        &self,
        stream: &StreamName,
        group: &GroupName,
        lag: Lag,
    ) -> Result<Option<u64>, StoreError> {
        let supposed = match lag {
            Lag::Exactly(lag) => return Ok(Some(lag)),
            Lag::Uncounted(supposed) => supposed,
        };
        let (limit, _permit) = self.portion(stream, MAX_COUNTED + 1).await?;
        let counted = self.run_script(&COUNT, RetryPolicy::Safe, |command| {
            command
                .arg(1)
                .arg(stream.redis_key())
                .arg(group.as_bytes())
                .arg(limit);
        });
        match counted.await? {
            Value::Nil => Ok(supposed),
            counted => optional(&counted),
        }
    }
}

pub(in crate::redis) fn ends(info: &StreamInfo) -> LagCounters {
    LagCounters {
        length: info.length,
        entries_added: info.entries_added,
        last_id: info.last_id,
        oldest: info.first_entry.as_ref().map(|entry| entry.id),
    }
}

fn cursor_of(group: &GroupInfo) -> GroupCursor {
    GroupCursor {
        last_delivered: group.last_delivered,
        entries_read: group.entries_read,
        lag: group.lag,
    }
}
