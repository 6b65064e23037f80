//! Options of a publish.

use std::time::Duration;

use crate::model::id::EntryId;
use crate::model::time::Time;
use crate::redis::{
    AppendConditions, Durability, IdempotencyKey, ReferencePolicy, Store, StoreError, Trim,
    Trimming,
};

/// Options that hold for all entries of a publish.
#[derive(Clone, Debug)]
pub struct PublishOptions {
    /// Condition: the last generated id of the stream equals this one.
    pub if_match: Option<EntryId>,
    /// Condition: nothing was ever appended to the stream.
    pub if_new: bool,
    /// Idempotency key of the whole request.
    pub key: Option<IdempotencyKey>,
    /// Lifetime of idempotency keys.
    pub window: Duration,
    /// Whether to create the stream if it does not exist.
    pub create: bool,
    /// The durability to wait for, and the timeout.
    pub durability: Option<(Durability, Duration)>,
    /// Trimming in the same step.
    pub trim: Option<TrimOptions>,
    /// The trace context to store with each entry.
    pub traceparent: Option<Vec<u8>>,
    /// Whether the caller may manage the stream.
    pub manages: bool,
}

impl PublishOptions {
    /// Returns the conditions and the trimming of an append. Resolves an age to an id by the clock
    /// of Redis.
    ///
    /// # Errors
    /// If Redis is unreachable and the bound is an age.
    pub(super) async fn conditions(
        &self,
        store: &Store,
        atomic: bool,
    ) -> Result<AppendConditions, StoreError> {
        let trimming = match &self.trim {
            Some(trim) => Some(trim.resolve(store).await?),
            None => None,
        };
        Ok(AppendConditions {
            atomic,
            if_match: self.if_match,
            if_new: self.if_new,
            create: self.create,
            trimming,
            key: self.key.clone(),
            window_ms: self.window_ms(),
        })
    }

    pub(super) fn window_ms(&self) -> u64 {
        u64::try_from(self.window.as_millis()).unwrap_or(u64::MAX)
    }
}

/// A trim in the same step as an append.
#[derive(Clone, Copy, Debug)]
pub struct TrimOptions {
    /// The bound.
    pub bound: TrimBound,
    /// Whether to trim exactly, instead of whole nodes.
    pub exact: bool,
    /// Without `exact`: maximum number of entries examined, 0 for no limit.
    pub limit: Option<u64>,
    /// Handling of groups that refer to trimmed entries.
    pub references: ReferencePolicy,
}

/// The bound of a trim.
#[derive(Clone, Copy, Debug)]
pub enum TrimBound {
    /// A length or an id.
    At(Trim),
    /// An age, resolved to an id when the trim runs.
    Age(Duration),
}

impl TrimOptions {
    async fn resolve(self, store: &Store) -> Result<Trimming, StoreError> {
        let trim = match self.bound {
            TrimBound::At(trim) => trim,
            TrimBound::Age(age) => {
                let now = Box::pin(store.now_ms()).await?;
                Trim::MinId(Time::Ago(age).first_id(now))
            }
        };
        Ok(Trimming {
            trim,
            exact: self.exact,
            limit: self.limit,
            references: self.references,
        })
    }
}
