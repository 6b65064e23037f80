//! Requests whose head cannot be taken, as the server finds before anything reads them. Each is
//! answered with a problem, after which its connection closes.

use axum::extract::Request;

use crate::http::error::{ApiError, ErrorCode};

/// The fault of a head; set on requests by what serves connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// No head of HTTP/1.1 at all.
    Syntax,
    /// A TLS client on a port without TLS.
    Tls,
    /// A line that ends without CR.
    BareLf,
    /// `Content-Length` beside `Transfer-Encoding`.
    TwoFramings,
    /// A `Transfer-Encoding` other than one `chunked`.
    TransferEncoding,
    /// A `Content-Length` that is no number, or several that differ.
    ContentLength,
    /// A target that is no URI.
    Target,
    /// A head of more bytes than `--max-header-size`.
    HeadTooLarge {
        /// The setting.
        max_bytes: usize,
    },
    /// More header fields than the parser takes.
    TooManyFields {
        /// The bound.
        max: usize,
    },
    /// A target that is too long.
    TargetTooLong {
        /// The bound.
        max_bytes: usize,
    },
}

impl From<Malformed> for ApiError {
    fn from(malformed: Malformed) -> Self {
        let detail = match malformed {
            Malformed::Syntax => "the head of the request is not HTTP/1.1",
            Malformed::Tls => "this port speaks HTTP without TLS: use http:// instead of https://",
            Malformed::BareLf => "a line of the head ends with LF alone: end each line with CR LF",
            Malformed::TwoFramings => {
                "`Content-Length` and `Transfer-Encoding` contradict each other: send one of them"
            }
            Malformed::TransferEncoding => {
                "`Transfer-Encoding` must be `chunked`, once: compress with `Content-Encoding` instead"
            }
            Malformed::ContentLength => {
                "`Content-Length` must be one whole number, the length of the body in bytes"
            }
            Malformed::Target => "the target of the request is not a path or a URL",
            Malformed::HeadTooLarge { max_bytes } => {
                let detail = format!(
                    "the head of a request may have at most {max_bytes} bytes: send less, or raise --max-header-size"
                );
                return Self::new(ErrorCode::HeadTooLarge, detail)
                    .with("max_bytes", max_bytes as u64);
            }
            Malformed::TooManyFields { max } => {
                let detail = format!("a request may have at most {max} header fields");
                return Self::new(ErrorCode::HeadTooLarge, detail).with("max_fields", max as u64);
            }
            Malformed::TargetTooLong { max_bytes } => {
                let detail = format!(
                    "path and query may have at most {max_bytes} bytes: put long values into the body"
                );
                return Self::new(ErrorCode::UriTooLong, detail)
                    .with("max_bytes", max_bytes as u64);
            }
        };
        Self::invalid(detail)
    }
}

/// Refuses a request whose head the server found to be malformed, or whose path has an escape that
/// is none: servers disagree on what `%zz` means.
///
/// # Errors
/// 400, 414 or 431.
pub fn check(request: &Request) -> Result<(), ApiError> {
    if let Some(malformed) = request.extensions().get::<Malformed>() {
        return Err((*malformed).into());
    }
    if has_broken_escape(request.uri().path().as_bytes()) {
        let detail =
            "the path has a `%` without two hexadecimal digits: write `%25` for a percent sign";
        return Err(ApiError::invalid(detail));
    }
    Ok(())
}

/// Whether there is a `%` that two hexadecimal digits do not follow.
fn has_broken_escape(path: &[u8]) -> bool {
    let escapes = path.iter().enumerate().filter(|(_, byte)| **byte == b'%');
    escapes
        .map(|(at, _)| path.get(at + 1..at + 3))
        .any(|digits| digits.is_none_or(|digits| !digits.iter().all(u8::is_ascii_hexdigit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_have_two_digits() {
        for (path, broken) in [
            ("/a%2Fb", false),
            ("/a", false),
            ("/%zz", true),
            ("/%", true),
            ("/%2", true),
            ("/%%20", true),
            ("/%25zz", false),
        ] {
            assert_eq!(has_broken_escape(path.as_bytes()), broken, "{path}");
        }
    }
}
