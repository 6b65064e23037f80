//! HTTP/1.1 connections: every head is checked before hyper parses it.

use streamgate::net::reading::{ConnectionOutcome, serve};

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
