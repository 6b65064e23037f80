//! Serialization of any entry as a `CloudEvents` 1.0 event in JSON.
//!
//! An entry that was appended as an event becomes the same event. Any other entry becomes an event
//! about the entry, so that a client that knows only `CloudEvents` can read every stream.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use crate::model::cloudevent::{CONTENT_TYPE, OPTIONAL, REQUIRED, TYPE_OF_DATA, check};
use crate::model::cloudevent_json::{is_json, is_text};
use crate::model::entry::{Entry, Fields};
use crate::model::entry_json::{FieldsJson, embedded};
use crate::model::id::EntryId;
use crate::model::time::{LEAST_UNIX_MS, show_rfc3339};

/// The event type of entries that were not appended as events.
const PLAIN: &str = "streamgate.entry";
/// The event type of entries that are pending but no longer in their stream.
const GONE: &str = "streamgate.entry.gone";
/// The first millisecond that RFC 3339 cannot express.
const YEAR_10000_MS: u64 = 253_402_300_800_000;
/// The characters to percent-encode: all except the unreserved characters of RFC 3986.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// An extension attribute that the gateway adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExtraAttribute {
    /// A string.
    Text(&'static str, String),
    /// An integer, which is limited to 32 bits in `CloudEvents`.
    Number(&'static str, i32),
}

/// An entry to serialize as an event.
pub struct EventJson<'a> {
    /// The public name of the stream.
    pub stream: &'a str,
    /// The id of the entry.
    pub id: EntryId,
    /// The fields of the entry; `None` if the entry no longer exists.
    pub fields: Option<&'a Fields>,
    /// Extension attributes to add to those of the event.
    pub extensions: &'a [ExtraAttribute],
}

impl<'a> EventJson<'a> {
    /// Creates the event of an entry, without added extension attributes.
    #[must_use]
    pub fn new(stream: &'a str, entry: &'a Entry) -> Self {
        Self {
            stream,
            id: entry.id,
            fields: Some(&entry.fields),
            extensions: &[],
        }
    }
}

impl Serialize for EventJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self.fields.and_then(Stored::of) {
            Some(stored) => {
                stored.serialize(&mut map, self.extensions)?;
            }
            None => self.serialize_plain(&mut map)?,
        }
        for extension in self.extensions {
            match extension {
                ExtraAttribute::Text(name, text) => map.serialize_entry(name, text)?,
                ExtraAttribute::Number(name, number) => map.serialize_entry(name, number)?,
            }
        }
        map.end()
    }
}

impl EventJson<'_> {
    /// Serializes an event about an entry that was not appended as an event.
    fn serialize_plain<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        map.serialize_entry("specversion", "1.0")?;
        map.serialize_entry("id", &format_args!("{}", self.id))?;
        let stream = utf8_percent_encode(self.stream, SEGMENT);
        map.serialize_entry("source", &format_args!("/v1/streams/{stream}"))?;
        map.serialize_entry("type", if self.fields.is_some() { PLAIN } else { GONE })?;
        // A writer can choose ids that are not timestamps.
        if (LEAST_UNIX_MS..YEAR_10000_MS).contains(&self.id.ms) {
            map.serialize_entry("time", &show_rfc3339(self.id.ms))?;
        }
        let Some(fields) = self.fields else {
            return Ok(());
        };
        let Some((media_type, data)) = payload(fields) else {
            map.serialize_entry(TYPE_OF_DATA, "application/json")?;
            return map.serialize_entry("data", &FieldsJson(fields));
        };
        if let Some(media_type) = media_type {
            map.serialize_entry(TYPE_OF_DATA, media_type)?;
        }
        serialize_data(map, data, media_type)
    }
}

/// Returns the media type and the bytes of an entry that holds only a payload.
fn payload(fields: &Fields) -> Option<(Option<&str>, &[u8])> {
    match fields.as_slice() {
        [(name, data)] if name == b"data" => Some((None, data)),
        [(name, data), (of_type, media_type)]
            if name == b"data" && of_type == CONTENT_TYPE.as_bytes() =>
        {
            let media_type = std::str::from_utf8(media_type).ok()?;
            check(TYPE_OF_DATA, media_type)
                .ok()
                .map(|()| (Some(media_type), data.as_slice()))
        }
        _ => None,
    }
}

/// An event that is stored in the fields of an entry.
struct Stored<'a> {
    attributes: BTreeMap<&'a str, &'a str>,
    data: Option<&'a [u8]>,
}

