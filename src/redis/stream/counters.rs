//! The counters of a stream, from which entries get their numbers.

use deadpool_redis::redis::Cmd;

use crate::model::id::EntryId;

/// The counters of a stream, as XSETID sets them.
#[derive(Clone, Copy, Debug)]
pub struct Counters {
    /// The last generated id.
    pub last_id: EntryId,
    /// The number of entries ever added to the stream, and the greatest id ever deleted.
    pub others: Option<(u64, EntryId)>,
}

/// Appends the arguments that XSETID takes after the key.
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
