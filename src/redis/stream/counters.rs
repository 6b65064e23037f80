//! The counters of a stream, which number its entries.

use deadpool_redis::redis::Cmd;

use crate::model::id::EntryId;

/// Counters of a stream, as XSETID sets them.
#[derive(Clone, Copy, Debug)]
pub struct Counters {
    /// The id last generated.
    pub last_id: EntryId,
    /// How many entries the stream was ever given, and the greatest id ever deleted.
    pub others: Option<(u64, EntryId)>,
}

/// The words XSETID takes after the stream.
pub(in crate::redis) fn write_counters(command: &mut Cmd, counters: Counters) {
    command.arg(counters.last_id.to_string());
    if let Some((added, max_deleted)) = counters.others {
        command
            .arg("ENTRIESADDED")
            .arg(added)
            .arg("MAXDELETEDID")
            .arg(max_deleted.to_string());
    }
}
