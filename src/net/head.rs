//! Validation of HTTP/1.1 request heads before hyper reads them. hyper accepts some heads that a
//! server in front may parse differently, and answers others with an empty 400.
//!
//! hyper accepts every head that passes this check. A test of `request_io.rs` compares both.

use std::mem::MaybeUninit;

use axum::http::Uri;
use httparse::{Error, Header, Request, Status};

use crate::http::Malformed;

/// Maximum number of header fields; more fail with 431.
const MAX_FIELDS: usize = 100;
/// Maximum length of the request target in bytes, as in the `http` crate; more fails with 414.
const MAX_TARGET: usize = u16::MAX as usize - 1;
/// Maximum length of a header field name in bytes, as in the `http` crate.
const MAX_NAME: usize = u16::MAX as usize;
/// The first byte of a TLS handshake.
const TLS_HANDSHAKE: u8 = 0x16;

/// The framing of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyFraming {
    /// `Content-Length`, or 0 if it is missing.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// A complete and well-formed head.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// The length of the head in bytes, including the empty line.
    pub(crate) length: usize,
    pub(crate) body: BodyFraming,
}

/// Parses the head at the start of `bytes`. Returns `None` if the head is incomplete.
///
/// # Errors
/// [`Malformed`] with the fault of the head.
pub(crate) fn scan_head(bytes: &[u8], max_bytes: usize) -> Result<Option<Head>, Malformed> {
    scan(bytes, max_bytes, |_, head| head)
}

/// Parses the head at the start of `bytes`, and returns what `seen` returns for a complete one.
///
/// # Errors
/// [`Malformed`] with the fault of the head.
pub(crate) fn scan<T>(
    bytes: &[u8],
    max_bytes: usize,
    seen: impl FnOnce(&Request<'_, '_>, Head) -> T,
) -> Result<Option<T>, Malformed> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut request = Request::new(&mut []);
    let too_large = Err(Malformed::HeadTooLarge { max_bytes });
    let length = match request.parse_with_uninit_headers(bytes, &mut fields) {
        Ok(Status::Complete(length)) if length > max_bytes => return too_large,
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) if bytes.len() > max_bytes => return too_large,
        Ok(Status::Partial) => return Ok(None),
        Err(Error::TooManyHeaders) => return Err(Malformed::TooManyFields { max: MAX_FIELDS }),
        Err(_) if bytes.first() == Some(&TLS_HANDSHAKE) => return Err(Malformed::Tls),
        Err(_) => return Err(Malformed::Syntax),
    };
    if has_bare_lf(&bytes[..length]) {
        return Err(Malformed::BareLf);
    }
    check_target(request.path.unwrap_or_default())?;
    let body = framing(request.headers, request.version == Some(1))?;
    Ok(Some(seen(&request, Head { length, body })))
}

/// Returns whether a head can be complete: an empty line ends at or after `from`.
pub(crate) fn may_end(bytes: &[u8], from: usize) -> bool {
    memchr::memchr_iter(b'\n', &bytes[from..]).any(|at| {
        let line = &bytes[..from + at];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        line.is_empty() || line.ends_with(b"\n")
    })
}

fn has_bare_lf(head: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', head).any(|at| at == 0 || head[at - 1] != b'\r')
}

fn check_target(target: &str) -> Result<(), Malformed> {
    if target.len() > MAX_TARGET {
        return Err(Malformed::TargetTooLong {
            max_bytes: MAX_TARGET,
        });
    }
    // Fast path for most targets: a path of letters, digits and a few marks.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%?&=+,:;@!$*'()".contains(&byte);
    if target.starts_with('/') && target.bytes().all(plain) {
        return Ok(());
    }
    Uri::try_from(target)
        .map(drop)
        .map_err(|_| Malformed::Target)
}

fn framing(fields: &[Header<'_>], is_http_11: bool) -> Result<BodyFraming, Malformed> {
    let (mut length, mut chunked) = (None, false);
    for field in fields {
        match field.name.len() {
            14 if field.name.eq_ignore_ascii_case("content-length") => {
                let told = content_length(field.value).ok_or(Malformed::ContentLength)?;
                if length.is_some_and(|length| length != told) {
                    return Err(Malformed::ContentLength);
                }
                length = Some(told);
            }
            17 if field.name.eq_ignore_ascii_case("transfer-encoding") => {
                if chunked || !is_http_11 || !field.value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Malformed::TransferEncoding);
                }
                chunked = true;
            }
            longer if longer > MAX_NAME => return Err(Malformed::Syntax),
            _ => {}
        }
    }
    match (chunked, length) {
        (true, Some(_)) => Err(Malformed::TwoFramings),
        (true, None) => Ok(BodyFraming::Chunked),
        (false, length) => Ok(BodyFraming::Length(length.unwrap_or(0))),
    }
}

