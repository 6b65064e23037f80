//! What comes over a connection of HTTP/1.1: every head is checked before hyper sees it.

use streamgate::net::reading::{Served, serve};

/// Bytes of a head.
const MAX_HEAD: usize = 8 << 10;

/// hyper finds no fault that was not found before, and how the bytes are cut changes nothing.
pub fn messages(data: &[u8]) {
    // A head that is refused in one piece is refused in parts only once it may be whole.
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
        "hyper answers by itself: {answers}"
    );
    assert_eq!(
        answered,
        whole.requests.len(),
        "a request without an answer: {answers}"
    );
    if whole.refused {
        assert_eq!(
            whole.requests.last(),
            Some(&Some(0)),
            "a refused head has no body"
        );
    }
    for part in [1, 2, 7] {
        let Served {
            requests, refused, ..
        } = serve(data, part, MAX_HEAD);
        assert_eq!(
            (requests, refused),
            (whole.requests.clone(), whole.refused),
            "{part} at a time"
        );
    }
    // Whatever went before, a head with a fault is refused.
    if whole.requests.iter().all(Option::is_some) && !whole.refused {
        let mut more = data.clone();
        more.extend_from_slice(b"GET / HTTP/1.1\nhost: a\r\n\r\n");
        let after = serve(&more, usize::MAX, MAX_HEAD);
        let grew = after.requests.len() - whole.requests.len();
        assert!(after.refused || grew <= 1, "{after:?}");
    }
}
