//! Responses as bytes, as hyper writes them.

use std::cell::RefCell;
use std::io::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::header::{CONTENT_TYPE, ETAG, LOCATION};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::FutureExt as _;
use http_body_util::{BodyExt as _, Collected};
use serde::Serialize;

use crate::http::layer::request::Waited;
use crate::http::layer::response_budget::LARGE;
use crate::http::respond::json::MOST;
use crate::model::frame::write_line;

/// The usual size of a response.
const USUAL: usize = 512;

/// A response as bytes.
pub(crate) struct ResponseBytes {
    /// The head, and the body of a small response.
    head: Vec<u8>,
    /// The body of a large response, whose memory is counted until it is dropped.
    body: Bytes,
}

/// The outcome of a request that succeeded.
pub(super) struct Success {
    pub(super) created: Option<CreatedEntry>,
    /// The body, in JSON.
    pub(super) body: Vec<u8>,
    /// Whether the request waited on purpose.
    pub(super) has_waited: bool,
}

/// The entry that a request created.
pub(super) struct CreatedEntry {
    pub(super) location: String,
    pub(super) id: String,
}

impl Success {
    /// Returns a success with this body, which created nothing.
    pub(super) fn ok(body: &impl Serialize, has_waited: bool) -> Self {
        let mut text = Vec::with_capacity(MOST);
        write_line(&mut text, body);
        Self {
            created: None,
            body: text,
            has_waited,
        }
    }

    /// Returns whether the memory of the response need not be counted.
    pub(super) fn is_small(&self) -> bool {
        (self.body.len() as u64) < LARGE
    }

    /// Returns the bytes of the response, with everything that layers add.
    pub(super) fn encode(&self, request_id: &HeaderValue) -> ResponseBytes {
        let mut bytes = Vec::with_capacity(USUAL + self.body.len());
        let mut write = |parts: &[&[u8]]| {
            for part in parts {
                bytes.extend_from_slice(part);
            }
        };
        match &self.created {
            Some(CreatedEntry { location, id }) => write(&[
                b"HTTP/1.1 201 Created\r\ncontent-type: application/json\r\nlocation: ",
                location.as_bytes(),
                b"\r\netag: \"",
                id.as_bytes(),
                b"\"\r\n",
            ]),
            None => write(&[b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"]),
        }
        write(&[
            b"cache-control: no-store\r\nx-content-type-options: nosniff\r\nx-request-id: ",
            request_id.as_bytes(),
            b"\r\n",
        ]);
        end(&mut bytes, self.body.len());
        bytes.extend_from_slice(&self.body);
        ResponseBytes::small(bytes)
    }
}

impl IntoResponse for Success {
    /// Returns the response without what layers add.
    fn into_response(self) -> Response {
        let mut response = Response::new(self.body.into());
        let mut insert = |name: HeaderName, value: String| {
            // Ids and locations are visible ASCII.
            if let Ok(value) = HeaderValue::try_from(value) {
                response.headers_mut().insert(name, value);
            }
        };
        insert(CONTENT_TYPE, "application/json".to_owned());
        if let Some(CreatedEntry { location, id }) = self.created {
            insert(LOCATION, location);
            insert(ETAG, format!("\"{id}\""));
            *response.status_mut() = StatusCode::CREATED;
        }
        if self.has_waited {
            response.extensions_mut().insert(Waited);
        }
        response
    }
}

impl ResponseBytes {
    /// Returns bytes that follow the first `written` ones; none at the end.
    pub(crate) fn after(&self, written: usize) -> &[u8] {
        match self.head.get(written..) {
            Some(left @ [_, ..]) => left,
            _ => &self.body[written - self.head.len()..],
        }
    }

    fn small(head: Vec<u8>) -> Self {
        let body = Bytes::new();
        Self { head, body }
    }
}

/// Returns the bytes of a response whose body is at hand.
pub(super) fn encode(response: Response) -> ResponseBytes {
    let (parts, body) = response.into_parts();
    let body = body.collect().now_or_never().and_then(Result::ok);
    let body = body.map(Collected::to_bytes).unwrap_or_default();
    let mut head = Vec::with_capacity(USUAL);
    let reason = parts.status.canonical_reason().unwrap_or("<none>");
    // Writing into a vector cannot fail.
    let _ = write!(head, "HTTP/1.1 {} {reason}\r\n", parts.status.as_str());
    for (name, value) in &parts.headers {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            head.extend_from_slice(part);
        }
    }
    end(&mut head, body.len());
    if (body.len() as u64) < LARGE {
        head.extend_from_slice(&body);
        return ResponseBytes::small(head);
    }
    ResponseBytes { head, body }
}

/// Adds the headers that hyper adds, and the end of the head.
fn end(head: &mut Vec<u8>, length: usize) {
    let _ = write!(head, "content-length: {length}\r\ndate: ");
    write_date(head);
    head.extend_from_slice(b"\r\n\r\n");
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
