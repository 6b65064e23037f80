//! The clock of Redis, by which entries get their ids, and times as places in a stream.

use deadpool_redis::redis::Cmd;

use crate::model::history::Facts;
use crate::model::name::StreamName;
use crate::model::position::Position;
use crate::model::time::Time;
use crate::redis::decode::{bytes, tuple};
use crate::redis::{Lane, Store, StoreError};

impl Store {
    /// The clock of Redis, in Unix milliseconds: by it entries get their ids.
    ///
    /// # Errors
    /// That Redis is away.
    /// # Cancel safety
    /// Reads only.
    pub async fn now_ms(&self) -> Result<u64, StoreError> {
        let mut command = Cmd::new();
        command.arg("TIME");
        let [seconds, micros] = tuple(self.read(&command).await?)?;
        let number = |value| -> Result<u64, StoreError> {
            let text = String::from_utf8(bytes(value)?).unwrap_or_default();
            text.parse()
                .map_err(|_| StoreError::Unexpected("a time".to_owned()))
        };
        Ok(number(seconds)? * 1000 + number(micros)? / 1000)
    }

    /// What time it is when one of `times` is told by how long ago it was; 0 when none needs that.
    ///
    /// # Errors
    /// That Redis is away.
    /// # Cancel safety
    /// Reads only.
    pub async fn now_for(&self, times: impl IntoIterator<Item = Time>) -> Result<u64, StoreError> {
        match times.into_iter().any(|time| matches!(time, Time::Ago(_))) {
            true => self.now_ms().await,
            false => Ok(0),
        }
    }

    /// The position right before the first entry of `time` or after it, with the counters of the
    /// stream; its end if there is none yet.
    ///
    /// # Errors
    /// [`StoreError::NotAStream`], or that Redis is away.
    /// # Cancel safety
    /// Reads only.
    pub async fn before_time(
        &self,
        stream: &StreamName,
        time: Time,
    ) -> Result<(Position, Facts), StoreError> {
        let first = time.first_id(self.now_for([time]).await?);
        let facts = self.facts(&Lane::Shared, stream).await?;
        let position = if !facts.exists || facts.oldest.is_some_and(|oldest| first <= oldest) {
            // Nobody stood there before, so whatever is gone is not lost to anybody.
            Position::OLDEST
        } else if first > facts.last_id || facts.oldest.is_none() {
            facts.tail()
        } else {
            first.previous().map_or(Position::OLDEST, Position::from)
        };
        Ok((position, facts))
    }
}
