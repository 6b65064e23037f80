//! Conversion of sent entries into entries to append, and appends of each entry on its own.

use crate::http::entries::append::conditions::{Producer, key};
use crate::http::entries::append::errors::{Base, entry_error, publish_error, undelayed};
use crate::http::error::{ApiError, ErrorCode};
use crate::http::extract::id;
use crate::model::id::{EntryId, NewId};
use crate::model::sent::SentEntry;
use crate::redis::{AppendOutcome, NewEntry};
use crate::service::publish::Publisher;

/// The parts of a request that complete its entries.
pub(in crate::http) struct EntryPlan {
    /// The requested id of a single entry.
    pub(in crate::http) id: Option<NewId>,
    /// The producer of idempotency keys.
    pub(in crate::http) producer: Producer,
}

impl EntryPlan {
    /// Returns the entries to append.
    ///
    /// # Errors
    /// 400 for an invalid id or key, or an id in both the query and the body.
    pub(in crate::http) fn entries(
        &self,
        sent: Vec<SentEntry>,
        base: Base,
    ) -> Result<Vec<NewEntry>, ApiError> {
        let entry = |(index, sent)| self.entry(sent, base, index);
        sent.into_iter().enumerate().map(entry).collect()
    }

    /// Returns the entries to append after a delay.
    ///
    /// # Errors
    /// 422 for an entry with an id or a key.
    pub(in crate::http) fn delayed_entries(
        &self,
        sent: Vec<SentEntry>,
        base: Base,
    ) -> Result<Vec<NewEntry>, ApiError> {
        for (index, entry) in sent.iter().enumerate() {
            let own = [("id", entry.id.is_some()), ("key", entry.key.is_some())];
            if let Some((name, _)) = own.iter().find(|(_, given)| *given) {
                let detail = format!("`{name}` cannot be combined with `delay`");
                return Err(undelayed(&format!("{}/{name}", base(index)), detail));
            }
        }
        self.entries(sent, base)
    }

    /// Appends each valid entry separately. Invalid entries keep their errors.
    ///
    /// # Errors
    /// An error that affects all entries. It says whether any may have been appended.
    pub(in crate::http) async fn append_each(
        &self,
        publisher: &mut Publisher,
        sent: Vec<Result<SentEntry, ApiError>>,
        base: Base,
    ) -> Result<Vec<Result<AppendOutcome, ApiError>>, ApiError> {
        let mut entries = Vec::with_capacity(sent.len());
        let mut invalid = Vec::with_capacity(sent.len());
        for (index, sent) in sent.into_iter().enumerate() {
            let entry = sent.and_then(|sent| self.entry(sent, base, index));
            invalid.push(entry.map(|entry| entries.push(entry)).err());
        }
        let appended = publisher.append_each(entries).await;
        let mut appended = appended
            .map_err(|error| publish_error(error, base))?
            .into_iter();
        let result = |(index, invalid): (usize, Option<ApiError>)| match invalid {
            Some(error) => Err(error),
            None => match appended.next() {
                Some(outcome) => outcome.map_err(|error| entry_error(error, &base(index))),
                None => Err(ApiError::new(
                    ErrorCode::Internal,
                    "the append returned no result for an entry",
                )),
            },
        };
        Ok(invalid.into_iter().enumerate().map(result).collect())
    }

    fn entry(&self, sent: SentEntry, base: Base, index: usize) -> Result<NewEntry, ApiError> {
        let id = match (self.id, &sent.id) {
            (Some(_), Some(_)) => {
                let detail = "`id` must be given only once, in the query or in the body";
                return Err(ApiError::invalid(detail).at("/id", "also given in the query"));
            }
            (Some(id), None) => id,
            (None, Some(text)) => new_id(&format!("{}/id", base(index)), text)?,
            (None, None) => NewId::Auto,
        };
        let key = match &sent.key {
            Some(text) => {
                let pointer = format!("{}/key", base(index));
                Some(key(&pointer, &self.producer, text)?)
            }
            None => None,
        };
        Ok(NewEntry {
            id,
            fields: sent.fields,
            key,
        })
    }
}

/// Parses the requested id of an entry.
///
/// # Errors
/// 400 `invalid-id`.
pub(in crate::http) fn new_id(pointer: &str, text: &str) -> Result<NewId, ApiError> {
    let wanted = id(pointer, text, str::parse::<NewId>)?;
    if wanted == NewId::Exact(EntryId::MIN) {
        let error = ApiError::new(ErrorCode::InvalidId, "0-0 is not a valid entry id");
        return Err(error.at(pointer, "must be greater than 0-0"));
    }
    Ok(wanted)
}
