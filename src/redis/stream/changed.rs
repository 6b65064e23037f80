//! Reads of streams that have changed, many in one round trip.

use deadpool_redis::redis::{Pipeline, Value};

use crate::model::entry::Entry;
use crate::model::name::StreamName;
use crate::model::position::Position;
use crate::redis::conn::exclusive::Handle;
use crate::redis::decode::{entries, map};
use crate::redis::stream::facts::{PositionCheck, add_info, entry_at};
use crate::redis::stream::read_budget::heaviest;
use crate::redis::{Store, StoreError};

/// The first new entries of a stream, and a check of the stream right after they were read.
pub type ChangedStream = (Vec<Entry>, PositionCheck);

impl Store {
    /// Reads at most `count` entries after the position of each stream, and checks the stream, in
    /// one round trip. The caller must detect whether entries are missing: the counters are read
    /// after the entries and not in one step with them. A change in between is a change of a key that
    /// was read, so a tracking connection reports it.
    ///
    /// Returns one result per stream, in order. All streams must be on the server of `on`.
    ///
    /// # Errors
    /// An outage of the server.
    /// # Cancel safety
    /// Cancel safe: only reads.
    pub async fn read_changed(
        &self,
        on: &Handle,
        streams: &[(StreamName, Position)],
        count: usize,
    ) -> Result<Vec<Result<ChangedStream, StoreError>>, StoreError> {
        let mut pipeline = Pipeline::new();
        for (stream, at) in streams {
            // XREAD begins with the entry of the position, which costs Redis less than to look the
            // entry up with a command of its own.
            let (from, count) = match entry_at(*at) {
                Some(id) => (id.previous().unwrap_or_default(), count + 1),
                None => (at.id, count),
            };
            let read = pipeline.cmd("XREAD").arg("COUNT").arg(count);
            read.arg("STREAMS")
                .arg(stream.redis_key())
                .arg(from.to_string());
            add_info(&mut pipeline, stream);
        }
        let mut replies = on.replies(&pipeline).await?.into_iter();
        let mut of_stream = |(stream, at): &(StreamName, Position)| {
            let (read, info) = (replies.next(), replies.next());
            let mut read = match read.transpose()? {
                None | Some(Value::Nil) => Vec::new(),
                Some(read) => match map(read)?.pop() {
                    Some((_, read)) => entries(read)?,
                    None => Vec::new(),
                },
            };
            let entry_exists = entry_at(*at).map(|id| {
                let exists = read.first().is_some_and(|first| first.id == id);
                if exists {
                    read.remove(0);
                }
                exists
            });
            self.large.saw(stream.redis_key(), heaviest(&read));
            let facts = self.decode_info(stream, info.transpose()?.unwrap_or(Value::Nil))?;
            let check = PositionCheck {
                facts,
                entry_exists,
            };
            Ok((read, check))
        };
        Ok(streams.iter().map(&mut of_stream).collect())
    }
}
