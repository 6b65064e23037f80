//! The clock of Redis, from which entries get their ids, and positions of times in a stream.

use deadpool_redis::redis::Cmd;

use crate::model::history::StreamCounters;
use crate::model::name::StreamName;
use crate::model::position::Position;
use crate::model::time::Time;
use crate::redis::decode::{bytes, tuple};
use crate::redis::{Lane, Store, StoreError};

impl Store {
    /// Returns the time of Redis in Unix milliseconds. Entries get their ids from this clock.
    ///
    /// # Errors
    /// An outage of Redis.
    /// # Cancel safety
    /// Cancel safe: only reads.
    pub async fn now_ms(&self) -> Result<u64, StoreError> {
        let mut command = Cmd::new();
        command.arg("TIME");
        let [seconds, micros] = tuple(self.read(&command).await?)?;
        let number = |value| -> Result<u64, StoreError> {
            let text = String::from_utf8(bytes(value)?).unwrap_or_default();
            text.parse()
                .map_err(|_| StoreError::Unexpected("an invalid time".to_owned()))
        };
        Ok(number(seconds)? * 1000 + number(micros)? / 1000)
    }

    /// Returns the current time in Unix milliseconds if one of `times` is relative, 0 otherwise.
    ///
    /// # Errors
    /// An outage of Redis.
    /// # Cancel safety
    /// Cancel safe: only reads.
    pub async fn now_for(&self, times: impl IntoIterator<Item = Time>) -> Result<u64, StoreError> {
        match times.into_iter().any(|time| matches!(time, Time::Ago(_))) {
            true => self.now_ms().await,
            false => Ok(0),
        }
    }

    /// Returns the position immediately before the first entry at or after `time`, with the
    /// counters of the stream. Returns the end of the stream if there is no such entry yet.
    ///
    /// # Errors
    /// [`StoreError::NotAStream`], or an outage of Redis.
    /// # Cancel safety
    /// Cancel safe: only reads.
    pub async fn before_time(
        &self,
        stream: &StreamName,
        time: Time,
    ) -> Result<(Position, StreamCounters), StoreError> {
        let first = time.first_id(self.now_for([time]).await?);
        let facts = self.facts(&Lane::Shared, stream).await?;
        let position = if !facts.exists || facts.oldest.is_some_and(|oldest| first <= oldest) {
            // No reader was at this position before, so removed entries do not count as lost.
            Position::OLDEST
        } else if first > facts.last_id || facts.oldest.is_none() {
            facts.tail()
        } else {
            first.previous().map_or(Position::OLDEST, Position::from)
        };
        Ok((position, facts))
    }
}
