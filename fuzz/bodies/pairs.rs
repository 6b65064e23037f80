//! Forms and queries.

use std::str::from_utf8;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use streamgate::http::reading::{PairsError, pairs};
use streamgate::model::{form, form_check};

/// Checks that forms are decoded according to their standard, except that invalid UTF-8 is
/// preserved.
pub fn form(data: &[u8]) {
    let read: Vec<_> = form::pairs(data).collect();
    let parts = data
        .split(|byte| *byte == b'&')
        .filter(|part| !part.is_empty());
    let expected: Vec<_> = parts
        .map(|part| {
            let at = part.iter().position(|byte| *byte == b'=');
            let value = at.map_or(&part[part.len()..], |at| &part[at + 1..]);
            (decode(&part[..at.unwrap_or(part.len())]), decode(value))
        })
        .collect();
    assert_eq!(read, expected);
}

/// Checks that an accepted form parses as a form and can be sent again.
pub fn form_check(data: &[u8]) {
    let few = form_check::fields(data, 2);
    let Ok(fields) = form_check::fields(data, usize::MAX) else {
        return;
    };
    assert_eq!(few.map(|few| few.len()), Ok(fields.len().min(3)));
    assert!(form::pairs(data).eq(fields.iter().cloned()));
    assert!(form_check::check_start(data).is_ok());
    let text = |bytes: &[u8]| from_utf8(bytes).map_or_else(|_| panic!("not text"), str::to_owned);
    assert!(
        fields
            .iter()
            .all(|(name, _)| (1..=256).contains(&name.len()))
    );
    assert!(
        data.split(|byte| *byte == b'&')
            .all(|pair| pair.is_empty() || pair.contains(&b'='))
    );
    let encode = |bytes| utf8_percent_encode(&text(bytes), NON_ALPHANUMERIC).to_string();
    // The extra pair prevents a pair of letters alone from being taken for base64.
    let again: Vec<_> = fields
        .iter()
        .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
        .collect();
    let again = form_check::fields(format!("{}&last=1", again.join("&")).as_bytes(), usize::MAX);
    assert_eq!(
        again.map(|mut again| (again.pop().is_some(), again)),
        Ok((true, fields))
    );
}

fn decode(text: &[u8]) -> Vec<u8> {
    let digit = |at: usize| text.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let (mut decoded, mut at) = (Vec::new(), 0);
    while let Some(byte) = text.get(at) {
        let (plain, step) = match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => (u8::try_from(high * 16 + low).unwrap_or(0), 3),
            (b'+', ..) => (b' ', 1),
            (plain, ..) => (*plain, 1),
        };
        decoded.push(plain);
        at += step;
    }
    decoded
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Sample {
    limit: Option<u64>,
    small: u16,
    signed: Option<i64>,
    pairs: bool,
    name: Option<String>,
    order: Option<Order>,
    ids: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Order {
    Asc,
    Desc,
}

const KNOWN: [&str; 7] = ["limit", "small", "signed", "pairs", "name", "order", "ids"];

/// Checks that parameters are parsed by type, or that an error names one of them.
pub fn query(data: &[u8]) {
    let sent: Vec<_> = form::pairs(data)
        .map(|(name, value)| (String::from_utf8(name), String::from_utf8(value)))
        .collect();
    let values = |wanted: &str| -> Vec<String> {
        let named = sent
            .iter()
            .filter(|(name, _)| name.as_deref() == Ok(wanted));
        named.filter_map(|(_, value)| value.clone().ok()).collect()
    };
    match pairs::<Sample>(data) {
        Ok(sample) => {
            let one = |name: &str| values(name).first().cloned();
            assert_eq!(
                sample.limit,
                one("limit").map(|text| text.parse().unwrap_or(0))
            );
            assert_eq!(
                sample.small,
                one("small").map_or(0, |text| text.parse().unwrap_or(0))
            );
            assert_eq!(
                sample.signed,
                one("signed").map(|text| text.parse().unwrap_or(0))
            );
            let on = one("pairs");
            assert_eq!(
                sample.pairs,
                on.is_some_and(|text| text.is_empty() || text == "true")
            );
            assert_eq!(sample.name, one("name"));
            let order = sample.order.map(|order| match order {
                Order::Asc => "asc".to_owned(),
                Order::Desc => "desc".to_owned(),
            });
            assert_eq!(order, one("order"));
            assert_eq!(sample.ids, values("ids"));
            let known = |name: &String| name.starts_with('_') || KNOWN.contains(&name.as_str());
            assert!(sent.iter().all(|(name, _)| name.as_ref().is_ok_and(known)));
        }
        Err(PairsError::Unknown { name, nearest }) => {
            assert!(!KNOWN.contains(&name.as_str()) && !name.starts_with('_'));
            // A very long name is shortened.
            let is_it = |sent: &String| match name.strip_suffix('…') {
                Some(beginning) => sent.starts_with(beginning),
                None => *sent == name,
            };
            assert!(sent.iter().any(|(sent, _)| sent.as_ref().is_ok_and(is_it)));
            assert!(nearest.is_none_or(|nearest| KNOWN.contains(&nearest)));
        }
        Err(PairsError::Invalid { name, .. }) => {
            assert!(name.is_empty() || KNOWN.contains(&name.as_str()));
        }
    }
}
