//! Parsing of entries from JSON: `{"fields":{…}}` or `{"pairs":[…]}`, one or a batch. Numbers and
//! booleans keep their original text. Errors point at the invalid value.

use std::borrow::Cow;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::model::entry::Fields;
use crate::model::json_text;
use crate::model::members::{items, members};

/// The number of members to read, which is more than an entry or a batch can have.
const MEMBERS: usize = 16;
/// The maximum number of entries in a batch.
pub const MAX_BATCH: usize = 10_000;

/// The error for an invalid JSON entry: the location as a JSON pointer, and the problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidEntry {
    /// RFC 6901 pointer into the body, empty for the whole body; or the name of a header.
    pub pointer: String,
    /// A text that can be shown to the client.
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

/// An entry as it was sent: its fields and the requested id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SentEntry {
    /// The fields, in the order in which they were sent.
    pub fields: Fields,
    /// The text of `id`, not parsed yet.
    pub id: Option<String>,
    /// The idempotency key of this entry.
    pub key: Option<String>,
}

/// The contents of a JSON body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// One entry.
    One(SentEntry),
    /// `{"entries":[…]}`, or an array of entries.
    Many(Batch),
}

/// A batch of entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The location of the array in the body, as a JSON pointer.
    pub at: &'static str,
    /// The entries, with an error for each invalid item.
    pub entries: Vec<Result<SentEntry, InvalidEntry>>,
}

/// Parses one entry, or a batch: `{"entries":[…]}` or an array of entries. The text must already be
/// valid JSON. An entry with more than `most` fields is read up to one field past that limit, so
/// that the caller can refuse it.
///
/// # Errors
/// Returns an [`InvalidEntry`] that points at the first value that is not a valid entry.
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
            "a body with `entries` must not have other members",
        ));
    }
    batch(list, "/entries", most, parse_entry)
}

/// Parses an array of entries. `at` is its location in the body.
pub(super) fn batch(
    json: &RawValue,
    at: &'static str,
    most: usize,
    parse: fn(&RawValue, &str, usize) -> Result<SentEntry, InvalidEntry>,
) -> Result<Sent, InvalidEntry> {
    // One entry over the limit is enough to refuse the batch, so errors are not collected for each
    // of a million entries.
    let Some(list) = items(json, MAX_BATCH) else {
        return Err(InvalidEntry::at(at, "a batch must be an array of entries"));
    };
    if list.is_empty() {
        return Err(InvalidEntry::at(at, "a batch must have at least one entry"));
    }
    let entry = |(index, entry)| parse(entry, &format!("{at}/{index}"), most);
    let entries = list.into_iter().enumerate().map(entry).collect();
    Ok(Sent::Many(Batch { at, entries }))
}

/// Parses one entry from a line of NDJSON. As in [`parse`], at most `most + 1` fields are read.
///
/// # Errors
/// Returns an [`InvalidEntry`] that points at the first value that is not a valid entry.
pub fn parse_line(text: &[u8], most: usize) -> Result<SentEntry, InvalidEntry> {
    parse_entry(line(text)?, "", most)
}

/// Returns the JSON value on a line of NDJSON.
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

/// Parses `{"fields":{…}}` or `{"pairs":[[name,value],…]}`, with `id` and `key` if present.
///
/// The text must already be valid JSON. `pointer` is its location in the body.
///
/// # Errors
/// Returns an [`InvalidEntry`] that points at the first value that is not a valid entry.
fn parse_entry(json: &RawValue, pointer: &str, most: usize) -> Result<SentEntry, InvalidEntry> {
    parse_entry_beside(json, pointer, most, "position")
}

/// Parses an entry that names its stream: `{"stream":…,"fields":{…}}`.
///
/// # Errors
/// Returns an [`InvalidEntry`] that points at the first value that is not a valid entry.
pub fn parse_for_stream(
    json: &RawValue,
    pointer: &str,
    most: usize,
) -> Result<(String, SentEntry), InvalidEntry> {
    let entry = parse_entry_beside(json, pointer, most, "stream")?;
    let members = members(json, MEMBERS).unwrap_or_default();
    let at = format!("{pointer}/stream");
    let Some((_, stream)) = members.iter().find(|(name, _)| name == "stream") else {
        return Err(InvalidEntry::at(at, "is required"));
    };
    Ok((parse_text(stream, &at)?, entry))
}

