//! Entries as JSON, on their way out: `fields` is an object in stored order, a value that is not
//! UTF-8 is `{"base64":"…"}`; an entry that an object cannot hold has `pairs` instead.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};

use super::entry::{Entry, Fields, View};

/// Bytes as JSON: a string where they are UTF-8, `{"base64":"…"}` where not.
#[derive(Clone, Copy)]
pub struct JsonBytes<'a>(pub &'a [u8]);

impl Serialize for JsonBytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if let Ok(text) = std::str::from_utf8(self.0) {
            return serializer.serialize_str(text);
        }
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry("base64", &BASE64_STANDARD.encode(self.0))?;
        map.end()
    }
}

struct AsObject<'a>(&'a Fields);

impl Serialize for AsObject<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in self.0 {
            // An object is chosen only for UTF-8 names, see `fits_object`.
            map.serialize_entry(&String::from_utf8_lossy(name), &JsonBytes(value))?;
        }
        map.end()
    }
}

struct AsPairs<'a>(&'a Fields);

impl Serialize for AsPairs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for (name, value) in self.0 {
            list.serialize_element(&(JsonBytes(name), JsonBytes(value)))?;
        }
        list.end()
    }
}

fn fits_object(fields: &Fields) -> bool {
    let mut names: Vec<&[u8]> = fields.iter().map(|(name, _)| name.as_slice()).collect();
    if names.iter().any(|name| std::str::from_utf8(name).is_err()) {
        return false;
    }
    names.sort_unstable();
    names.windows(2).all(|pair| pair[0] != pair[1])
}

/// An entry as one reader sees it; `stream` is named where entries of several may meet.
pub struct EntryJson<'a> {
    /// Named in events, left out in a range of one stream.
    pub stream: Option<&'a str>,
    /// The entry.
    pub entry: &'a Entry,
    /// What the reader asked to see of it.
    pub view: &'a View,
}

impl Serialize for EntryJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(stream) = self.stream {
            map.serialize_entry("stream", stream)?;
        }
        map.serialize_entry("id", &format_args!("{}", self.entry.id))?;
        match &self.view.payload {
            Some(field) => {
                map.serialize_entry("payload", &self.entry.value(field).map(JsonBytes))?;
            }
            None => serialize_fields(&mut map, &self.entry.fields, self.view.pairs)?,
        }
        map.end()
    }
}

/// Adds `fields` or `pairs` to an object that is being written.
///
/// # Errors
/// Whatever the serializer fails with.
pub fn serialize_fields<M: SerializeMap>(
    map: &mut M,
    fields: &Fields,
    pairs: bool,
) -> Result<(), M::Error> {
    if pairs || !fits_object(fields) {
        map.serialize_entry("pairs", &AsPairs(fields))
    } else {
        map.serialize_entry("fields", &AsObject(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::EntryId;

    #[test]
    fn repeated_names_are_shown_as_pairs() {
        let entry = Entry {
            id: EntryId::new(1, 0),
            fields: vec![(b"a".to_vec(), b"1".to_vec()), (b"a".to_vec(), vec![0xff])],
        };
        let view = View::default();
        let json = serde_json::to_string(&EntryJson { stream: None, entry: &entry, view: &view });
        assert_eq!(json.unwrap(), r#"{"id":"1-0","pairs":[["a","1"],["a",{"base64":"/w=="}]]}"#);
    }
}
