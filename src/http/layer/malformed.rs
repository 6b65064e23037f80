//! Requests with a malformed head. The server detects them before any handler reads them. The
//! gateway answers each with a problem and closes the connection.

use axum::extract::Request;

use crate::http::error::{ApiError, ErrorCode};

/// The fault of a request head. The connection code sets it on the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// A head that is not HTTP/1.1.
    Syntax,
    /// A TLS client on a port without TLS.
    Tls,
    /// A line that ends without CR.
    BareLf,
    /// Both `Content-Length` and `Transfer-Encoding`.
    TwoFramings,
    /// A `Transfer-Encoding` other than one `chunked`.
    TransferEncoding,
    /// A `Content-Length` that is not a number, or several that differ.
    ContentLength,
    /// A target that is not a URI.
    Target,
    /// A head larger than `--max-header-size`.
    HeadTooLarge {
        /// The limit in bytes.
        max_bytes: usize,
    },
    /// More header fields than the parser supports.
    TooManyFields {
        /// The maximum number of header fields.
        max: usize,
    },
    /// A target over the length limit.
    TargetTooLong {
        /// The limit in bytes.
        max_bytes: usize,
    },
}

impl From<Malformed> for ApiError {
    fn from(malformed: Malformed) -> Self {
        let detail = match malformed {
            Malformed::Syntax => "the request head is not valid HTTP/1.1",
            Malformed::Tls => "this port does not support TLS: use http:// instead of https://",
            Malformed::BareLf => {
                "a line of the request head ends with LF only: end each line with CR LF"
            }
            Malformed::TwoFramings => {
                "`Content-Length` and `Transfer-Encoding` cannot be combined: send only one of them"
            }
            Malformed::TransferEncoding => {
                "`Transfer-Encoding` must be a single `chunked`: use `Content-Encoding` for compression"
            }
            Malformed::ContentLength => {
                "`Content-Length` must be one whole number, the length of the body in bytes"
            }
            Malformed::Target => "the request target must be a path or a URL",
            Malformed::HeadTooLarge { max_bytes } => {
                let detail = format!(
                    "the request head must be at most {max_bytes} bytes: send less or raise --max-header-size"
                );
                return Self::new(ErrorCode::HeadTooLarge, detail)
                    .with("max_bytes", max_bytes as u64);
            }
            Malformed::TooManyFields { max } => {
                let detail = format!("a request must have at most {max} header fields");
                return Self::new(ErrorCode::HeadTooLarge, detail).with("max_fields", max as u64);
            }
            Malformed::TargetTooLong { max_bytes } => {
                let detail = format!(
                    "path and query must be at most {max_bytes} bytes: move long values into the body"
                );
                return Self::new(ErrorCode::UriTooLong, detail)
                    .with("max_bytes", max_bytes as u64);
            }
        };
        Self::invalid(detail)
    }
}

/// Refuses a request with a malformed head or an invalid escape in its path. Servers disagree on
/// the meaning of `%zz`.
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

/// Whether the path has a `%` that is not followed by two hexadecimal digits.
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
