//! Execution of appends: from the entries of a request to entries in the stream.

use std::time::Duration;

use crate::http::entries::append::conditions::key;
use crate::http::entries::append::entry_bounds;
use crate::http::entries::append::errors::{Base, refused, refused_at, stopped, too_wide};
use crate::http::entries::append::plan::{Plan, new_id, undelayed};
use crate::http::error::{ApiError, ErrorCode};
use crate::http::state::AppState;
use crate::model::id::{EntryId, NewId};
use crate::model::name::StreamName;
use crate::model::sent::{MAX_BATCH, SentEntry};
use crate::redis::{
    Append, AppendOutcome, AppendRejection, Appended, DurableConnection, Lane, MAX_FIELDS,
    NewEntry, Reached, Scheduled,
};

/// The field for a stored `traceparent`.
const TRACEPARENT: &[u8] = b"traceparent";

/// The result of an append that stores all of its entries or none.
pub(in crate::http) struct Done {
    pub(in crate::http) placed: Vec<AppendOutcome>,
    /// Whether all entries were appended earlier under the same `Idempotency-Key`.
    pub(in crate::http) replayed: bool,
}

impl Done {
    /// Returns the last entry.
    pub(in crate::http) fn last(&self) -> AppendOutcome {
        let nothing = AppendOutcome {
            id: EntryId::MIN,
            replayed: true,
        };
        self.placed.last().copied().unwrap_or(nothing)
    }
}

/// The state of one append request, which may append several times.
pub(in crate::http) struct Appender {
    state: AppState,
    stream: StreamName,
    plan: Plan,
    /// With requested durability, the connection for all commands, and the timeout.
    durable: Option<(DurableConnection, Duration)>,
    /// Whether every entry so far had a key or the request has one.
    keyed: bool,
}

impl Appender {
    /// Prepares an append and, with requested durability, its connection.
    ///
    /// # Errors
    /// If the requested durability is not possible. Nothing was written.
    pub(in crate::http) async fn new(
        state: AppState,
        stream: StreamName,
        plan: Plan,
    ) -> Result<Self, ApiError> {
        let durable = match plan.durability {
            Some((wanted, timeout)) => {
                let durable = Box::pin(state.store.durable(wanted)).await;
                let durable = durable.map_err(ApiError::of_read)?;
                Some((durable, timeout))
            }
            None => None,
        };
        Ok(Self {
            state,
            stream,
            plan,
            durable,
            keyed: true,
        })
    }

    /// Appends all of the entries or none.
    ///
    /// # Errors
    /// The reason why nothing was appended.
    pub(in crate::http) async fn all(
        &mut self,
        sent: Vec<SentEntry>,
        base: Base,
    ) -> Result<Done, ApiError> {
        Self::check_count(sent.len())?;
        let whole = self.plan.conditions.key.is_some();
        self.keyed &= whole || sent.iter().all(|entry| entry.key.is_some());
        let entries = sent
            .into_iter()
            .enumerate()
            .map(|(index, entry)| self.entry(entry, &base(index)))
            .collect::<Result<_, _>>()?;
        let append = self.append(entries, true).await?;
        if let Some(index) = append.too_wide() {
            return Err(too_wide(&base(index)));
        }
        match self
            .state
            .store
            .append(&self.lane(), &self.stream, &append)
            .await?
        {
            Appended::Each(each) => {
                let placed: Vec<AppendOutcome> = each.iter().flatten().copied().collect();
                if count_new(&placed) > 0 {
                    self.count(&placed).await;
                }
                match each.iter().find_map(|result| result.err()) {
                    None => Ok(Done {
                        placed,
                        replayed: false,
                    }),
                    Some(refusal) if placed.is_empty() => Err(refused(refusal, "")),
                    Some(_) => Err(stopped(each.len(), &placed)),
                }
            }
            Appended::Replayed(ids) => {
                let placed = ids
                    .into_iter()
                    .map(|id| AppendOutcome { id, replayed: true })
                    .collect();
                Ok(Done {
                    placed,
                    replayed: true,
                })
            }
            Appended::Refused(index, refusal) => {
                let index = index.map(base);
                Err(match (index, refusal) {
                    (None, AppendRejection::KeyReused) => refused_at(refusal, "Idempotency-Key"),
                    (index, refusal) => refused(refusal, &index.unwrap_or_default()),
                })
            }
        }
    }

