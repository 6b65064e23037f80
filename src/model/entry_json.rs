//! Serialization of entries as JSON. `fields` is an object in stored order, and a value that is not
//! UTF-8 is `{"base64":"…"}`. An entry that an object cannot hold has `pairs` instead.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::model::entry::{Entry, Fields, View, value};
use crate::model::position::Position;

/// Bytes as JSON: a string if they are UTF-8, otherwise `{"base64":"…"}`.
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

/// The maximum nesting depth of embedded JSON. Parsers of clients have limits of their own, and one
/// entry beyond them would make a whole page unreadable.
const MAX_DEPTH: usize = 128;

/// Returns a value as JSON to embed; `None` if the value is not JSON, or is nested deeper than 128
/// levels.
#[must_use]
pub fn embedded(value: &[u8]) -> Option<&RawValue> {
    let json: &RawValue = serde_json::from_slice(value).ok()?;
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in json.get().bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    (deepest <= MAX_DEPTH).then_some(json)
}

/// Fields as an object, or as pairs if an object cannot hold them.
pub(super) struct FieldsJson<'a>(pub(super) &'a Fields);

impl Serialize for FieldsJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match fits_object(self.0) {
            true => AsObject(self.0).serialize(serializer),
            false => AsPairs(self.0).serialize(serializer),
        }
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

/// An entry in the representation that a reader asked for.
pub struct EntryJson<'a> {
    /// The name of the stream: present in events, absent in a range of one stream.
    pub stream: Option<&'a str>,
    /// The position to resume after this entry: present in lines, which have no other place for it.
    pub position: Option<Position>,
    /// The entry.
    pub entry: &'a Entry,
    /// The representation that the reader asked for.
    pub view: &'a View,
}

impl Serialize for EntryJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(stream) = self.stream {
            map.serialize_entry("stream", stream)?;
        }
        map.serialize_entry("id", &format_args!("{}", self.entry.id))?;
        if let Some(position) = self.position {
            map.serialize_entry("position", &format_args!("{position}"))?;
        }
        serialize_view(&mut map, &self.entry.fields, self.view)?;
        map.end()
    }
}

/// Writes `fields`, `pairs` or `payload` into a JSON object, according to the view. With `json`, a
/// payload that is not JSON is written as it would be without `json`, and is marked by
/// `"json":false`.
///
/// # Errors
/// Returns the error of the serializer.
pub fn serialize_view<M: SerializeMap>(
    map: &mut M,
    fields: &Fields,
    view: &View,
) -> Result<(), M::Error> {
    let Some(field) = &view.payload else {
        return serialize_fields(map, fields, view.pairs);
    };
    let payload = value(fields, field);
    if let Some(json) = payload.filter(|_| view.json).and_then(embedded) {
        return map.serialize_entry("payload", json);
    }
    map.serialize_entry("payload", &payload.map(JsonBytes))?;
    if view.json {
        map.serialize_entry("json", &false)
    } else {
        Ok(())
    }
}

/// Writes `fields` or `pairs` into a JSON object.
///
/// # Errors
/// Returns the error of the serializer.
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
        let json = EntryJson {
            stream: None,
            position: None,
            entry: &entry,
            view: &view,
        };
        let json = serde_json::to_string(&json).unwrap();
        assert_eq!(
            json,
            r#"{"id":"1-0","pairs":[["a","1"],["a",{"base64":"/w=="}]]}"#
        );
    }

    #[test]
    fn a_payload_that_is_json_is_embedded_as_it_was_written_and_anything_else_is_marked() {
        let deep = |levels| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        let shown = |value: &[u8]| {
            let fields = vec![(b"data".to_vec(), value.to_vec())];
            let entry = Entry {
                id: EntryId::new(1, 0),
                fields,
            };
            let view = View {
                payload: Some("data".to_owned()),
                json: true,
                ..View::default()
            };
            serde_json::to_string(&EntryJson {
                stream: None,
                position: None,
                entry: &entry,
                view: &view,
            })
            .unwrap()
        };
        for (value, expected) in [
            (
                r#" {"b":1.50,"a":[1e400,"[\"\\"]}"#,
                r#"{"b":1.50,"a":[1e400,"[\"\\"]}"#.to_owned(),
            ),
            ("null", "null".to_owned()),
            ("\"x\"", "\"x\"".to_owned()),
            ("x", "\"x\",\"json\":false".to_owned()),
            ("", "\"\",\"json\":false".to_owned()),
            ("{} {}", "\"{} {}\",\"json\":false".to_owned()),
            (&deep(128), deep(128)),
            (&deep(129), format!("\"{}\",\"json\":false", deep(129))),
        ] {
            assert_eq!(
                shown(value.as_bytes()),
                format!(r#"{{"id":"1-0","payload":{expected}}}"#)
            );
        }
        assert!(shown(b"\xff").ends_with(r#"{"base64":"/w=="},"json":false}"#));
    }
}
