//! Publishing: appends entries to a stream, now or after a delay, and waits for their durability.

mod error;
mod options;

use std::sync::Arc;
use std::time::Duration;

pub use crate::service::publish::error::{EntryError, PublishError};
pub use crate::service::publish::options::{PublishOptions, TrimBound, TrimOptions};

use crate::model::id::EntryId;
use crate::model::name::StreamName;
use crate::redis::{
    Append, AppendOutcome, Appended, DurableConnection, Lane, MAX_FIELDS, NewEntry, Reached,
    Scheduled,
};
use crate::service::Services;
use crate::trace::{self, Attribute, ChildSpan, SpanKind};

/// Adds the trace context of a request to the fields of an entry, unless they have one.
pub fn add_traceparent(fields: &mut Vec<(Vec<u8>, Vec<u8>)>, parent: Option<&[u8]>) {
    if let Some(parent) = parent
        && !fields.iter().any(|(name, _)| name == TRACEPARENT)
    {
        fields.push((TRACEPARENT.to_vec(), parent.to_vec()));
    }
}

/// The field for a stored `traceparent`.
pub(in crate::service) const TRACEPARENT: &[u8] = b"traceparent";

/// Entries that are in the stream, appended all or none.
pub struct Published {
    /// The entries in the order of the request; not empty.
    pub entries: Vec<AppendOutcome>,
    /// Whether all entries were appended earlier under the idempotency key of the request.
    pub replayed: bool,
}

impl Published {
    /// Returns the id of the last entry.
    #[must_use]
    pub fn last(&self) -> EntryId {
        self.entries.last().map_or(EntryId::MIN, |entry| entry.id)
    }
}

/// The appends of one request, which may append several times.
pub struct Publisher {
    services: Arc<Services>,
    stream: StreamName,
    options: PublishOptions,
    /// With requested durability, the connection for all commands, and the timeout.
    durable: Option<(DurableConnection, Duration)>,
    /// Whether every entry so far had a key or the request has one.
    keyed: bool,
}

impl Publisher {
    /// Prepares appends and, with requested durability, their connection.
    ///
    /// # Errors
    /// [`PublishError::NotStarted`] if the requested durability is not possible.
    pub async fn new(
        services: Arc<Services>,
        stream: StreamName,
        options: PublishOptions,
    ) -> Result<Self, PublishError> {
        let durable = match options.durability {
            Some((durability, timeout)) => {
                let connection = Box::pin(services.store.durable(&stream, durability)).await;
                Some((connection.map_err(PublishError::NotStarted)?, timeout))
            }
            None => None,
        };
        Ok(Self {
            services,
            stream,
            options,
            durable,
            keyed: true,
        })
    }

    /// Appends all of the entries or none.
    ///
    /// # Errors
    /// The reason why nothing was appended, or [`PublishError::Incomplete`].
    /// # Cancel safety
    /// If dropped, the entries may be appended.
    pub async fn append_all(
        &mut self,
        mut entries: Vec<NewEntry>,
    ) -> Result<Published, PublishError> {
        let total = entries.len();
        self.keyed &= self.options.key.is_some() || entries.iter().all(|entry| entry.key.is_some());
        for (index, entry) in entries.iter_mut().enumerate() {
            self.prepare(entry)
                .map_err(|error| PublishError::Entry { index, error })?;
        }
        let _span = self.span(total);
        let append = self.append(entries, true).await?;
        if let Some(index) = append.first_too_wide() {
            let error = EntryError::TooWideForScript;
            return Err(PublishError::Entry { index, error });
        }
        match self.send(&append).await? {
            Appended::Each(each) => {
                let entries: Vec<AppendOutcome> = each.iter().flatten().copied().collect();
                if count_new(&entries) > 0 {
                    self.record_appended(&entries).await;
                }
                match each.into_iter().find_map(Result::err) {
                    None => Ok(Published {
                        entries,
                        replayed: false,
                    }),
                    Some(rejection) if entries.is_empty() => Err(PublishError::Rejected(rejection)),
                    Some(_) => Err(PublishError::Incomplete {
                        total,
                        appended: entries,
                    }),
                }
            }
            Appended::Replayed(ids) => Ok(Published {
                entries: replayed(ids),
                replayed: true,
            }),
            Appended::Refused(None, rejection) => Err(PublishError::Rejected(rejection)),
            Appended::Refused(Some(index), rejection) => Err(PublishError::Entry {
                index,
                error: EntryError::Rejected(rejection),
            }),
        }
    }