impl<'a> Stored<'a> {
    /// Reads an event from the fields of an entry. Returns `None` if a required attribute is
    /// missing, or if an attribute violates the rules of `CloudEvents`. The first of several fields
    /// with the same name counts.
    fn of(fields: &'a Fields) -> Option<Self> {
        let (mut attributes, mut data) = (BTreeMap::new(), None);
        for (name, value) in fields {
            let Ok(name) = std::str::from_utf8(name) else {
                continue;
            };
            let attribute = match name {
                "data" => {
                    data = data.or(Some(value.as_slice()));
                    continue;
                }
                CONTENT_TYPE => TYPE_OF_DATA,
                _ => match name.strip_prefix("ce_") {
                    Some(attribute) => attribute,
                    None => continue,
                },
            };
            let text = std::str::from_utf8(value).ok()?;
            check(attribute, text).ok()?;
            attributes.entry(attribute).or_insert(text);
        }
        let is_whole = REQUIRED.iter().all(|name| attributes.contains_key(name));
        if !is_whole {
            return None;
        }
        // Other fields can be extension attributes, such as the trace context stored with an append.
        for (name, value) in fields {
            let (Ok(name), Ok(text)) = (std::str::from_utf8(name), std::str::from_utf8(value))
            else {
                continue;
            };
            let is_defined = REQUIRED.contains(&name) || OPTIONAL.contains(&name);
            if !is_defined && check(name, text).is_ok() {
                attributes.entry(name).or_insert(text);
            }
        }
        Some(Self { attributes, data })
    }

    fn serialize<M: SerializeMap>(
        &self,
        map: &mut M,
        extensions: &[ExtraAttribute],
    ) -> Result<(), M::Error> {
        let ours = |name: &str| {
            extensions.iter().any(|extension| match extension {
                ExtraAttribute::Text(known, _) | ExtraAttribute::Number(known, _) => *known == name,
            })
        };
        for name in REQUIRED {
            map.serialize_entry(name, self.attributes[name])?;
        }
        for (name, value) in &self.attributes {
            // An event that was read from a gateway and appended again carries old values of our
            // attributes.
            if !REQUIRED.contains(name) && !ours(name) {
                map.serialize_entry(name, value)?;
            }
        }
        match self.data {
            Some(data) => serialize_data(map, data, self.attributes.get(TYPE_OF_DATA).copied()),
            None => Ok(()),
        }
    }
}

