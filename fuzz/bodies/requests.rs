//! Bodies of appends by their media type, and headers.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use streamgate::api::reading;
use streamgate::model::sent::Sent;

use super::bytes::Taker;

const TYPES: [&str; 8] = [
    "application/json",
    "application/x-www-form-urlencoded",
    "application/cloudevents+json",
    "application/cloudevents-batch+json",
    "Application/JSON; charset=utf-8",
    "text/plain",
    "application/cloudevents+avro",
    "",
];
const NAMES: [&str; 12] = [
    "content-type",
    "ce-specversion",
    "ce-id",
    "ce-source",
    "ce-type",
    "if-match",
    "if-none-match",
    "idempotency-key",
    "idempotency-producer",
    "accept",
    "last-event-id",
    "content-encoding",
];

fn headers_from(from: &mut Taker<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for _ in 0..from.byte() % 8 {
        let choice = usize::from(from.byte());
        let name = match NAMES.get(choice) {
            Some(name) => Ok(HeaderName::from_static(name)),
            None => HeaderName::from_bytes(from.bytes()),
        };
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(from.bytes())) {
            headers.append(name, value);
        }
    }
    headers
}

/// A body is entries, each with a field at least, or refused by a status that blames who sent it.
pub fn append_body(data: &[u8]) {
    let mut from = Taker(data);
    let payload = from.maybe_text();
    let mut headers = headers_from(&mut from);
    if let Some(known) = TYPES.get(usize::from(from.byte()))
        && let Ok(value) = HeaderValue::from_str(known)
    {
        headers.insert("content-type", value);
    }
    let media_type = headers.get("content-type").cloned();
    match reading::append_body(payload.as_deref(), headers, from.0) {
        Ok(sent) => {
            let entries = match sent {
                Sent::One(entry) => vec![Ok(entry)],
                Sent::Many(batch) => batch.entries,
            };
            assert!(!entries.is_empty());
            assert!(entries.iter().flatten().all(|entry| !entry.fields.is_empty()));
            if let Some(field) = payload {
                let Ok(entry) = &entries[0] else { panic!("a payload was refused") };
                assert_eq!(entry.fields[0], (field.into_bytes(), from.0.to_vec()));
                let of_type = entry.fields.get(1).map(|(_, value)| value.as_slice());
                assert_eq!(of_type, media_type.as_ref().map(HeaderValue::as_bytes));
            }
        }
        Err(error) => assert!(error.code.status().is_client_error() && payload.is_none()),
    }
}

/// Headers are read, or blamed.
pub fn headers(data: &[u8]) {
    let headers = headers_from(&mut Taker(data));
    if let Err(error) = reading::headers(&headers) {
        assert!(error.code.status().is_client_error());
    }
}
