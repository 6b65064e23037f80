//! Responses as bytes, as hyper writes them.

use std::cell::RefCell;
use std::io::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::HeaderValue;
use axum::response::Response;
use futures_util::FutureExt as _;
use http_body_util::{BodyExt as _, Collected};

use crate::http::entries::append::answer::AppendAnswer;
use crate::http::paths;
use crate::model::frame::write_line;
use crate::model::id::EntryId;
use crate::model::name::StreamName;

/// The usual size of a response.
const USUAL: usize = 512;

/// Returns the response to an append of one entry.
pub(super) fn created(stream: &StreamName, id: EntryId, request_id: &HeaderValue) -> Vec<u8> {
    let id = id.to_string();
    let location = paths::entry(stream, &id);
    let mut body = Vec::with_capacity(128);
    write_line(&mut body, &AppendAnswer::one(stream, id.clone(), None));
    let mut bytes = Vec::with_capacity(USUAL);
    let parts: [&[u8]; 7] = [
        b"HTTP/1.1 201 Created\r\ncontent-type: application/json\r\nlocation: ",
        location.as_bytes(),
        b"\r\netag: \"",
        id.as_bytes(),
        b"\"\r\ncache-control: no-store\r\nx-content-type-options: nosniff\r\nx-request-id: ",
        request_id.as_bytes(),
        b"\r\n",
    ];
    for part in parts {
        bytes.extend_from_slice(part);
    }
    end(&mut bytes, &body);
    bytes
}

/// Returns the bytes of a response whose body is at hand.
pub(super) fn encode(response: Response) -> Vec<u8> {
    let (parts, body) = response.into_parts();
    let body = body.collect().now_or_never().and_then(Result::ok);
    let body = body.map(Collected::to_bytes).unwrap_or_default();
    let mut bytes = Vec::with_capacity(USUAL + body.len());
    let reason = parts.status.canonical_reason().unwrap_or("<none>");
    // Writing into a vector cannot fail.
    let _ = write!(bytes, "HTTP/1.1 {} {reason}\r\n", parts.status.as_str());
    for (name, value) in &parts.headers {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            bytes.extend_from_slice(part);
        }
    }
    end(&mut bytes, &body);
    bytes
}

/// Adds the headers that hyper adds, and the body.
fn end(bytes: &mut Vec<u8>, body: &[u8]) {
    let _ = write!(bytes, "content-length: {}\r\ndate: ", body.len());
    write_date(bytes);
    bytes.extend_from_slice(b"\r\n\r\n");
    bytes.extend_from_slice(body);
}

/// Writes the time of day, which is formatted once a second.
fn write_date(bytes: &mut Vec<u8>) {
    thread_local! {
        static FORMATTED: RefCell<(u64, String)> = RefCell::default();
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let second = now.map_or(0, |now| now.as_secs());
    FORMATTED.with_borrow_mut(|(of, text)| {
        if *of != second || text.is_empty() {
            *of = second;
            *text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(second));
        }
        bytes.extend_from_slice(text.as_bytes());
    });
}