    /// Stores all of the entries, to be appended together after `delay`.
    ///
    /// # Errors
    /// The reason why nothing was stored.
    pub(in crate::http) async fn later(
        &self,
        sent: Vec<SentEntry>,
        base: Base,
        delay: Duration,
    ) -> Result<Scheduled, ApiError> {
        Self::check_count(sent.len())?;
        let mut entries = Vec::with_capacity(sent.len());
        for (index, entry) in sent.into_iter().enumerate() {
            let base = base(index);
            let own = [("id", entry.id.is_some()), ("key", entry.key.is_some())];
            if let Some((name, _)) = own.iter().find(|(_, given)| *given) {
                let detail = format!("`{name}` cannot be combined with `delay`");
                return Err(undelayed(&format!("{base}/{name}"), detail));
            }
            let entry = self.entry(entry, &base)?;
            if entry.fields.len() > MAX_FIELDS {
                return Err(too_wide(&base));
            }
            entries.push(entry);
        }
        let (state, settings) = (&self.state, &self.state.settings);
        let (most, bytes) = (settings.max_scheduled, settings.max_scheduled_bytes);
        let kept = state
            .store
            .schedule(&self.stream, &entries, delay, most, bytes)
            .await?;
        let kept = kept.ok_or_else(|| {
            state.metrics.refuse("scheduled");
            let detail = format!(
                "a stream may have at most {most} scheduled appends of {bytes} bytes in total: retry later"
            );
            ApiError::new(ErrorCode::Overloaded, detail)
        })?;
        state.jobs.scheduler.wake();
        Ok(kept)
    }

    /// Appends each of the entries separately, in their order.
    ///
    /// # Errors
    /// An error that affects all entries. It says whether any may have been appended.
    pub(in crate::http) async fn each(
        &mut self,
        sent: Vec<Result<SentEntry, ApiError>>,
        base: Base,
    ) -> Result<Vec<Result<AppendOutcome, ApiError>>, ApiError> {
        Self::check_count(sent.len())?;
        self.keyed &= sent.iter().flatten().all(|entry| entry.key.is_some());
        let read = |(index, sent): (usize, Result<SentEntry, ApiError>)| {
            sent.and_then(|entry| self.entry(entry, &base(index)))
        };
        let mut results: Vec<Result<NewEntry, ApiError>> =
            sent.into_iter().enumerate().map(read).collect();
        let taken = |results: &mut Vec<Result<NewEntry, ApiError>>| -> Vec<NewEntry> {
            let placeholder = || NewEntry {
                id: NewId::Auto,
                fields: Vec::new(),
                key: None,
            };
            let take = |entry: &mut NewEntry| std::mem::replace(entry, placeholder());
            results
                .iter_mut()
                .filter_map(|entry| entry.as_mut().ok().map(take))
                .collect()
        };
        let mut append = self.append(taken(&mut results), false).await?;
        if append.too_wide().is_some() {
            // Scripts cannot append entries with too many fields. Only those entries are refused.
            let mut entries = std::mem::take(&mut append.entries).into_iter();
            for (index, result) in results.iter_mut().enumerate() {
                if result.is_ok()
                    && let Some(entry) = entries.next()
                {
                    let wide = entry.fields.len() > MAX_FIELDS;
                    *result = if wide {
                        Err(too_wide(&base(index)))
                    } else {
                        Ok(entry)
                    };
                }
            }
            append.entries = taken(&mut results);
        }
        let mut placed = match append.entries.is_empty() {
            true => Vec::new(),
            false => match self
                .state
                .store
                .append(&self.lane(), &self.stream, &append)
                .await?
            {
                Appended::Each(each) => each,
                Appended::Replayed(ids) => ids
                    .into_iter()
                    .map(|id| Ok(AppendOutcome { id, replayed: true }))
                    .collect(),
                Appended::Refused(_, refusal) => return Err(refused(refusal, "")),
            },
        }
        .into_iter();
        let result = |(index, entry): (usize, Result<NewEntry, ApiError>)| {
            entry?;
            let lost = || {
                ApiError::new(
                    ErrorCode::Internal,
                    "the store returned no result for an entry",
                )
            };
            placed
                .next()
                .ok_or_else(lost)?
                .map_err(|refusal| refused(refusal, &base(index)))
        };
        let results: Vec<Result<AppendOutcome, ApiError>> =
            results.into_iter().enumerate().map(result).collect();
        self.count(results.iter().flatten()).await;
        Ok(results)
    }