/// Parses a number of digits only, below the values that hyper reserves.
fn content_length(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let number = digits
        .then(|| str::from_utf8(value).ok()?.parse().ok())
        .flatten()?;
    (number < u64::MAX - 2).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(head: &str) -> Result<Option<Head>, Malformed> {
        scan_head(head.as_bytes(), 8 << 10)
    }

    #[test]
    fn well_formed_heads_tell_their_length_and_the_framing_of_the_body() {
        for (rest, body) in [
            ("", BodyFraming::Length(0)),
            ("content-length: 0\r\n", BodyFraming::Length(0)),
            ("Content-Length:17\r\n", BodyFraming::Length(17)),
            (
                "content-length: 17\r\nCONTENT-LENGTH: 17\r\n",
                BodyFraming::Length(17),
            ),
            ("Transfer-Encoding: Chunked\r\n", BodyFraming::Chunked),
        ] {
            let head = format!("POST /a%20b?c=\u{e4} HTTP/1.1\r\nhost: a\r\n{rest}\r\n");
            let found = read_all(&format!("{head}body"));
            assert_eq!(
                found,
                Ok(Some(Head {
                    length: head.len(),
                    body
                })),
                "{rest}"
            );
            assert_eq!(read_all(&head[..head.len() - 1]), Ok(None), "{rest}");
        }
    }

    #[test]
    fn malformed_heads_are_told_apart() {
        let lines = |lines: &str| format!("POST / HTTP/1.1\r\n{lines}\r\n");
        for (head, fault) in [
            (
                lines("content-length: 1\r\ntransfer-encoding: chunked\r\n"),
                Malformed::TwoFramings,
            ),
            (
                lines("transfer-encoding: chunked\r\ncontent-length: 1\r\n"),
                Malformed::TwoFramings,
            ),
            (
                lines("transfer-encoding: gzip, chunked\r\n"),
                Malformed::TransferEncoding,
            ),
            (
                lines("transfer-encoding: identity, chunked\r\n"),
                Malformed::TransferEncoding,
            ),
            (
                lines("transfer-encoding: chunked, identity\r\n"),
                Malformed::TransferEncoding,
            ),
            (
                lines("transfer-encoding: identity\r\n"),
                Malformed::TransferEncoding,
            ),
            (
                lines("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n"),
                Malformed::TransferEncoding,
            ),
            (
                lines("transfer-encoding: \r\n"),
                Malformed::TransferEncoding,
            ),
            (
                "POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n".to_owned(),
                Malformed::TransferEncoding,
            ),
            (lines("content-length: +1\r\n"), Malformed::ContentLength),
            (lines("content-length: 1, 1\r\n"), Malformed::ContentLength),
            (lines("content-length: \r\n"), Malformed::ContentLength),
            (
                lines("content-length: 1\r\ncontent-length: 2\r\n"),
                Malformed::ContentLength,
            ),
            (
                lines(&format!("content-length: {}\r\n", u64::MAX)),
                Malformed::ContentLength,
            ),
            (lines("x: x\ncontent-length: 23\r\n"), Malformed::BareLf),
            ("GET / HTTP/1.1\n\r\n".to_owned(), Malformed::BareLf),
            ("GET / HTTP/1.1\r\n\n".to_owned(), Malformed::BareLf),
            ("\nGET / HTTP/1.1\r\n\r\n".to_owned(), Malformed::BareLf),
            (
                "GET http://[ HTTP/1.1\r\n\r\n".to_owned(),
                Malformed::Target,
            ),
            (lines("a : b\r\n"), Malformed::Syntax),
            (lines("a: b\r\n c\r\n"), Malformed::Syntax),
            ("SSH-2.0-OpenSSH_9.2\r\n".to_owned(), Malformed::Syntax),
            ("\x16\x03\x01\x02".to_owned(), Malformed::Tls),
            (
                lines(&"a: b\r\n".repeat(101)),
                Malformed::TooManyFields { max: 100 },
            ),
            (
                lines(&format!("a: {}\r\n", "b".repeat(9000))),
                Malformed::HeadTooLarge { max_bytes: 8192 },
            ),
            (
                format!("GET /{}", "a".repeat(9000)),
                Malformed::HeadTooLarge { max_bytes: 8192 },
            ),
        ] {
            assert_eq!(read_all(&head), Err(fault), "{head}");
        }
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(66_000));
        let fault = Malformed::TargetTooLong {
            max_bytes: MAX_TARGET,
        };
        assert_eq!(scan_head(long.as_bytes(), 1 << 20), Err(fault));
    }

    #[test]
    fn the_end_of_a_head_is_noticed_wherever_it_is_cut() {
        for head in [
            "GET / HTTP/1.1\r\na: b\r\n\r\n",
            "GET / HTTP/1.1\na: b\n\n",
            "GET /\r\n\n",
        ] {
            for from in 0..head.len() {
                assert!(may_end(head.as_bytes(), from), "{head:?} {from}");
            }
            let before = head.len() - 1;
            assert!(!may_end(&head.as_bytes()[..before], 0), "{head:?}");
        }
    }

    #[test]
    #[ignore = "a measurement: cargo test --release --lib net::head -- --ignored --nocapture"]
    fn the_cost_of_a_check() {
        let start = "POST /v1/streams/orders/entries HTTP/1.1\r\nhost: localhost:8080\r\n\
                     user-agent: curl/8.5.0\r\ncontent-type: application/json\r\ncontent-length: 27\r\n";
        for fields in [0, 18] {
            let more =
                "x-forwarded-what: 0123456789012345678901234567890123456789\r\n".repeat(fields);
            let (head, rounds) = (format!("{start}{more}\r\n"), 1_000_000);
            let began = std::time::Instant::now();
            for _ in 0..rounds {
                assert!(std::hint::black_box(read_all(std::hint::black_box(&head))).is_ok());
            }
            let each = began.elapsed() / rounds;
            println!("{} fields, {} bytes: {each:?}", fields + 4, head.len());
        }
    }
}
