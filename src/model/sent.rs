//! Entries as JSON, on their way in: `{"fields":{…}}` or `{"pairs":[…]}`, one or a batch. Numbers and
//! booleans keep the text they came with; whatever cannot be an entry is pointed at.

use std::borrow::Cow;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::model::entry::Fields;
use crate::model::json_text;
use crate::model::members::{items, members};

/// More members than an entry can have, or a batch.
const MEMBERS: usize = 16;
/// The most entries of a batch.
pub const MAX_BATCH: usize = 10_000;

/// Why a JSON entry was refused: where, as a JSON pointer, and what is wrong there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidEntry {
    /// RFC 6901 pointer into the body, empty for the whole of it; or the name of a header.
    pub pointer: String,
    /// Fit for the caller.
    pub detail: String,
}

impl InvalidEntry {
    pub(super) fn at(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            pointer: pointer.into(),
            detail: detail.into(),
        }
    }
}

/// An entry as it was sent: its fields, and the id it asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SentEntry {
    /// In the order they were sent.
    pub fields: Fields,
    /// The text of `id`, not yet looked at.
    pub id: Option<String>,
    /// The idempotency key of this entry.
    pub key: Option<String>,
}

/// What a JSON body holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// One entry.
    One(SentEntry),
    /// `{"entries":[…]}`, or a list of entries.
    Many(Batch),
}

/// A batch of entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Where the list stands in the body, as a JSON pointer.
    pub at: &'static str,
    /// The entries; an error for each item that cannot be one.
    pub entries: Vec<Result<SentEntry, InvalidEntry>>,
}

/// Reads one entry, or a batch: `{"entries":[…]}` or a list of entries. The text must be valid JSON already. Of an entry with more
/// than `most` fields one more is read than it may have, and no further: whoever takes it refuses it.
///
/// # Errors
/// [`InvalidEntry`] points at the first thing that cannot be an entry.
pub fn parse(json: &RawValue, most: usize) -> Result<Sent, InvalidEntry> {
    if json.get().starts_with('[') {
        return batch(json, "", most, parse_entry);
    }
    let members = members(json, MEMBERS).unwrap_or_default();
    let Some((_, list)) = members.iter().find(|(name, _)| name == "entries") else {
        return parse_entry(json, "", most).map(Sent::One);
    };
    if let Some((other, _)) = members.iter().find(|(name, _)| name != "entries") {
        let at = format!("/{}", escape(other));
        return Err(InvalidEntry::at(
            at,
            "stands beside `entries`, which stands alone",
        ));
    }
    batch(list, "/entries", most, parse_entry)
}

/// Reads a list of entries that stands at `at`.
pub(super) fn batch(
    json: &RawValue,
    at: &'static str,
    most: usize,
    parse: fn(&RawValue, &str, usize) -> Result<SentEntry, InvalidEntry>,
) -> Result<Sent, InvalidEntry> {
    // One too many is as good as all: what is wrong with each of a million is not gathered.
    let Some(list) = items(json, MAX_BATCH) else {
        return Err(InvalidEntry::at(at, "a batch is a list of entries"));
    };
    if list.is_empty() {
        return Err(InvalidEntry::at(at, "a batch has at least one entry"));
    }
    let entry = |(index, entry)| parse(entry, &format!("{at}/{index}"), most);
    let entries = list.into_iter().enumerate().map(entry).collect();
    Ok(Sent::Many(Batch { at, entries }))
}

/// Reads one entry from a line of NDJSON, and of its fields one more than `most` as [`parse`] does.
///
/// # Errors
/// [`InvalidEntry`] points at the first thing that cannot be an entry.
pub fn parse_line(text: &[u8], most: usize) -> Result<SentEntry, InvalidEntry> {
    parse_entry(line(text)?, "", most)
}

/// The JSON value on a line of NDJSON.
pub(super) fn line(text: &[u8]) -> Result<&RawValue, InvalidEntry> {
    let text = json_text::without_mark(text);
    serde_json::from_slice(text).map_err(|error| {
        let why = json_text::explain_line(text, &error);
        InvalidEntry::at("", format!("the line is not JSON: {why}"))
    })
}

fn is_empty_list(json: &RawValue) -> bool {
    let inner = json
        .get()
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    inner.is_some_and(|inner| inner.trim_ascii().is_empty())
}

