//! Creation of groups by the reads that need them, so that a read goes on after a group was lost.

use std::sync::Arc;

use futures_util::future::try_join_all;

use crate::model::name::{GroupName, StreamName};
use crate::redis::{GroupStart, Store, StoreError};

/// The groups that a read creates if they do not exist: at most one per stream.
#[derive(Clone, Debug, Default)]
pub struct FirstUse(Option<Arc<[(StreamName, GroupStart)]>>);

impl FirstUse {
    /// Returns the groups to create.
    #[must_use]
    pub fn of(groups: Vec<(StreamName, GroupStart)>) -> Self {
        Self(Some(groups.into()))
    }

    /// Returns whether the read creates missing groups.
    #[must_use]
    pub fn creates(&self) -> bool {
        self.0.is_some()
    }
}

impl Store {
    /// Creates the groups of these streams that a read may create and that do not exist. An
    /// existing group stays unchanged.
    ///
    /// # Errors
    /// [`StoreError::NotAStream`], or an outage of Redis.
    /// # Cancel safety
    /// If dropped after a command was sent, groups may still be created.
    pub async fn create_missing(
        &self,
        streams: &[StreamName],
        group: &GroupName,
        first_use: &FirstUse,
    ) -> Result<(), StoreError> {
        let wanted = first_use.0.iter().flat_map(|all| all.iter());
        let wanted = wanted.filter(|(stream, _)| streams.contains(stream));
        let create = async |stream: &StreamName, start: &GroupStart| {
            if self.create_group(stream, group, start).await? {
                tracing::info!(stream = stream.redis_key(), %group, "created a group on first use");
            }
            Ok::<_, StoreError>(())
        };
        try_join_all(wanted.map(|(stream, start)| create(stream, start)))
            .await
            .map(drop)
    }
}
