//! Entries as JSON, and bodies split into lines.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::Value;
use serde_json::value::RawValue;
use streamgate::model::entry::{Entry, View};
use streamgate::model::entry_json::EntryJson;
use streamgate::model::id::EntryId;
use streamgate::model::lines::{Line, Lines};
use streamgate::model::sent::{self, InvalidEntry, Sent, SentEntry};
use streamgate::model::{bare, json_text};

use super::bytes::Taker;
use super::tree::Tree;

/// Checks that accepted entries equal the input, and that errors point at a value in the input.
pub fn json(data: &[u8]) {
    let data = json_text::without_mark(data);
    let value = serde_json::from_slice::<Value>(data).ok();
    let tree = serde_json::from_slice::<Tree>(data).ok();
    let alone = sent::parse_line(data, usize::MAX);
    let Ok(raw) = serde_json::from_slice::<&RawValue>(data) else {
        assert!(alone.is_err());
        return;
    };
    match sent::parse(raw, usize::MAX) {
        Ok(Sent::One(entry)) => {
            assert_eq!(alone.as_ref(), Ok(&entry));
            check(&entry, value.as_ref());
        }
        Ok(Sent::Many(batch)) => {
            assert!(alone.is_err() && !batch.entries.is_empty());
            let list = value.as_ref().and_then(|value| value.pointer(batch.at));
            for (index, entry) in batch.entries.iter().enumerate() {
                match entry {
                    Ok(entry) => check(entry, list.map(|list| &list[index])),
                    Err(refused) => points(refused, tree.as_ref()),
                }
            }
        }
        Err(refused) => points(&refused, tree.as_ref()),
    }
}

/// Checks objects whose members are fields, and the explanations for texts that are not JSON.
pub fn bare(data: &[u8]) {
    let alone = bare::parse_line(data, usize::MAX);
    let text = json_text::without_mark(data);
    let raw = match serde_json::from_slice::<&RawValue>(text) {
        Ok(raw) => raw,
        Err(error) => {
            let why = json_text::explain(text, &error);
            assert!(alone.is_err() && why.starts_with(|char: char| char != ' '));
            // The explanation may contain at most one character of the input.
            assert!(why.len() < 200, "{why}");
            return;
        }
    };
    let tree = serde_json::from_str::<Tree>(raw.get()).ok();
    match bare::parse(raw, usize::MAX) {
        Ok(Sent::One(entry)) => {
            assert_eq!(alone.as_ref(), Ok(&entry));
            let members = serde_json::from_str::<Value>(raw.get()).ok();
            let Some(members) = members.as_ref().and_then(Value::as_object) else {
                return;
            };
            assert_eq!(members.len(), entry.fields.len());
            for (name, stored) in &entry.fields {
                match &members[String::from_utf8_lossy(name).as_ref()] {
                    Value::String(text) => assert_eq!(text.as_bytes(), stored),
                    Value::Null => panic!("null was accepted"),
                    other => assert!(
                        serde_json::from_slice::<Value>(stored).is_ok_and(|it| it == *other)
                    ),
                }
            }
        }
        Ok(Sent::Many(batch)) => {
            assert!(alone.is_err() && batch.at.is_empty() && !batch.entries.is_empty());
            let refused = batch
                .entries
                .iter()
                .filter_map(|entry| entry.as_ref().err());
            refused.for_each(|refused| points(refused, tree.as_ref()));
        }
        Err(refused) => points(&refused, tree.as_ref()),
    }
}

/// Compares an entry with the result of a general JSON parser, and with a round trip through our
/// serializer.
fn check(entry: &SentEntry, value: Option<&Value>) {
    assert!(!entry.fields.is_empty());
    if let Some(fields) = value.and_then(|value| value["fields"].as_object()) {
        assert_eq!(fields.len(), entry.fields.len());
        for (name, bytes) in &entry.fields {
            let name = String::from_utf8_lossy(name);
            assert_eq!(&bytes_of(&fields[name.as_ref()], bytes), bytes, "{name:?}");
        }
    }
    let entry = Entry {
        id: EntryId::new(1, 0),
        fields: entry.fields.clone(),
    };
    for pairs in [false, true] {
        let view = View {
            pairs,
            ..View::default()
        };
        let json = EntryJson {
            stream: None,
            position: None,
            entry: &entry,
            view: &view,
        };
        let Ok(text) = serde_json::to_string(&json) else {
            panic!("an entry cannot be serialized")
        };
        let again = sent::parse_line(text.as_bytes(), usize::MAX);
        assert_eq!(
            again.map(|sent| sent.fields).as_ref(),
            Ok(&entry.fields),
            "{text}"
        );
    }
}

fn bytes_of(value: &Value, stored: &[u8]) -> Vec<u8> {
    match value {
        Value::String(text) => text.clone().into_bytes(),
        Value::Bool(truth) => truth.to_string().into_bytes(),
        // The text is kept as written, so another parser must read the same number.
        Value::Number(number) => {
            let same = serde_json::from_slice::<Value>(stored).is_ok_and(|read| read == *value);
            if same {
                stored.to_vec()
            } else {
                number.to_string().into_bytes()
            }
        }
        other => {
            let text = other["base64"]
                .as_str()
                .unwrap_or_else(|| panic!("{other} was accepted"));
            BASE64_STANDARD
                .decode(text)
                .unwrap_or_else(|_| panic!("{text} was accepted"))
        }
    }
}

/// Checks that an error points at an existing value.
fn points(refused: &InvalidEntry, tree: Option<&Tree>) {
    assert!(!refused.detail.is_empty());
    if let Some(tree) = tree {
        assert!(
            tree.has(&refused.pointer),
            "{:?} does not exist",
            refused.pointer
        );
    }
}

/// Checks that the lines of a body do not depend on how it is split into parts, and that at most
/// one line is held.
pub fn lines(data: &[u8]) {
    let mut from = Taker(data);
    let longest = usize::from(from.byte() % 32) + 1;
    let cuts: Vec<usize> = from.bytes().iter().map(|cut| usize::from(*cut)).collect();
    let text = from.0;
    let whole = text.strip_suffix(b"\n").unwrap_or(text);
    let mut expected: Vec<Option<&[u8]>> = whole
        .split(|byte| *byte == b'\n')
        .map(|line| (line.len() <= longest).then(|| line.strip_suffix(b"\r").unwrap_or(line)))
        .collect();
    if text.is_empty() {
        expected.clear();
    }
    let mut expected = expected.into_iter();
    let mut lines = Lines::new(longest);
    let mut take = |lines: &mut Lines| {
        while let Some(line) = lines.next_line() {
            let line = match line {
                Line::Text(text) => Some(text),
                Line::TooLong => None,
            };
            assert_eq!(expected.next(), Some(line));
        }
    };
    let (mut rest, mut cuts) = (text, cuts.into_iter());
    while !rest.is_empty() {
        let (part, after) = rest.split_at(cuts.next().unwrap_or(rest.len()).min(rest.len()));
        lines.push(part);
        take(&mut lines);
        rest = after;
    }
    lines.end();
    take(&mut lines);
    assert_eq!(expected.next(), None);
}
