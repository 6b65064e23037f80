//! HTTP/1.1 connections: every head is checked before hyper parses it.

use streamgate::http::FastTarget;
use streamgate::net::reading::{ConnectionOutcome, recognise_fast, serve};

/// The maximum size of a head, in bytes.
const MAX_HEAD: usize = 8 << 10;

/// Checks that hyper finds no errors after our own checks, and that splitting the bytes changes
/// nothing.
pub fn messages(data: &[u8]) {
    // The end of a head is added, because an incomplete head is refused only once it could be
    // complete.
    let data = &[data, b"\r\n\r\n"].concat();
    let whole = serve(data, usize::MAX, MAX_HEAD);
    let answers = String::from_utf8_lossy(&whole.answers);
    let statuses: Vec<_> = answers
        .split("\r\n")
        .filter(|line| line.starts_with("HTTP/1."))
        .collect();
    let answered = statuses
        .iter()
        .filter(|line| line.ends_with(" 200 OK"))
        .count();
    let informed = statuses
        .iter()
        .filter(|line| line.ends_with(" 100 Continue"))
        .count();
    assert_eq!(
        answered + informed,
        statuses.len(),
        "hyper sent a response of its own: {answers}"
    );
    assert_eq!(
        answered,
        whole.requests.len(),
        "a request without a response: {answers}"
    );
    if whole.refused {
        assert_eq!(
            whole.requests.last(),
            Some(&Some(0)),
            "a refused head must have no body"
        );
    }
    for part in [1, 2, 7] {
        let ConnectionOutcome {
            requests, refused, ..
        } = serve(data, part, MAX_HEAD);
        assert_eq!(
            (requests, refused),
            (whole.requests.clone(), whole.refused),
            "{part} at a time"
        );
    }
    // After any input, a malformed head is refused.
    if whole.requests.iter().all(Option::is_some) && !whole.refused {
        let mut more = data.clone();
        more.extend_from_slice(b"GET / HTTP/1.1\nhost: a\r\n\r\n");
        let after = serve(&more, usize::MAX, MAX_HEAD);
        let grew = after.requests.len() - whole.requests.len();
        assert!(after.refused || grew <= 1, "{after:?}");
    }
}

/// Headers that the fast path knows.
const KNOWN: [&str; 20] = [
    "accept",
    "accept-encoding",
    "accept-language",
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "forwarded",
    "host",
    "traceparent",
    "tracestate",
    "user-agent",
    "via",
    "x-api-key",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-real-ip",
    "x-request-id",
];

/// Checks that what takes the fast path is one request, that hyper reads it as the same one, and that
/// it has no header whose meaning the fast path does not know.
pub fn fast_path(data: &[u8]) {
    let target = |target: FastTarget<'_>| match target {
        FastTarget::Append { stream, maxlen } => {
            let query = maxlen.map_or(String::new(), |maxlen| format!("?maxlen={maxlen}"));
            format!("/v1/streams/{stream}/entries{query}")
        }
        FastTarget::Read { stream, group } => format!("/v1/streams/{stream}/groups/{group}/read"),
        FastTarget::Ack { stream, group } => format!("/v1/streams/{stream}/groups/{group}/ack"),
    };
    let Some(target) = recognise_fast(data, MAX_HEAD, target) else {
        return;
    };
    let end = data
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap();
    let body = &data[end + 4..];
    let outcome = serve(data, usize::MAX, MAX_HEAD);
    assert_eq!(outcome.requests, [Some(body.len() as u64)], "one request");
    assert!(!outcome.refused);
    let head = String::from_utf8_lossy(&data[..end]).into_owned();
    let mut lines = head.split("\r\n");
    assert_eq!(lines.next(), Some(&*format!("POST {target} HTTP/1.1")));
    let mut seen = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':').unwrap();
        let (name, value) = (name.to_ascii_lowercase(), value.trim());
        assert!(KNOWN.contains(&&*name), "{name} is not known");
        match &*name {
            "connection" => assert!(value.eq_ignore_ascii_case("keep-alive")),
            "content-length" => assert_eq!(value.parse(), Ok(body.len())),
            _ => {}
        }
        seen.push(name);
    }
    for needed in ["content-length", "content-type", "host"] {
        let count = seen.iter().filter(|name| *name == needed).count();
        assert_eq!(count, 1, "{needed}");
    }
}
