//! The counters of a stream, which number its entries, and setting them.

use deadpool_redis::redis::Cmd;

use super::{Store, StoreError};
use crate::model::id::EntryId;
use crate::model::name::StreamName;

/// Counters of a stream, as XSETID sets them.
#[derive(Clone, Copy, Debug)]
pub struct Counters {
    /// The id last generated.
    pub last_id: EntryId,
    /// How many entries the stream was ever given, and the greatest id ever deleted.
    pub others: Option<(u64, EntryId)>,
}

impl Store {
    /// Sets the counters of a stream.
    ///
    /// # Errors
    /// [`StoreError::StreamNotFound`], [`StoreError::NotAStream`], [`StoreError::IdNotMonotonic`]
    /// when entries lie above `last_id`, [`StoreError::Contradiction`] when the others cannot be,
    /// or that Redis is away.
    /// # Cancel safety
    /// Dropped after it was sent, the counters may be set all the same.
    pub async fn set_counters(
        &self,
        stream: &StreamName,
        counters: Counters,
    ) -> Result<(), StoreError> {
        let mut command = Cmd::new();
        command.arg("XSETID").arg(stream.as_str());
        write_counters(&mut command, counters);
        self.write(&command).await.map(drop)
    }
}

/// The words XSETID takes after the stream.
pub(super) fn write_counters(command: &mut Cmd, counters: Counters) {
    command.arg(counters.last_id.to_string());
    if let Some((added, max_deleted)) = counters.others {
        command.arg("ENTRIESADDED").arg(added).arg("MAXDELETEDID").arg(max_deleted.to_string());
    }
}
