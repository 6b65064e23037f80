//! Entries as bare JSON objects (`?as=fields`). Every member is a field, and nested values are kept
//! as JSON text.
//!
//! The module `sent` parses the standard shape, in which an entry names its `fields`.

use serde_json::value::RawValue;

use crate::model::members::members;
use crate::model::sent::{InvalidEntry, Sent, SentEntry, batch, escape, line};

/// Parses one object, or an array of objects as a batch. The text must already be valid JSON.
/// An object with more than `most` members is read up to one member past that limit, so that the
/// caller can refuse it.
///
/// # Errors
/// Returns an [`InvalidEntry`] that points at the first invalid entry or field.
pub fn parse(json: &RawValue, most: usize) -> Result<Sent, InvalidEntry> {
    match json.get().starts_with('[') {
        true => batch(json, "", most, parse_entry),
        false => parse_entry(json, "", most).map(Sent::One),
    }
}

/// Parses one object from a line of NDJSON, like [`parse`].
///
/// # Errors
/// Returns an [`InvalidEntry`] that points at the first invalid entry or field.
pub fn parse_line(text: &[u8], most: usize) -> Result<SentEntry, InvalidEntry> {
    parse_entry(line(text)?, "", most)
}

fn parse_entry(json: &RawValue, pointer: &str, most: usize) -> Result<SentEntry, InvalidEntry> {
    let Some(members) = members(json, most) else {
        return Err(InvalidEntry::at(
            pointer,
            "with `as=fields`, an entry must be a JSON object",
        ));
    };
    if members.is_empty() {
        return Err(InvalidEntry::at(
            pointer,
            "an entry must have at least one field",
        ));
    }
    let mut names: Vec<&str> = members.iter().map(|(name, _)| name.as_ref()).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(InvalidEntry::at(
            format!("{pointer}/{}", escape(twice[0])),
            "the field is given twice; with `as=fields`, names must be unique",
        ));
    }
    let fields = members.iter().map(|(name, value)| {
        let value = text_of(value)
            .map_err(|why| InvalidEntry::at(format!("{pointer}/{}", escape(name)), why))?;
        Ok((name.as_bytes().to_vec(), value))
    });
    Ok(SentEntry {
        fields: fields.collect::<Result<_, _>>()?,
        ..SentEntry::default()
    })
}

fn text_of(json: &RawValue) -> Result<Vec<u8>, &'static str> {
    let text = json.get();
    match text.as_bytes().first() {
        Some(b'"') => serde_json::from_str(text)
            .map(String::into_bytes)
            .map_err(|_| "the string is not valid Unicode"),
        Some(b'n') => {
            Err("a field cannot be null; leave it out, or store the whole body with ?payload=data")
        }
        _ => Ok(text.as_bytes().to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sent::first_refused;

    fn read(json: &str) -> Result<Sent, InvalidEntry> {
        parse(serde_json::from_str(json).unwrap(), 100)
    }

    #[test]
    fn every_member_is_a_field_whatever_its_name() {
        let json = r#"{"id":8209,"fields":{"a": [1]},"key":"k","on":true,"list":[1, 2],"n":1.50}"#;
        let Sent::One(entry) = read(json).unwrap() else {
            panic!()
        };
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let fields: Vec<_> = entry
            .fields
            .iter()
            .map(|(n, v)| (text(n), text(v)))
            .collect();
        let expected = [
            ("id", "8209"),
            ("fields", r#"{"a": [1]}"#),
            ("key", "k"),
            ("on", "true"),
            ("list", "[1, 2]"),
            ("n", "1.50"),
        ];
        assert_eq!(fields, expected.map(|(n, v)| (n.to_owned(), v.to_owned())));
        assert_eq!((entry.id, entry.key), (None, None));
        assert_eq!(
            parse_line(json.as_bytes(), 100).unwrap().fields,
            entry.fields
        );
        let Sent::Many(many) = read(r#"[{"entries":[]},{"a":1}]"#).unwrap() else {
            panic!()
        };
        assert_eq!((many.at, many.entries.len()), ("", 2));
    }

    #[test]
    fn what_cannot_be_a_field_is_pointed_at() {
        for (json, pointer) in [
            ("5", ""),
            ("{}", ""),
            ("[]", ""),
            (r#"{"a":null}"#, "/a"),
            (r#"{"a/b":"\ud800"}"#, "/a~1b"),
            (r#"{"a":1,"a":2}"#, "/a"),
            (r#"[{"a":1},5]"#, "/1"),
            (r#"[{"a":1},{"b":null}]"#, "/1/b"),
        ] {
            assert_eq!(first_refused(read(json)).pointer, pointer, "{json}");
        }
    }
}