/// Serializes data in a form that preserves its bytes: JSON as it is, text as a string, and
/// anything else as base64.
fn serialize_data<M: SerializeMap>(
    map: &mut M,
    data: &[u8],
    media_type: Option<&str>,
) -> Result<(), M::Error> {
    if let Some(json) = media_type
        .filter(|of| is_json(of))
        .and_then(|_| embedded(data))
    {
        return map.serialize_entry("data", json);
    }
    let text = media_type
        .filter(|of| is_text(of))
        .and_then(|_| std::str::from_utf8(data).ok());
    match text.map(Cow::Borrowed) {
        Some(text) => map.serialize_entry("data", &text),
        None => map.serialize_entry("data_base64", &BASE64_STANDARD.encode(data)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::cloudevent_json::structured;
    use crate::model::sent::Sent;
    use proptest::prelude::*;

    fn json(fields: &[(&str, &[u8])], extensions: &[ExtraAttribute]) -> String {
        let fields = fields
            .iter()
            .map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec()));
        let fields: Fields = fields.collect();
        let id = EntryId::new(1_795_232_709_004, 2);
        let event = EventJson {
            stream: "a/b",
            id,
            fields: Some(&fields),
            extensions,
        };
        serde_json::to_string(&event).unwrap()
    }

    const EVENT: [(&str, &[u8]); 4] = [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"1"),
        ("ce_source", b"/s"),
        ("ce_type", b"t"),
    ];

    #[test]
    fn an_event_is_written_with_its_data_in_the_form_that_keeps_it() {
        let head = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t""#;
        for (more, rest) in [
            (&[][..], "}"),
            (&[("data", b"x".as_slice())], r#","data_base64":"eA=="}"#),
            (
                &[
                    ("content-type", b"application/json".as_slice()),
                    ("data", b" {\"n\": 1.50}"),
                ],
                r#","datacontenttype":"application/json","data":{"n": 1.50}}"#,
            ),
            (
                &[("content-type", b"application/json"), ("data", b"{")],
                r#","datacontenttype":"application/json","data_base64":"ew=="}"#,
            ),
            (
                &[("content-type", b"text/plain"), ("data", b"5")],
                r#","datacontenttype":"text/plain","data":"5"}"#,
            ),
            (
                &[
                    ("content-type", b"text/plain; charset=latin1"),
                    ("data", b"5"),
                ],
                r#","datacontenttype":"text/plain; charset=latin1","data_base64":"NQ=="}"#,
            ),
            (
                &[("content-type", b"image/png"), ("data", b"5")],
                r#","datacontenttype":"image/png","data_base64":"NQ=="}"#,
            ),
            (
                &[
                    ("ce_zone", b"eu"),
                    ("traceparent", b"00-x"),
                    ("other-field", b"1"),
                    ("id", b"9"),
                ],
                r#","traceparent":"00-x","zone":"eu"}"#,
            ),
        ] {
            let fields = [&EVENT[..], more].concat();
            assert_eq!(json(&fields, &[]), format!("{head}{rest}"));
        }
    }

    #[test]
    fn what_was_not_appended_as_an_event_is_one_about_itself() {
        let head = "{\"specversion\":\"1.0\",\"id\":\"1795232709004-2\",\
                    \"source\":\"/v1/streams/a%2Fb\",\"type\":\"streamgate.entry\",\
                    \"time\":\"2026-11-21T03:45:09.004Z\",";
        for (fields, rest) in [
            (
                &[("user", b"alice".as_slice()), ("n", b"1")][..],
                r#""datacontenttype":"application/json","data":{"user":"alice","n":"1"}}"#,
            ),
            (
                &[("a", b"1".as_slice()), ("a", b"2")],
                r#""datacontenttype":"application/json","data":[["a","1"],["a","2"]]}"#,
            ),
            (
                &[
                    ("data", b"[1]".as_slice()),
                    ("content-type", b"application/json"),
                ],
                r#""datacontenttype":"application/json","data":[1]}"#,
            ),
            // These fields are not a valid event.
            (
                &[("ce_specversion", b"0.3".as_slice()), ("ce_id", b"1")],
                r#""datacontenttype":"application/json","data":{"ce_specversion":"0.3","ce_id":"1"}}"#,
            ),
        ] {
            assert_eq!(json(fields, &[]), format!("{head}{rest}"));
        }
    }

    #[test]
    fn attributes_of_ours_take_the_place_of_old_ones() {
        let ours = [ExtraAttribute::Text("streamgatereceipt", "new".to_owned())];
        let fields = [&EVENT[..], &[("ce_streamgatereceipt", b"old".as_slice())]].concat();
        let json = json(&fields, &ours);
        assert!(
            json.ends_with(r#","streamgatereceipt":"new"}"#) && !json.contains("old"),
            "{json}"
        );
    }

    proptest! {
        #[test]
        fn an_event_that_is_read_and_appended_again_is_the_same_entry(
            data in prop::option::of(prop_oneof![
                prop::collection::vec(any::<u8>(), 0..12),
                "[\\[\\]{}:,\"0-9a-z ]{0,8}".prop_map(String::into_bytes),
            ]),
            media_type in prop::option::of(prop::sample::select(vec![
                "application/json", "text/plain", "application/octet-stream", "text/xml; charset=latin1",
            ])),
            zone in "[ -~]{0,6}",
        ) {
            let mut fields: Fields = EVENT.map(|(name, value)| (name.into(), value.into())).to_vec();
            fields.push((b"ce_zone".to_vec(), zone.into_bytes()));
            fields.extend(media_type.map(|of| (b"content-type".to_vec(), of.as_bytes().to_vec())));
            fields.extend(data.map(|data| (b"data".to_vec(), data)));
            let event = EventJson { stream: "s", id: EntryId::new(1, 0), fields: Some(&fields), extensions: &[] };
            let json = serde_json::to_string(&event).unwrap();
            let Ok(Sent::One(sent)) = structured(serde_json::from_str(&json).unwrap(), 100) else {
                panic!("{json}")
            };
            // JSON does not preserve the white space around a value.
            let trimmed = |fields: &Fields| -> Fields {
                let trim = |(name, value): &(Vec<u8>, Vec<u8>)| (name.clone(), value.trim_ascii().to_vec());
                fields.iter().map(trim).collect()
            };
            prop_assert_eq!(trimmed(&sent.fields), trimmed(&fields), "{}", json);
        }
    }
}
