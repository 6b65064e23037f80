//! Entries: an id and an ordered list of fields. Names and values are byte strings, and names may
//! repeat.

use crate::model::id::EntryId;

/// The fields of an entry in stored order: `(name, value)` pairs of arbitrary bytes, in which names
/// may repeat. Nothing is normalized: readers get the bytes that were written.
pub type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// One entry of a stream.
///
/// ```
/// use streamgate::model::entry::Entry;
/// use streamgate::model::id::EntryId;
///
/// let entry = Entry {
///     id: EntryId::new(1_795_232_709_004, 0),
///     fields: vec![(b"user".to_vec(), b"alice".to_vec())],
/// };
/// assert_eq!(entry.value("user"), Some(&b"alice"[..]));
/// assert_eq!(entry.value("total"), None);
/// assert_eq!(entry.size(), 9);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The id of the entry.
    pub id: EntryId,
    /// The fields of the entry; never empty in a stream.
    pub fields: Fields,
}

impl Entry {
    /// Returns the total size of names and values, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        size(&self.fields)
    }

    /// Returns the value of the first field with this name.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&[u8]> {
        value(&self.fields, name)
    }
}

/// Returns the value of the first field with this name.
#[must_use]
pub fn value<'a>(fields: &'a Fields, name: &str) -> Option<&'a [u8]> {
    let mut named = fields.iter().filter(|(field, _)| field == name.as_bytes());
    named.next().map(|(_, value)| value.as_slice())
}

/// Returns the total size of names and values, in bytes.
#[must_use]
pub fn size(fields: &Fields) -> usize {
    fields
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum()
}

/// The representation of entries that a reader asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct View {
    /// The field whose value replaces all fields (`payload=FIELD`).
    pub payload: Option<String>,
    /// Embeds the payload as JSON if it is valid JSON (`json=true`).
    pub json: bool,
    /// Shows fields as a list of pairs even if an object could hold them (`pairs=true`).
    pub pairs: bool,
    /// Shows the whole entry as an event (`as=cloudevents`).
    pub event: Option<AsEvent>,
}

/// The representation of an entry as an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AsEvent {
    /// The event alone.
    Alone,
    /// The event with the name of its stream as an extension attribute.
    WithStream,
}