    /// Appends each of the entries separately, in their order, and returns the result of each.
    ///
    /// # Errors
    /// An error that affects all entries. It says whether any may have been appended.
    /// # Cancel safety
    /// If dropped, any of the entries may be appended.
    pub async fn append_each(
        &mut self,
        entries: Vec<NewEntry>,
    ) -> Result<Vec<Result<AppendOutcome, EntryError>>, PublishError> {
        self.keyed &= entries.iter().all(|entry| entry.key.is_some());
        let mut results: Vec<Result<AppendOutcome, EntryError>> = Vec::new();
        let (mut accepted, mut places) = (Vec::with_capacity(entries.len()), Vec::new());
        for (place, mut entry) in entries.into_iter().enumerate() {
            // Replaced by the outcome of each accepted entry.
            let pending = AppendOutcome {
                id: EntryId::MIN,
                replayed: false,
            };
            results.push(self.prepare(&mut entry).map(|()| pending));
            if results[place].is_ok() {
                accepted.push(entry);
                places.push(place);
            }
        }
        let _span = self.span(accepted.len());
        let mut append = self.append(accepted, false).await?;
        for index in append.remove_too_wide().into_iter().rev() {
            results[places.remove(index)] = Err(EntryError::TooWideForScript);
        }
        if places.is_empty() {
            return Ok(results);
        }
        let outcomes = match self.send(&append).await? {
            Appended::Each(each) => each,
            Appended::Replayed(ids) => replayed(ids).into_iter().map(Ok).collect(),
            Appended::Refused(_, rejection) => return Err(PublishError::Rejected(rejection)),
        };
        for (place, outcome) in places.into_iter().zip(outcomes) {
            results[place] = outcome.map_err(EntryError::Rejected);
        }
        self.record_appended(results.iter().flatten()).await;
        Ok(results)
    }

    /// Stores all of the entries, to be appended together after `delay`.
    ///
    /// # Errors
    /// The reason why nothing was stored.
    /// # Cancel safety
    /// If dropped, the entries may be stored.
    pub async fn schedule(
        &self,
        mut entries: Vec<NewEntry>,
        delay: Duration,
    ) -> Result<Scheduled, PublishError> {
        for (index, entry) in entries.iter_mut().enumerate() {
            let mut checked = self.prepare(entry);
            if checked.is_ok() && entry.fields.len() > MAX_FIELDS {
                checked = Err(EntryError::TooWideForScript);
            }
            checked.map_err(|error| PublishError::Entry { index, error })?;
        }
        let Services {
            store,
            jobs,
            metrics,
            limits,
            ..
        } = &*self.services;
        let (appends, bytes) = (limits.max_scheduled, limits.max_scheduled_bytes);
        let scheduled = store
            .schedule(&self.stream, &entries, delay, appends, bytes)
            .await
            .map_err(PublishError::Store)?;
        let Some(scheduled) = scheduled else {
            metrics.refuse("scheduled");
            return Err(PublishError::ScheduleFull { appends, bytes });
        };
        jobs.scheduler.wake();
        Ok(scheduled)
    }

