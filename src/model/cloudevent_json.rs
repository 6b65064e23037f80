//! Parsing of `CloudEvents` in JSON: one event or an array of events.

use std::collections::BTreeSet;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::value::RawValue;

use crate::model::cloudevent::{Attributes, OPTIONAL, REQUIRED, TYPE_OF_DATA, fields};
use crate::model::members::{Member, members};
use crate::model::sent::{self, InvalidEntry, Sent, SentEntry, escape};

/// Parses one event in structured mode. The text must already be valid JSON. An event with more
/// than `most` members is read up to one member past that limit. The result then has the names of
/// these members as its fields, so that the caller can refuse it.
///
/// # Errors
/// Returns an [`InvalidEntry`] that points at the first invalid value.
pub fn structured(json: &RawValue, most: usize) -> Result<Sent, InvalidEntry> {
    event(json, "", most).map(Sent::One)
}

/// Parses a JSON array of events in batched mode, each like [`structured`].
///
/// # Errors
/// Returns an [`InvalidEntry`] that points at the first invalid value.
pub fn batch(json: &RawValue, most: usize) -> Result<Sent, InvalidEntry> {
    sent::batch(json, "", most, event)
}

/// Parses one event. `pointer` is its location in the body.
fn event(json: &RawValue, pointer: &str, most: usize) -> Result<SentEntry, InvalidEntry> {
    let Some(members) = members(json, most) else {
        return Err(InvalidEntry::at(
            pointer,
            "an event must be a JSON object; send several events as application/cloudevents-batch+json",
        ));
    };
    if members.len() > most {
        // The rest was not read. The fields below exceed the limit of the caller.
        let field = |(name, _): Member<'_>| (name.into_owned().into_bytes(), Vec::new());
        return Ok(SentEntry {
            fields: members.into_iter().map(field).collect(),
            ..SentEntry::default()
        });
    }
    let at = |name: &str| format!("{pointer}/{}", escape(name));
    let (mut attributes, mut data, mut encoded) = (Attributes::new(), None, None);
    let mut seen = BTreeSet::new();
    for (name, value) in &members {
        if !seen.insert(name) {
            return Err(InvalidEntry::at(at(name), "this member is given twice"));
        }
        match name.as_ref() {
            // `data` can be null: the data of the event is then the JSON value null.
            "data" => data = Some(*value),
            _ if value.get() == "null" => {}
            "data_base64" => encoded = Some(*value),
            name => {
                let text = text(name, value).map_err(|why| InvalidEntry::at(at(name), why))?;
                attributes.insert(name.to_owned(), text);
            }
        }
    }
    let data = match (data, encoded) {
        (Some(_), Some(_)) => {
            let why = "send `data` or `data_base64`, not both";
            return Err(InvalidEntry::at(at("data_base64"), why));
        }
        (Some(json), None) => {
            // JSON implies this media type. Outside of JSON the event must state it.
            let of = attributes
                .entry(TYPE_OF_DATA.to_owned())
                .or_insert_with(|| "application/json".to_owned());
            Some(content(json, of).map_err(|why| InvalidEntry::at(at("data"), why))?)
        }
        (None, Some(json)) => {
            let wrong = || {
                InvalidEntry::at(
                    at("data_base64"),
                    "`data_base64` must be a base64 string (standard alphabet, padded)",
                )
            };
            let text: String = serde_json::from_str(json.get()).map_err(|_| wrong())?;
            Some(BASE64_STANDARD.decode(text).map_err(|_| wrong())?)
        }
        (None, None) => None,
    };
    fields(attributes, data, at)
}

/// Returns the canonical text of an attribute's value.
fn text(name: &str, json: &RawValue) -> Result<String, &'static str> {
    let text = json.get();
    let is_extension = !REQUIRED.contains(&name) && !OPTIONAL.contains(&name);
    match text.as_bytes().first() {
        Some(b'"') => serde_json::from_str(text).map_err(|_| "the string is not valid Unicode"),
        _ if !is_extension => Err("the attribute must be a string"),
        Some(b't' | b'f') => Ok(text.to_owned()),
        Some(b'0'..=b'9' | b'-') => {
            let number = text
                .parse::<i32>()
                .map_err(|_| "a number must be a 32-bit integer")?;
            Ok(number.to_string())
        }
        _ => Err("an extension attribute must be a string, an integer or a boolean"),
    }
}

