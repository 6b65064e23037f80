//! Appends of one or several entries, optionally conditional and idempotent.
//!
//! There are three implementations. A single entry is an XADD. Several entries with ids from Redis
//! are XADDs in a transaction; an error that rejects one of them rejects all. Everything else runs
//! in a script (`append_script`), which checks everything before it writes anything.

use std::fmt::Write as _;

use deadpool_redis::redis::{Cmd, Pipeline, RedisError, Value};
use sha2::{Digest, Sha256};

use crate::model::entry::Fields;
use crate::model::id::{EntryId, NewId};
use crate::model::name::StreamName;
use crate::redis::decode::id;
use crate::redis::stream::trim::Trimming;
use crate::redis::{Lane, Store, StoreError};

/// Maximum number of fields of an entry appended by the script. Lua passes arguments on a stack,
/// which limits their number.
pub const MAX_FIELDS: usize = 3000;

/// Entries to append.
#[derive(Clone, Debug)]
pub struct Append {
    pub(in crate::redis) entries: Vec<NewEntry>,
    pub(in crate::redis) conditions: AppendConditions,
    /// Whether the script appends the entries, instead of one XADD or several in a transaction.
    scripted: bool,
}

/// Conditions and options of an append.
#[derive(Clone, Debug)]
pub struct AppendConditions {
    /// Whether to append all entries or none; otherwise each entry succeeds or fails on its own.
    pub atomic: bool,
    /// Condition: the last generated id of the stream equals this one.
    pub if_match: Option<EntryId>,
    /// Condition: nothing was ever appended to the stream.
    pub if_new: bool,
    /// Whether to create the stream if it does not exist.
    pub create: bool,
    /// Trimming in the same step.
    pub trimming: Option<Trimming>,
    /// Idempotency key of the whole request.
    pub key: Option<IdempotencyKey>,
    /// Lifetime of idempotency keys, in milliseconds.
    pub window_ms: u64,
}

/// An entry to append.
#[derive(Clone, Debug)]
pub struct NewEntry {
    /// Requested id.
    pub id: NewId,
    /// Fields in the order of storage; not empty.
    pub fields: Fields,
    /// Idempotency key of this entry.
    pub key: Option<IdempotencyKey>,
}

/// An idempotency key in its stored form: a digest of the key, the principal and the producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// Creates the stored form of a key of one producer of a principal.
    #[must_use]
    pub fn new(principal: &str, producer: &str, key: &str) -> Self {
        let mut digest = Sha256::new();
        add(&mut digest, principal.as_bytes());
        add(&mut digest, producer.as_bytes());
        add(&mut digest, key.as_bytes());
        Self(hex(digest))
    }

    pub(in crate::redis) fn as_str(&self) -> &str {
        &self.0
    }
}

/// The outcome of an append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Appended {
    /// The outcome of each entry. Without [`AppendConditions::atomic`], any entry may have been rejected.
    /// With it, only the last entries may have been, if the stream ran out of ids in the middle.
    Each(Vec<Result<AppendOutcome, AppendRejection>>),
    /// The whole request was appended before, with these ids.
    Replayed(Vec<EntryId>),
    /// Nothing was appended, because of the entry with this index, or of the whole request if there
    /// is no index.
    Refused(Option<usize>, AppendRejection),
}

/// An appended entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendOutcome {
    /// Id of the entry.
    pub id: EntryId,
    /// Whether the entry was already appended before, with the same idempotency key.
    pub replayed: bool,
}

/// The reason why an entry or a request was not appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendRejection {
    /// The idempotency key was used before for different content.
    KeyReused,
    /// The condition failed; contains the last generated id of the stream.
    Stale(EntryId),
    /// The id is not greater than the one before it.
    NotMonotonic,
    /// An explicit id follows an id that Redis generates.
    AfterChosen,
    /// The stream does not exist, and the request does not create it.
    NoStream,
    /// The stream has used the greatest possible id.
    Exhausted,
}

impl Append {
    /// Decides how to append `entries`: by one XADD, by a transaction, or by a script.
    #[must_use]
    pub fn new(entries: Vec<NewEntry>, conditions: AppendConditions) -> Self {
        let given_ids = entries.len() > 1 && entries.iter().any(|entry| entry.id != NewId::Auto);
        let scripted = given_ids
            || conditions.key.is_some()
            || conditions.if_match.is_some()
            || conditions.if_new
            || entries.iter().any(|entry| entry.key.is_some())
            || conditions
                .trimming
                .is_some_and(|trimming| !trimming.is_native());
        Self {
            entries,
            conditions,
            scripted,
        }
    }