/// Reads `{"fields":{…}}` or `{"pairs":[[name,value],…]}`, with `id` if there is one.
///
/// The text must be valid JSON already; `pointer` is where it stands in the body.
///
/// # Errors
/// [`InvalidEntry`] points at the first thing that cannot be an entry.
fn parse_entry(json: &RawValue, pointer: &str, most: usize) -> Result<SentEntry, InvalidEntry> {
    let hint = "an entry is {\"fields\":{…}} or {\"pairs\":[[name,value],…]}";
    let Some(members) = members(json, MEMBERS) else {
        return Err(InvalidEntry::at(
            pointer,
            format!("{hint}; to store any other JSON untouched, use ?payload=data"),
        ));
    };
    if !members
        .iter()
        .any(|(name, _)| name == "fields" || name == "pairs")
    {
        return Err(InvalidEntry::at(
            pointer,
            "this has neither `fields` nor `pairs`: wrap it in `fields`, as {\"fields\":{…}}, take its \
             members as fields with ?as=fields, or store it untouched with ?payload=data",
        ));
    }
    let (mut fields, mut sent) = (None, SentEntry::default());
    let has_fields = members.iter().any(|(name, _)| name == "fields");
    let mut seen = Vec::new();
    for (name, value) in &members {
        let at = format!("{pointer}/{}", escape(name));
        if seen.contains(&name) {
            return Err(InvalidEntry::at(at, "stands here twice"));
        }
        seen.push(name);
        match name.as_ref() {
            // Some generated clients send a list that was never given as an empty one.
            "pairs" if has_fields && is_empty_list(value) => {}
            "fields" if fields.is_none() => fields = Some(parse_object(value, &at, most)?),
            "fields" | "pairs" if fields.is_some() => {
                return Err(InvalidEntry::at(at, "send `fields` or `pairs`, not both"));
            }
            "pairs" => fields = Some(parse_pairs(value, &at, most)?),
            "id" => sent.id = Some(parse_text(value, &at)?),
            "key" => sent.key = Some(parse_text(value, &at)?),
            // Lines that were read can be sent back as they are.
            "position" => {}
            _ => {
                return Err(InvalidEntry::at(
                    at,
                    "not a member of an entry: it has `fields` or `pairs`, `id` and `key`",
                ));
            }
        }
    }
    sent.fields = fields.ok_or_else(|| InvalidEntry::at(pointer, hint))?;
    if sent.fields.is_empty() {
        return Err(InvalidEntry::at(pointer, "an entry has at least one field"));
    }
    Ok(sent)
}

fn parse_text(json: &RawValue, pointer: &str) -> Result<String, InvalidEntry> {
    serde_json::from_str(json.get()).map_err(|_| InvalidEntry::at(pointer, "is a string"))
}

fn parse_object(json: &RawValue, pointer: &str, most: usize) -> Result<Fields, InvalidEntry> {
    let Some(members) = members(json, most) else {
        return Err(InvalidEntry::at(pointer, "`fields` is an object"));
    };
    let mut names: Vec<&str> = members.iter().map(|(name, _)| name.as_ref()).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        let at = format!("{pointer}/{}", escape(twice[0]));
        return Err(InvalidEntry::at(
            at,
            "stands here twice: a name that repeats is sent in `pairs`",
        ));
    }
    let fields = members.iter().map(|(name, value)| {
        let bytes = parse_value(value, || format!("{pointer}/{}", escape(name)))?;
        Ok((name.as_bytes().to_vec(), bytes))
    });
    fields.collect()
}

fn parse_pairs(json: &RawValue, pointer: &str, most: usize) -> Result<Fields, InvalidEntry> {
    let Some(list) = items(json, most) else {
        return Err(InvalidEntry::at(
            pointer,
            "`pairs` is a list of [name, value]",
        ));
    };
    let pairs = list.iter().enumerate().map(|(index, pair)| {
        let Ok([name, value]) = serde_json::from_str::<[&RawValue; 2]>(pair.get()) else {
            return Err(InvalidEntry::at(
                format!("{pointer}/{index}"),
                "a pair is [name, value]",
            ));
        };
        Ok((
            parse_value(name, || format!("{pointer}/{index}/0"))?,
            parse_value(value, || format!("{pointer}/{index}/1"))?,
        ))
    });
    pairs.collect()
}

fn parse_value(json: &RawValue, pointer: impl Fn() -> String) -> Result<Vec<u8>, InvalidEntry> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Binary<'a> {
        #[serde(borrow)]
        base64: Cow<'a, str>,
    }

    let text = json.get();
    match text.as_bytes().first() {
        Some(b'"') => serde_json::from_str::<String>(text)
            .map(String::into_bytes)
            .map_err(|_| {
                InvalidEntry::at(
                    pointer(),
                    "not a string of Unicode: send bytes as {\"base64\":\"…\"}",
                )
            }),
        Some(b'0'..=b'9' | b'-' | b't' | b'f') => Ok(text.as_bytes().to_vec()),
        Some(b'{') => {
            let encoded =
                serde_json::from_str::<Binary<'_>>(text).map_err(|_| nested(pointer()))?;
            BASE64_STANDARD
                .decode(encoded.base64.as_bytes())
                .map_err(|_| InvalidEntry::at(pointer(), "not base64 (standard alphabet, padded)"))
        }
        _ => Err(nested(pointer())),
    }
}

fn nested(pointer: String) -> InvalidEntry {
    InvalidEntry {
        pointer,
        detail: "a value is a string, a number, a boolean or {\"base64\":\"…\"}; null and nested \
                 values have no place in a field: to store a whole JSON document, use ?payload=data"
            .to_owned(),
    }
}

/// A name as a token of a JSON pointer.
pub(super) fn escape(token: &str) -> String {
    token.replace('~', "~0").replace('/', "~1")
}