/// Returns the bytes of `data`, according to its media type.
fn content(json: &RawValue, media_type: &str) -> Result<Vec<u8>, &'static str> {
    if is_json(media_type) {
        return Ok(json.get().as_bytes().to_vec());
    }
    serde_json::from_str(json.get())
        .map(String::into_bytes)
        .map_err(|_| "`data` must be a string unless `datacontenttype` is JSON; send bytes in `data_base64`")
}

/// Returns whether data of this media type is JSON.
pub(super) fn is_json(media_type: &str) -> bool {
    let essence = media_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    let subtype = essence.split_once('/').map_or("", |(_, subtype)| subtype);
    subtype == "json" || subtype.ends_with("+json")
}

/// Returns whether data of this media type is UTF-8 text. The bytes may still be invalid UTF-8.
pub(super) fn is_text(media_type: &str) -> bool {
    let mut parts = media_type
        .split(';')
        .map(|part| part.trim().to_ascii_lowercase());
    let essence = parts.next().unwrap_or_default();
    let charset = parts.find_map(|part| part.strip_prefix("charset=").map(ToOwned::to_owned));
    let is_utf8 = charset
        .is_none_or(|charset| matches!(charset.trim_matches('"'), "utf-8" | "utf8" | "us-ascii"));
    let is_text = essence.split_once('/').is_some_and(|(kind, subtype)| {
        kind == "text"
            || matches!(
                subtype,
                "xml" | "yaml" | "javascript" | "x-www-form-urlencoded" | "sql"
            )
            || ["+xml", "+yaml"]
                .iter()
                .any(|suffix| subtype.ends_with(suffix))
    });
    is_text && is_utf8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::cloudevent::{self, CONTENT_TYPE};
    use crate::model::sent::first_refused;

    const MINIMAL: &str = r#""specversion":"1.0","id":"1","source":"/s","type":"t""#;

    fn read(json: &str) -> Result<Vec<(String, String)>, InvalidEntry> {
        let Sent::One(entry) = structured(serde_json::from_str(json).unwrap(), 100)? else {
            panic!()
        };
        Ok(texts(entry))
    }

    fn texts(entry: SentEntry) -> Vec<(String, String)> {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        entry
            .fields
            .into_iter()
            .map(|(name, value)| (text(name), text(value)))
            .collect()
    }

    #[test]
    fn data_is_the_text_that_was_sent_by_its_type() {
        for (members, content_type, data) in [
            (
                r#""data":{"z": 1.50,"a":[ ]}"#,
                "application/json",
                r#"{"z": 1.50,"a":[ ]}"#,
            ),
            (r#""data":"text""#, "application/json", "\"text\""),
            (r#""data":null"#, "application/json", "null"),
            (
                r#""data":"<a b=\"c\"/>","datacontenttype":"text/xml""#,
                "text/xml",
                "<a b=\"c\"/>",
            ),
            (
                r#""datacontenttype":"a/b+JSON;x=y","data":"1""#,
                "a/b+JSON;x=y",
                "\"1\"",
            ),
            (
                r#""data_base64":"aGk=","datacontenttype":"a/json""#,
                "a/json",
                "hi",
            ),
        ] {
            let fields = read(&format!("{{{MINIMAL},{members}}}")).unwrap();
            let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
            let expected = [pair(CONTENT_TYPE, content_type), pair("data", data)];
            assert_eq!(fields[4..], expected, "{members}");
        }
        // Nothing is known about bytes without a media type.
        let fields = read(&format!("{{{MINIMAL},\"data_base64\":\"aGk=\"}}")).unwrap();
        assert_eq!(fields[4..], [("data".to_owned(), "hi".to_owned())]);
        assert_eq!(
            read(&format!("{{{MINIMAL},\"data_base64\":null}}"))
                .unwrap()
                .len(),
            4
        );
    }

    #[test]
    fn an_event_is_the_same_entry_however_it_was_sent() {
        let json = r#"{"zone":"a b","data":{"a": 1},"type":"t","time":"2024-02-29T23:59:59.5-01:30",
            "count":-7,"id":"1","subject":null,"on":true,"source":"/s","specversion":"1.0"}"#;
        let headers: [(&str, &[u8]); 10] = [
            ("ce-type", b"t"),
            ("ce-source", b"/s"),
            ("ce-specversion", b"1.0"),
            ("ce-id", b"1"),
            ("content-type", b"application/json"),
            ("ce-on", b"true"),
            ("ce-zone", b"\"a\\ b\""),
            ("accept", b"*/*"),
            ("ce-count", b"-7"),
            ("ce-time", b"2024-02-29T23:59:59.5-01:30"),
        ];
        let Sent::One(sent) = cloudevent::binary(headers.into_iter(), br#"{"a": 1}"#).unwrap()
        else {
            panic!()
        };
        assert_eq!(texts(sent), read(json).unwrap());
        let names: Vec<String> = read(json)
            .unwrap()
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        let required = ["ce_specversion", "ce_id", "ce_source", "ce_type"];
        let others = [
            "ce_count",
            "ce_on",
            "ce_time",
            "ce_zone",
            "content-type",
            "data",
        ];
        assert_eq!(names, [&required[..], &others].concat());
    }

    #[test]
    fn what_cannot_be_an_event_is_pointed_at() {
        for (members, pointer) in [
            (r#""data":1,"data_base64":"aGk=""#, "/data_base64"),
            (r#""data":{},"datacontenttype":"text/xml""#, "/data"),
            (r#""data":null,"datacontenttype":"text/xml""#, "/data"),
            (r#""data":"\ud800","datacontenttype":"text/xml""#, "/data"),
            (r#""data_base64":"?""#, "/data_base64"),
            (r#""data_base64":1"#, "/data_base64"),
            (r#""datacontenttype":"json""#, "/datacontenttype"),
            (r#""time":"yesterday""#, "/time"),
            (r#""time":1700000000"#, "/time"),
            (r#""subject":"""#, "/subject"),
            (r#""id":"2""#, "/id"),
            (r#""Zone":"a""#, "/Zone"),
            (r#""a/b":"a""#, "/a~1b"),
            (r#""":"a""#, "/"),
            (r#""x":1.0"#, "/x"),
            (r#""x":1e3"#, "/x"),
            (r#""x":2147483648"#, "/x"),
            (r#""x":[1]"#, "/x"),
            (r#""x":{}"#, "/x"),
            (r#""x":"\n""#, "/x"),
            (r#""x":"\ud800""#, "/x"),
            (r#""x":1,"x":null"#, "/x"),
        ] {
            let refused = read(&format!("{{{MINIMAL},{members}}}")).unwrap_err();
            assert_eq!(refused.pointer, pointer, "{members}: {}", refused.detail);
        }
        for (json, pointer) in [
            ("[]", ""),
            ("{}", "/specversion"),
            (r#"{"specversion":"0.3","eventID":"1"}"#, "/specversion"),
            (r#"{"specversion":1.0}"#, "/specversion"),
            (
                r#"{"specversion":"1.0","id":"","source":"/","type":"t"}"#,
                "/id",
            ),
            (
                r#"{"specversion":"1.0","id":null,"source":"/","type":"t"}"#,
                "/id",
            ),
            (r#"{"specversion":"1.0","id":"1","type":"t"}"#, "/source"),
            (r#"{"specversion":"1.0","id":"1","source":"/"}"#, "/type"),
        ] {
            assert_eq!(read(json).unwrap_err().pointer, pointer, "{json}");
        }
        let batch_of = |list: &str| batch(serde_json::from_str(list).unwrap(), 100);
        for (list, pointer) in [
            ("[]".to_owned(), ""),
            (format!("{{{MINIMAL}}}"), ""),
            (format!("[{{{MINIMAL}}},{{{MINIMAL},\"x\":[]}}]"), "/1/x"),
            (format!("[{{{MINIMAL}}},[]]"), "/1"),
        ] {
            assert_eq!(first_refused(batch_of(&list)).pointer, pointer, "{list}");
        }
    }
}
