//! `CloudEvents`: an event accepted in one mode is also accepted in binary mode, as the same entry.

use std::collections::BTreeSet;

use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use serde_json::value::RawValue;
use streamgate::model::cloudevent;
use streamgate::model::cloudevent_json::{batch, structured};
use streamgate::model::entry::Fields;
use streamgate::model::sent::{InvalidEntry, Sent, SentEntry};

use super::bytes::Taker;

/// Checks the structured and the batched mode.
pub fn json(data: &[u8]) {
    let Ok(json) = serde_json::from_slice::<&RawValue>(data) else {
        return;
    };
    for sent in [structured(json, usize::MAX), batch(json, usize::MAX)] {
        let entries = match sent {
            Ok(Sent::One(entry)) => vec![Ok(entry)],
            Ok(Sent::Many(batch)) => batch.entries,
            Err(refused) => vec![Err(refused)],
        };
        assert!(!entries.is_empty());
        entries.into_iter().for_each(check);
    }
}

/// Header names with a meaning; others come from the input.
const HEADERS: [&str; 10] = [
    "ce-specversion",
    "ce-id",
    "ce-source",
    "ce-type",
    "ce-time",
    "ce-subject",
    "ce-dataschema",
    "content-type",
    "ce-x",
    "accept",
];

/// Checks the binary mode.
pub fn binary(data: &[u8]) {
    let mut from = Taker(data);
    let mut headers: Vec<(String, Vec<u8>)> = Vec::new();
    if from.byte() % 2 == 0 {
        for (name, value) in HEADERS.into_iter().zip(["1.0", "1", "/s", "t"]) {
            headers.push((name.to_owned(), value.as_bytes().to_vec()));
        }
    }
    for _ in 0..from.byte() % 12 {
        let choice = usize::from(from.byte());
        let name = HEADERS
            .get(choice)
            .map_or_else(|| from.text(), |name| (*name).to_owned());
        headers.push((name, from.bytes().to_vec()));
    }
    check(one(&headers, from.0));
}

fn one(headers: &[(String, Vec<u8>)], body: &[u8]) -> Result<SentEntry, InvalidEntry> {
    let headers = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_slice()));
    match cloudevent::binary(headers, body)? {
        Sent::One(entry) => Ok(entry),
        Sent::Many(_) => panic!("one event is many entries"),
    }
}

fn check(sent: Result<SentEntry, InvalidEntry>) {
    let entry = match sent {
        Ok(entry) => entry,
        Err(refused) => return assert!(!refused.detail.is_empty()),
    };
    let names: Vec<&[u8]> = entry
        .fields
        .iter()
        .map(|(name, _)| name.as_slice())
        .collect();
    let required: [&[u8]; 4] = [b"ce_specversion", b"ce_id", b"ce_source", b"ce_type"];
    assert!(names.starts_with(&required));
    assert_eq!(entry.fields[0].1, b"1.0");
    assert_eq!(
        names.iter().collect::<BTreeSet<_>>().len(),
        names.len(),
        "{names:?}"
    );

    let (mut headers, mut body) = (Vec::new(), Vec::new());
    for (name, value) in &entry.fields {
        match name.as_slice() {
            b"data" => body.clone_from(value),
            b"content-type" => headers.push(("content-type".to_owned(), value.clone())),
            name => {
                let name = String::from_utf8_lossy(name).replacen("ce_", "ce-", 1);
                let encoded = percent_encode(value, NON_ALPHANUMERIC).to_string();
                headers.push((name, encoded.into_bytes()));
            }
        }
    }
    // HTTP does not distinguish an empty body from a missing one.
    let has_data = |(name, value): &(Vec<u8>, Vec<u8>)| name != b"data" || !value.is_empty();
    let expected: Fields = entry.fields.into_iter().filter(has_data).collect();
    assert_eq!(one(&headers, &body).map(|entry| entry.fields), Ok(expected));
}