/// Parses an entry with one more member, which is ignored.
fn parse_entry_beside(
    json: &RawValue,
    pointer: &str,
    most: usize,
    beside: &str,
) -> Result<SentEntry, InvalidEntry> {
    let hint = "an entry must be {\"fields\":{…}} or {\"pairs\":[[name,value],…]}";
    let Some(members) = members(json, MEMBERS) else {
        return Err(InvalidEntry::at(
            pointer,
            format!("{hint}; to store any other JSON unchanged, use ?payload=data"),
        ));
    };
    if !members
        .iter()
        .any(|(name, _)| name == "fields" || name == "pairs")
    {
        return Err(InvalidEntry::at(
            pointer,
            "the entry has neither `fields` nor `pairs`: wrap it as {\"fields\":{…}}, store its \
             members as fields with ?as=fields, or store it unchanged with ?payload=data",
        ));
    }
    let (mut fields, mut sent) = (None, SentEntry::default());
    let has_fields = members.iter().any(|(name, _)| name == "fields");
    let mut seen = Vec::new();
    for (name, value) in &members {
        let at = format!("{pointer}/{}", escape(name));
        if seen.contains(&name) {
            return Err(InvalidEntry::at(at, "this member is given twice"));
        }
        seen.push(name);
        match name.as_ref() {
            // Some generated clients send an empty list for one that was not set.
            "pairs" if has_fields && is_empty_list(value) => {}
            "fields" if fields.is_none() => fields = Some(parse_object(value, &at, most)?),
            "fields" | "pairs" if fields.is_some() => {
                return Err(InvalidEntry::at(at, "send `fields` or `pairs`, not both"));
            }
            "pairs" => fields = Some(parse_pairs(value, &at, most)?),
            "id" => sent.id = Some(parse_text(value, &at)?),
            "key" => sent.key = Some(parse_text(value, &at)?),
            // Lines that were read can be sent back unchanged, with their `position`.
            name if name == beside => {}
            _ => {
                return Err(InvalidEntry::at(
                    at,
                    "unknown member: an entry has `fields` or `pairs`, `id` and `key`",
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
    serde_json::from_str(json.get())
        .map_err(|_| InvalidEntry::at(pointer, "the value must be a string"))
}

fn parse_object(json: &RawValue, pointer: &str, most: usize) -> Result<Fields, InvalidEntry> {
    let Some(members) = members(json, most) else {
        return Err(InvalidEntry::at(pointer, "`fields` must be an object"));
    };
    let mut names: Vec<&str> = members.iter().map(|(name, _)| name.as_ref()).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        let at = format!("{pointer}/{}", escape(twice[0]));
        return Err(InvalidEntry::at(
            at,
            "the field is given twice; send repeated names in `pairs`",
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
            "`pairs` must be an array of [name, value]",
        ));
    };
    let pairs = list.iter().enumerate().map(|(index, pair)| {
        let Ok([name, value]) = serde_json::from_str::<[&RawValue; 2]>(pair.get()) else {
            return Err(InvalidEntry::at(
                format!("{pointer}/{index}"),
                "a pair must be [name, value]",
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
                    "the string is not valid Unicode; send bytes as {\"base64\":\"…\"}",
                )
            }),
        Some(b'0'..=b'9' | b'-' | b't' | b'f') => Ok(text.as_bytes().to_vec()),
        Some(b'{') => {
            let encoded =
                serde_json::from_str::<Binary<'_>>(text).map_err(|_| nested(pointer()))?;
            BASE64_STANDARD
                .decode(encoded.base64.as_bytes())
                .map_err(|_| {
                    InvalidEntry::at(
                        pointer(),
                        "the value is not base64 (standard alphabet, padded)",
                    )
                })
        }
        _ => Err(nested(pointer())),
    }
}

fn nested(pointer: String) -> InvalidEntry {
    InvalidEntry {
        pointer,
        detail: "a value must be a string, a number, a boolean or {\"base64\":\"…\"}, not null or \
                 nested JSON; to store a whole JSON document, use ?payload=data"
            .to_owned(),
    }
}

/// Escapes a name as a token of a JSON pointer.
pub(super) fn escape(token: &str) -> String {
    token.replace('~', "~0").replace('/', "~1")
}

/// Returns the first error in a body or its entries.
#[cfg(test)]
pub(super) fn first_refused(sent: Result<Sent, InvalidEntry>) -> InvalidEntry {
    match sent {
        Ok(Sent::Many(batch)) => batch.entries.into_iter().find_map(Result::err).unwrap(),
        other => other.unwrap_err(),
    }
}

#[cfg(test)]
mod tests;