    /// Waits until the entries appended over this connection have the requested durability.
    ///
    /// # Errors
    /// 504 `durability-not-reached`, with the last id and the durability reached.
    pub(in crate::http) async fn reach(
        self,
        placed: impl IntoIterator<Item = AppendOutcome>,
    ) -> Result<Option<Reached>, ApiError> {
        let Some((durable, timeout)) = self.durable else {
            return Ok(None);
        };
        let (mut last, mut replayed) = (None, true);
        for placed in placed {
            last = Some(placed.id);
            replayed &= placed.replayed;
        }
        let Some(last) = last else { return Ok(None) };
        let window = u64::try_from(self.plan.window.as_millis()).unwrap_or(u64::MAX);
        let (again, id) = (replayed.then_some(window), last.to_string());
        let reached = Box::pin(
            self.state
                .store
                .reach(durable, &self.stream, again, timeout),
        )
        .await;
        match reached.map_err(|error| ApiError::from(error).with("id", id.clone()))? {
            reached if reached.enough => Ok(Some(reached)),
            reached => {
                let detail = match self.keyed {
                    true => {
                        "the entries were appended but did not reach the requested durability in \
                         time; repeat the request with the same keys to wait again"
                    }
                    false => {
                        "the entries were appended but did not reach the requested durability in \
                         time; repeating the request without keys would append them again"
                    }
                };
                let mut error = ApiError::new(ErrorCode::DurabilityNotReached, detail)
                    .with("id", id)
                    .with("replicas", reached.replicas);
                if let Some(fsync) = reached.fsync {
                    error = error.with("fsync", fsync);
                }
                Err(ApiError {
                    side_effects_unknown: true,
                    ..error
                })
            }
        }
    }

    fn lane(&self) -> Lane {
        self.durable
            .as_ref()
            .map_or(Lane::Shared, |(durable, _)| durable.lane())
    }

    async fn count<'p>(&self, placed: impl IntoIterator<Item = &'p AppendOutcome>) {
        let new = count_new(placed);
        self.state.metrics.published.inc_by(new);
        self.state.hub.appended(&self.stream);
        self.state
            .jobs
            .retention
            .after_append(&self.state.store, &self.stream, new)
            .await;
    }

    fn check_count(count: usize) -> Result<(), ApiError> {
        if count > MAX_BATCH {
            let detail = format!("a batch must have at most {MAX_BATCH} entries");
            let error = ApiError::new(ErrorCode::TooLarge, detail);
            return Err(error.with("max_entries", MAX_BATCH as u64));
        }
        Ok(())
    }

    async fn append(&self, entries: Vec<NewEntry>, atomic: bool) -> Result<Append, ApiError> {
        let (plan, conditions) = (&self.plan, &self.plan.conditions);
        Ok(Append {
            entries,
            atomic,
            if_match: conditions.if_match,
            if_new: conditions.if_new,
            create: plan.create,
            trimming: plan.trimming(&self.state).await?,
            key: conditions.key.clone(),
            window_ms: u64::try_from(plan.window.as_millis()).unwrap_or(u64::MAX),
        })
    }

    fn entry(&self, sent: SentEntry, base: &str) -> Result<NewEntry, ApiError> {
        let wanted = match (self.plan.id, &sent.id) {
            (Some(_), Some(_)) => {
                let detail = "`id` must be given only once, in the query or in the body";
                return Err(ApiError::invalid(detail).at("/id", "also given in the query"));
            }
            (Some(id), None) => id,
            (None, Some(text)) => new_id(&format!("{base}/id"), text)?,
            (None, None) => NewId::Auto,
        };
        if wanted.is_of_the_end() && !self.plan.manages {
            let detail =
                "an id of the last possible millisecond requires the right to manage the stream";
            return Err(
                ApiError::new(ErrorCode::Forbidden, detail).at(format!("{base}/id"), detail)
            );
        }
        let mut fields = sent.fields;
        if let Some(parent) = &self.plan.traceparent
            && !fields.iter().any(|(name, _)| name == TRACEPARENT)
        {
            fields.push((TRACEPARENT.to_vec(), parent.clone()));
        }
        entry_bounds::check(&self.state, &fields, base)?;
        let producer = &self.plan.conditions.producer;
        let own = sent
            .key
            .as_deref()
            .map(|text| key(&format!("{base}/key"), producer, text));
        Ok(NewEntry {
            id: wanted,
            fields,
            key: own.transpose()?,
        })
    }
}

/// Counts the entries that this request appended, without replays.
pub(in crate::http) fn count_new<'a>(placed: impl IntoIterator<Item = &'a AppendOutcome>) -> u64 {
    placed.into_iter().filter(|placed| !placed.replayed).count() as u64
}