    /// Waits until the entries appended so far have the requested durability. Returns `None` if
    /// none was requested or nothing was appended.
    ///
    /// # Errors
    /// [`PublishError::NotDurable`] and [`PublishError::DurabilityUnknown`].
    /// # Cancel safety
    /// Safe.
    pub async fn wait_durable(
        self,
        entries: impl IntoIterator<Item = AppendOutcome>,
    ) -> Result<Option<Reached>, PublishError> {
        let Some((connection, timeout)) = self.durable else {
            return Ok(None);
        };
        let (mut last, mut all_replayed) = (None, true);
        for entry in entries {
            last = Some(entry.id);
            all_replayed &= entry.replayed;
        }
        let Some(last) = last else { return Ok(None) };
        let replayed_within = all_replayed.then_some(self.options.window_ms());
        let store = &self.services.store;
        let reached =
            Box::pin(store.reach(connection, &self.stream, replayed_within, timeout)).await;
        match reached {
            Ok(reached) if reached.enough => Ok(Some(reached)),
            Ok(reached) => Err(PublishError::NotDurable {
                last,
                reached,
                keyed: self.keyed,
            }),
            Err(error) => Err(PublishError::DurabilityUnknown { last, error }),
        }
    }

    /// Checks an entry, and adds the trace context.
    fn prepare(&self, entry: &mut NewEntry) -> Result<(), EntryError> {
        if entry.id.is_of_the_end() && !self.options.manages {
            return Err(EntryError::LastMillisecond);
        }
        add_traceparent(&mut entry.fields, self.options.traceparent.as_deref());
        let limits = &self.services.limits;
        let (max, max_name) = (limits.max_fields, limits.max_field_name);
        // Redis runs commands on one thread. A command with many arguments keeps this thread busy,
        // and all writers wait. The size of values is bounded by the size of the body.
        let (limit, error) = if entry.fields.len() > max {
            ("fields", EntryError::TooManyFields { max })
        } else if entry.fields.iter().any(|(name, _)| name.len() > max_name) {
            ("field_name", EntryError::FieldNameTooLong { max: max_name })
        } else {
            return Ok(());
        };
        self.services.metrics.refuse(limit);
        Err(error)
    }

    /// Begins the span of an append, if the request is traced.
    fn span(&self, entries: usize) -> Option<ChildSpan> {
        trace::child(SpanKind::Producer, || {
            let stream = self.stream.public_name().into_owned();
            let entries = i64::try_from(entries).unwrap_or(i64::MAX);
            let name = format!("send {stream}");
            let attributes = vec![
                ("messaging.system", Attribute::Text("redis".to_owned())),
                (
                    "messaging.operation.type",
                    Attribute::Text("send".to_owned()),
                ),
                ("messaging.destination.name", Attribute::Text(stream)),
                ("messaging.batch.message_count", Attribute::Number(entries)),
            ];
            (name, attributes)
        })
    }

    async fn append(&self, entries: Vec<NewEntry>, atomic: bool) -> Result<Append, PublishError> {
        let conditions = self.options.conditions(&self.services.store, atomic).await;
        Ok(Append::new(
            entries,
            conditions.map_err(PublishError::NotStarted)?,
        ))
    }

    async fn send(&mut self, append: &Append) -> Result<Appended, PublishError> {
        let (store, stream) = (&self.services.store, &self.stream);
        let sent = match &mut self.durable {
            // Boxed, because most appends are not durable.
            Some((durable, _)) => Box::pin(store.append_durably(durable, stream, append)).await,
            None => store.append(&Lane::Shared, stream, append).await,
        };
        sent.map_err(PublishError::Store)
    }

    /// Counts appended entries, and starts what follows an append.
    async fn record_appended<'e>(&self, entries: impl IntoIterator<Item = &'e AppendOutcome>) {
        let Services {
            store,
            hub,
            jobs,
            metrics,
            ..
        } = &*self.services;
        let new = count_new(entries);
        metrics.published.inc_by(new);
        hub.appended(&self.stream);
        jobs.retention.after_append(store, &self.stream, new).await;
    }
}

/// Counts the entries that were appended now, without replays.
pub fn count_new<'e>(entries: impl IntoIterator<Item = &'e AppendOutcome>) -> u64 {
    entries.into_iter().filter(|entry| !entry.replayed).count() as u64
}

fn replayed(ids: Vec<EntryId>) -> Vec<AppendOutcome> {
    ids.into_iter()
        .map(|id| AppendOutcome { id, replayed: true })
        .collect()
}
