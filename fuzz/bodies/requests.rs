//! Bodies of appends by their media type, and headers.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use streamgate::http::reading;
use streamgate::model::sent::Sent;

use super::bytes::Taker;

const TYPES: [&str; 9] = [
    "multipart/form-data; boundary=X",
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

/// Checks that a body yields entries with at least one field each, or a client error.
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
            assert!(
                entries
                    .iter()
                    .flatten()
                    .all(|entry| !entry.fields.is_empty())
            );
            if let Some(field) = payload {
                let Ok(entry) = &entries[0] else {
                    panic!("a payload was refused")
                };
                assert_eq!(entry.fields[0], (field.into_bytes(), from.0.to_vec()));
                let of_type = entry.fields.get(1).map(|(_, value)| value.as_slice());
                assert_eq!(of_type, media_type.as_ref().map(HeaderValue::as_bytes));
            }
        }
        Err(error) => assert!(error.code.status().is_client_error() && payload.is_none()),
    }
}

/// Checks that parts become fields in order, with all their bytes, and that anything else is
/// refused.
pub fn multipart(data: &[u8]) {
    let mut headers = HeaderMap::new();
    headers.insert(
        "content-type",
        HeaderValue::from_static("multipart/form-data; boundary=XX"),
    );
    if let Ok(Sent::Many(_)) = reading::append_body(None, headers.clone(), data) {
        panic!("a form is many entries");
    }
    let mut from = Taker(data);
    let (mut body, mut fields) = (Vec::new(), Vec::new());
    for _ in 0..from.byte() % 8 {
        let name = format!("n{}", from.byte());
        let file = (from.byte() % 2 == 1).then(|| format!("f{}", from.byte()));
        let value = from.bytes();
        if value.windows(4).any(|part| part == b"--XX") {
            continue;
        }
        let beside = file.as_ref().map(|file| format!("; filename=\"{file}\""));
        let head = format!(
            "--XX\r\nContent-Disposition: form-data; name=\"{name}\"{}\r\n\r\n",
            beside.unwrap_or_default()
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(value);
        body.extend_from_slice(b"\r\n");
        fields.push((name.clone().into_bytes(), value.to_vec()));
        let beside = file.map(|file| (format!("{name}.filename").into_bytes(), file.into_bytes()));
        fields.extend(beside);
    }
    if fields.is_empty() {
        return;
    }
    body.extend_from_slice(b"--XX--\r\n");
    match reading::append_body(None, headers, &body) {
        Ok(Sent::One(entry)) => assert_eq!(entry.fields, fields),
        other => panic!("{:?} of {body:?}", other.is_err()),
    }
}

/// Checks that a decompressed body never exceeds its limit.
pub fn inflated(data: &[u8]) {
    let mut from = Taker(data);
    let coding = ["gzip", "deflate", "zstd", "identity", "br"][usize::from(from.byte() % 5)];
    let most = usize::from(from.byte() % 8) + 1;
    let mut headers = HeaderMap::new();
    headers.insert("content-encoding", HeaderValue::from_static(coding));
    match reading::inflated(&headers, from.0, most) {
        Err(error) => assert!(coding == "br" && error.code.status() == 415),
        Ok(Some(length)) if coding == "identity" => assert_eq!(length, from.0.len()),
        // The limit allows one more part, and the first MiB is exempt.
        Ok(length) => {
            assert!(length.unwrap_or(0) <= (1 << 20).max(most * (from.0.len() + 1)) + (16 << 10));
        }
    }
}

/// Checks that headers are parsed, or refused with a client error.
pub fn headers(data: &[u8]) {
    let headers = headers_from(&mut Taker(data));
    if let Err(error) = reading::headers(&headers) {
        assert!(error.code.status().is_client_error());
    }
}
