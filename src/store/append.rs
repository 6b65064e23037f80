//! Appending: one entry or many, under conditions, idempotently.
//!
//! There are three ways in, by what is asked for. One entry is an XADD. Many that Redis gives ids
//! to are XADDs in a transaction: whatever refuses one of them refuses all. Everything else is a
//! script (`append_script`), which looks at everything before it writes anything.

use std::fmt::Write as _;

use deadpool_redis::redis::{Cmd, Pipeline, RedisError, Value};
use sha2::{Digest, Sha256};

use super::decode::id;
use super::trim::Trimming;
use super::{Lane, Store, StoreError};
use crate::model::entry::Fields;
use crate::model::id::{EntryId, NewId};
use crate::model::name::StreamName;

/// The most fields an entry may have that goes through the script: Lua passes arguments on a stack.
pub const MAX_FIELDS: usize = 3000;

/// Entries to append.
#[derive(Clone, Debug)]
pub struct Append {
    /// In order; not empty.
    pub entries: Vec<NewEntry>,
    /// All or nothing; otherwise each entry for itself.
    pub atomic: bool,
    /// Only if this is the id last generated.
    pub if_match: Option<EntryId>,
    /// Only if nothing was ever appended.
    pub if_new: bool,
    /// Make the stream if there is none.
    pub create: bool,
    /// Trimming, in the same step.
    pub trimming: Option<Trimming>,
    /// The idempotency key of the whole.
    pub key: Option<Key>,
    /// How long keys are remembered, in milliseconds.
    pub window_ms: u64,
}

/// An entry to append.
#[derive(Clone, Debug)]
pub struct NewEntry {
    /// Which id it is to have.
    pub id: NewId,
    /// In the order they are to be stored; not empty.
    pub fields: Fields,
    /// Its own idempotency key.
    pub key: Option<Key>,
}

/// An idempotency key, as it is remembered: a digest of the key and of whoever may use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key(String);

impl Key {
    /// The key of one producer of a principal.
    #[must_use]
    pub fn new(principal: &str, producer: &str, key: &str) -> Self {
        let mut digest = Sha256::new();
        add(&mut digest, principal.as_bytes());
        add(&mut digest, producer.as_bytes());
        add(&mut digest, key.as_bytes());
        Self(hex(digest))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// What became of an append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Appended {
    /// What became of each entry. Without [`Append::atomic`] some may have been refused; with it
    /// only the last of them, when the stream ran out of ids in the middle.
    Each(Vec<Result<Placed, Refusal>>),
    /// The whole was appended before, with these ids.
    Replayed(Vec<EntryId>),
    /// Nothing was appended, because of this entry or (without an index) of the whole.
    Refused(Option<usize>, Refusal),
}

/// An entry that has its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The id.
    pub id: EntryId,
    /// It had it already, by its own key.
    pub replayed: bool,
}

/// Why something was not appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The key was used for something else.
    KeyReused,
    /// The condition does not hold; this is the id last generated.
    Stale(EntryId),
    /// The id is not above the one before it.
    NotMonotonic,
    /// The id follows one that Redis is to choose.
    AfterChosen,
    /// There is no stream, and none was to be made.
    NoStream,
    /// The stream has had the greatest id there is.
    Exhausted,
}

impl Append {
    /// Whether it takes the script to do this; if not, it is one XADD or many in a transaction.
    #[must_use]
    pub fn needs_script(&self) -> bool {
        let given_ids =
            self.entries.len() > 1 && self.entries.iter().any(|entry| entry.id != NewId::Auto);
        given_ids
            || self.key.is_some()
            || self.if_match.is_some()
            || self.if_new
            || self.entries.iter().any(|entry| entry.key.is_some())
            || self.trimming.is_some_and(|trimming| !trimming.is_native())
    }

    /// The first entry that has more fields than can be appended this way.
    #[must_use]
    pub fn too_wide(&self) -> Option<usize> {
        let wide = |entry: &NewEntry| entry.fields.len() > MAX_FIELDS;
        self.entries
            .iter()
            .position(wide)
            .filter(|_| self.needs_script())
    }

    /// The XADD of one entry; trimming goes with the last.
    fn command(&self, stream: &StreamName, index: usize) -> Cmd {
        let entry = &self.entries[index];
        let bytes: usize = entry
            .fields
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        let words = 10 + 2 * entry.fields.len();
        let mut command = Cmd::with_capacity(words, 64 + stream.as_str().len() + bytes);
        command.arg("XADD").arg(stream.as_str());
        if !self.create {
            command.arg("NOMKSTREAM");
        }
        if let Some(trimming) = self.trimming.filter(|_| index + 1 == self.entries.len()) {
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
    /// Appends entries, or says why not.
    ///
    /// # Errors
    /// [`StoreError::IdNotMonotonic`], [`StoreError::IdsExhausted`] and [`StoreError::IdZero`] of a
    /// single entry,
    /// [`StoreError::NotAStream`], [`StoreError::OutOfMemory`], or that Redis is away; after
    /// [`StoreError::Broken`] and [`StoreError::Timeout`] all of it may be there, or nothing.
    /// # Cancel safety
    /// If dropped after the command was sent, the entries may still be appended.
    pub async fn append(
        &self,
        lane: &Lane,
        stream: &StreamName,
        append: &Append,
    ) -> Result<Appended, StoreError> {
        if append.needs_script() {
            return Box::pin(self.append_by_script(lane, stream, append)).await;
        }
        let given = if append.entries.len() == 1 {
            vec![self.write_on(lane, &append.command(stream, 0)).await?]
        } else {
            let mut transaction = Pipeline::with_capacity(append.entries.len());
            // Each is answered for itself: an error would not tell what was appended before it.
            transaction.atomic().ignore_errors();
            for index in 0..append.entries.len() {
                transaction.add_command(append.command(stream, index));
            }
            Box::pin(self.write_pipeline_on(lane, &transaction)).await?
        };
        if given.contains(&Value::Nil) {
            return Ok(Appended::Refused(None, Refusal::NoStream));
        }
        given
            .into_iter()
            .map(placed)
            .collect::<Result<_, _>>()
            .map(Appended::Each)
    }
}

/// What an XADD answered.
fn placed(given: Value) -> Result<Result<Placed, Refusal>, StoreError> {
    let id = match given {
        Value::ServerError(error) => Err(StoreError::from(RedisError::from(error))),
        given => id(given),
    };
    match id {
        Ok(id) => Ok(Ok(Placed {
            id,
            replayed: false,
        })),
        Err(StoreError::IdsExhausted) => Ok(Err(Refusal::Exhausted)),
        Err(error) => Err(error),
    }
}

fn add(digest: &mut Sha256, bytes: &[u8]) {
    digest.update((bytes.len() as u64).to_le_bytes());
    digest.update(bytes);
}

/// The same for the same fields in the same order, and for nothing else.
pub(super) fn fingerprint(fields: &Fields) -> String {
    let mut digest = Sha256::new();
    for (name, value) in fields {
        add(&mut digest, name);
        add(&mut digest, value);
    }
    hex(digest)
}

pub(super) fn hex(digest: Sha256) -> String {
    let mut text = String::with_capacity(64);
    for byte in digest.finalize() {
        // Writing into a `String` cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
