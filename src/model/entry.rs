//! Entries: an id and an ordered list of byte strings that may repeat.

use crate::model::id::EntryId;

/// The fields of an entry in stored order: `(name, value)` pairs of arbitrary bytes, in which
/// names may repeat. Nothing is normalised, so what was written is what is read.
pub type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// One entry of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its id.
    pub id: EntryId,
    /// Its fields; never empty in a stream.
    pub fields: Fields,
}

impl Entry {
    /// The bytes of names and values together.
    #[must_use]
    pub fn size(&self) -> usize {
        size(&self.fields)
    }

    /// The value of the first field with this name.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&[u8]> {
        value(&self.fields, name)
    }
}

/// The value of the first field with this name.
#[must_use]
pub fn value<'a>(fields: &'a Fields, name: &str) -> Option<&'a [u8]> {
    let mut named = fields.iter().filter(|(field, _)| field == name.as_bytes());
    named.next().map(|(_, value)| value.as_slice())
}

/// The bytes of names and values together.
#[must_use]
pub fn size(fields: &Fields) -> usize {
    fields
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum()
}

/// How entries are shown to one reader.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct View {
    /// `payload=FIELD`: this field's value takes the place of all fields.
    pub payload: Option<String>,
    /// `json=true`: the payload as the JSON that it is.
    pub json: bool,
    /// `pairs=true`: fields as a list of pairs even where an object could hold them.
    pub pairs: bool,
    /// `as=cloudevents`: the whole entry as an event.
    pub event: Option<AsEvent>,
}

/// How an entry is shown as an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AsEvent {
    /// As the event that it is.
    Alone,
    /// The same, with the name of its stream as an extension.
    WithStream,
}