    /// Returns the index of the first entry with too many fields for the script, if it is needed.
    #[must_use]
    pub fn first_too_wide(&self) -> Option<usize> {
        self.entries
            .iter()
            .position(is_too_wide)
            .filter(|_| self.scripted)
    }

    /// Removes the entries with too many fields for the script, if it is needed. Returns their
    /// indexes in ascending order.
    pub fn remove_too_wide(&mut self) -> Vec<usize> {
        if self.first_too_wide().is_none() {
            return Vec::new();
        }
        let entries = std::mem::take(&mut self.entries).into_iter().enumerate();
        let (wide, fitting): (Vec<_>, Vec<_>) = entries.partition(|(_, entry)| is_too_wide(entry));
        self.entries = fitting.into_iter().map(|(_, entry)| entry).collect();
        wide.into_iter().map(|(index, _)| index).collect()
    }

    /// Returns the XADD of one entry; the XADD of the last entry includes the trimming.
    fn command(&self, stream: &StreamName, index: usize) -> Cmd {
        let entry = &self.entries[index];
        let bytes: usize = entry
            .fields
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        let words = 10 + 2 * entry.fields.len();
        let mut command = Cmd::with_capacity(words, 64 + stream.redis_key().len() + bytes);
        command.arg("XADD").arg(stream.redis_key());
        if !self.conditions.create {
            command.arg("NOMKSTREAM");
        }
        if let Some(trimming) = self
            .conditions
            .trimming
            .filter(|_| index + 1 == self.entries.len())
        {
            trimming.write(&mut command);
        }
        match entry.id {
            NewId::Auto => command.arg("*"),
            id => command.arg(id.to_string()),
        };
        for (name, value) in &entry.fields {
            command.arg(name.as_slice()).arg(value.as_slice());
        }
        command
    }
}

impl Store {
    /// Appends entries, or returns why they were not appended.
    ///
    /// # Errors
    /// [`StoreError::IdNotMonotonic`], [`StoreError::IdsExhausted`] and [`StoreError::IdZero`] for
    /// a single entry; [`StoreError::NotAStream`], [`StoreError::OutOfMemory`], or an outage of
    /// Redis. After [`StoreError::Broken`] and [`StoreError::Timeout`], either all entries or none
    /// may have been appended.
    /// # Cancel safety
    /// If dropped after the command was sent, the entries may still be appended.
    pub async fn append(
        &self,
        lane: &Lane,
        stream: &StreamName,
        append: &Append,
    ) -> Result<Appended, StoreError> {
        if append.scripted {
            return Box::pin(self.append_by_script(lane, stream, append)).await;
        }
        let given = if append.entries.len() == 1 {
            vec![self.write_on(lane, &append.command(stream, 0)).await?]
        } else {
            let mut transaction = Pipeline::with_capacity(append.entries.len());
            // Keeps each reply: a single error would hide which entries were appended before it.
            transaction.atomic().ignore_errors();
            for index in 0..append.entries.len() {
                transaction.add_command(append.command(stream, index));
            }
            Box::pin(self.write_pipeline_on(lane, &transaction)).await?
        };
        if given.contains(&Value::Nil) {
            return Ok(Appended::Refused(None, AppendRejection::NoStream));
        }
        given
            .into_iter()
            .map(placed)
            .collect::<Result<_, _>>()
            .map(Appended::Each)
    }
}

fn is_too_wide(entry: &NewEntry) -> bool {
    entry.fields.len() > MAX_FIELDS
}

/// Decodes the reply of an XADD.
fn placed(given: Value) -> Result<Result<AppendOutcome, AppendRejection>, StoreError> {
    let id = match given {
        Value::ServerError(error) => Err(StoreError::from(RedisError::from(error))),
        given => id(given),
    };
    match id {
        Ok(id) => Ok(Ok(AppendOutcome {
            id,
            replayed: false,
        })),
        Err(StoreError::IdsExhausted) => Ok(Err(AppendRejection::Exhausted)),
        Err(error) => Err(error),
    }
}

fn add(digest: &mut Sha256, bytes: &[u8]) {
    digest.update((bytes.len() as u64).to_le_bytes());
    digest.update(bytes);
}

/// Returns a digest that is equal exactly for the same fields in the same order.
pub(in crate::redis) fn fingerprint(fields: &Fields) -> String {
    let mut digest = Sha256::new();
    for (name, value) in fields {
        add(&mut digest, name);
        add(&mut digest, value);
    }
    hex(digest)
}

pub(in crate::redis) fn hex(digest: Sha256) -> String {
    let mut text = String::with_capacity(64);
    for byte in digest.finalize() {
        // Writing into a `String` cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