/// The first thing that was refused, of a body or of its entries.
#[cfg(test)]
pub(super) fn first_refused(sent: Result<Sent, InvalidEntry>) -> InvalidEntry {
    match sent {
        Ok(Sent::Many(batch)) => batch.entries.into_iter().find_map(Result::err).unwrap(),
        other => other.unwrap_err(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::entry::{Entry, View};
    use crate::model::entry_json::EntryJson;
    use crate::model::id::EntryId;
    use proptest::prelude::*;

    fn parse(json: &str) -> Result<SentEntry, InvalidEntry> {
        match super::parse(serde_json::from_str(json).unwrap(), 100)? {
            Sent::One(entry) => Ok(entry),
            Sent::Many(batch) => panic!("{batch:?}"),
        }
    }

    fn fields(json: &str) -> Vec<(String, String)> {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        parse(json)
            .unwrap()
            .fields
            .into_iter()
            .map(|(n, v)| (text(n), text(v)))
            .collect()
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn scalars_keep_the_text_they_came_with() {
        assert_eq!(
            fields(r#"{"fields":{"z":1.50,"a":1e400,"n":-0,"b":true,"s":"x"}}"#),
            [
                pair("z", "1.50"),
                pair("a", "1e400"),
                pair("n", "-0"),
                pair("b", "true"),
                pair("s", "x")
            ],
        );
    }

    #[test]
    fn what_cannot_be_an_entry_is_pointed_at() {
        for (json, pointer) in [
            ("[]", ""),
            ("{}", ""),
            (r#"{"user":"alice"}"#, ""),
            (r#"{"id":8209,"email":"a@b.example"}"#, ""),
            (r#"{"fields":{}}"#, ""),
            (r#"{"pairs":[]}"#, ""),
            (r#"{"fields":[]}"#, "/fields"),
            (r#"{"fields":{"a":null}}"#, "/fields/a"),
            (r#"{"fields":{"a/b~":[1]}}"#, "/fields/a~1b~0"),
            (r#"{"fields":{"a":{"b":1}}}"#, "/fields/a"),
            (r#"{"fields":{"a":{"base64":"?"}}}"#, "/fields/a"),
            (r#"{"fields":{"a":"1","a":"2"}}"#, "/fields/a"),
            (r#"{"fields":{"a":"\ud800"}}"#, "/fields/a"),
            (r#"{"pairs":[["a"]]}"#, "/pairs/0"),
            (r#"{"pairs":[["a",null]]}"#, "/pairs/0/1"),
            (r#"{"fields":{"a":1},"id":5}"#, "/id"),
            (r#"{"fields":{"a":1},"extra":5}"#, "/extra"),
            (r#"{"fields":{"a":1},"fields":{"b":1}}"#, "/fields"),
        ] {
            assert_eq!(parse(json).unwrap_err().pointer, pointer, "{json}");
        }
    }

    #[test]
    fn no_more_fields_are_read_than_tell_that_there_are_too_many() {
        let pairs = format!("{{\"pairs\":[{}]}}", vec!["[\"a\",1]"; 1000].join(","));
        let fields: Vec<String> = (0..1000).map(|n| format!("\"{n}\":1")).collect();
        for json in [pairs, format!("{{\"fields\":{{{}}}}}", fields.join(","))] {
            assert_eq!(parse(&json).unwrap().fields.len(), 101, "{json}");
            assert_eq!(parse_line(json.as_bytes(), 999).unwrap().fields.len(), 1000);
            assert_eq!(
                parse_line(json.as_bytes(), 1000).unwrap().fields.len(),
                1000
            );
        }
    }

    #[test]
    fn a_batch_is_pointed_into() {
        for (json, pointer) in [
            (r#"{"entries":[]}"#, "/entries"),
            (r#"{"entries":{}}"#, "/entries"),
            (
                r#"[{"fields":{"a":1}},{"fields":{"a":null}}]"#,
                "/1/fields/a",
            ),
            ("[5]", "/0"),
            (
                r#"{"entries":[{"fields":{"a":1}},{"fields":{"a":null}}]}"#,
                "/entries/1/fields/a",
            ),
            (r#"{"entries":[{"fields":{"a":1}}],"id":"*"}"#, "/id"),
            (
                r#"{"entries":[{"fields":{"a":1},"key":5}]}"#,
                "/entries/0/key",
            ),
        ] {
            let refused = first_refused(super::parse(serde_json::from_str(json).unwrap(), 100));
            assert_eq!(refused.pointer, pointer, "{json}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_what_is_read(
            fields in prop::collection::vec(
                (prop::collection::vec(any::<u8>(), 0..6), prop::collection::vec(any::<u8>(), 0..12)), 1..6),
            pairs: bool,
        ) {
            let entry = Entry { id: EntryId::new(1, 0), fields };
            let view = View { pairs, ..View::default() };
            let json = serde_json::to_string(&EntryJson { stream: None, position: None, entry: &entry, view: &view }).unwrap();
            prop_assert_eq!(parse(&json).unwrap().fields, entry.fields);
        }
    }
}
