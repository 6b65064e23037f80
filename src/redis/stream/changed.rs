//! Reads of streams that have changed, many in one round trip.

use deadpool_redis::redis::{Pipeline, Value};

use crate::model::entry::Entry;
use crate::model::name::StreamName;
use crate::model::position::Position;
use crate::redis::conn::exclusive::Handle;
use crate::redis::decode::{entries, map};
use crate::redis::stream::facts::{PositionCheck, add_check, check_length};
use crate::redis::stream::read_budget::heaviest;
use crate::redis::{Store, StoreError};

/// The first new entries of a stream, and a check of the stream right after they were read.
pub type ChangedStream = (Vec<Entry>, PositionCheck);

impl Store {
    /// Reads at most `count` entries after the position of each stream, and checks the stream, in
    /// one round trip. The caller must detect whether entries are missing.
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
            let read = pipeline.cmd("XREAD").arg("COUNT").arg(count);
            read.arg("STREAMS")
                .arg(stream.redis_key())
                .arg(at.id.to_string());
            add_check(&mut pipeline, stream, *at);
        }
        let mut replies = on.replies(&pipeline).await?.into_iter();
        let mut of_stream = |(stream, at): &(StreamName, Position)| {
            let commands = 1 + check_length(*at);
            let replies: Vec<_> = replies.by_ref().take(commands).collect();
            let mut replies = replies
                .into_iter()
                .collect::<Result<Vec<_>, _>>()?
                .into_iter();
            let read = match replies.next() {
                None | Some(Value::Nil) => Vec::new(),
                Some(read) => match map(read)?.pop() {
                    Some((_, read)) => entries(read)?,
                    None => Vec::new(),
                },
            };
            self.large.saw(stream.redis_key(), heaviest(&read));
            Ok((read, self.decode_check(stream, *at, &mut replies)?))
        };
        Ok(streams.iter().map(&mut of_stream).collect())
    }
}
