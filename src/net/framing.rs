//! HTTP/1.1 message framing. Follows the client's bytes from head to body to the next head, so that
//! every head is checked. Does no I/O; the result does not depend on how the bytes are split.

use crate::http::Malformed;
use crate::net::head::{self, BodyFraming};

/// The framing state of a connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Http1Framing {
    /// At the start of a head.
    Head,
    /// Inside a body, with the number of bytes still to come.
    Body(u64),
    /// Inside a chunked body.
    Chunked(Chunked),
}

/// The reason why [`Http1Framing::follow`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FollowEnd {
    /// All bytes were consumed.
    All,
    /// A head is incomplete.
    PartialHead,
    /// A head is malformed.
    Malformed(Malformed),
    /// A chunked body is malformed, so its end is unknown.
    BrokenBody,
}

impl Http1Framing {
    /// Advances over `bytes`. Returns the number of bytes that belong to complete heads and to
    /// bodies, the number of complete heads, and the reason for stopping.
    pub(crate) fn follow(&mut self, bytes: &[u8], max_head: usize) -> (usize, u64, FollowEnd) {
        let (mut at, mut heads) = (0, 0);
        while at < bytes.len() {
            let rest = &bytes[at..];
            match self {
                Self::Head => match head::scan_head(rest, max_head) {
                    Ok(Some(head)) => {
                        at += head.length;
                        heads += 1;
                        *self = match head.body {
                            BodyFraming::Length(0) => Self::Head,
                            BodyFraming::Length(length) => Self::Body(length),
                            BodyFraming::Chunked => Self::Chunked(Chunked::SizeStart),
                        };
                    }
                    Ok(None) => return (at, heads, FollowEnd::PartialHead),
                    Err(malformed) => return (at, heads, FollowEnd::Malformed(malformed)),
                },
                Self::Body(left) => {
                    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    at += here;
                    *left -= here as u64;
                    if *left == 0 {
                        *self = Self::Head;
                    }
                }
                Self::Chunked(state) => match state.step(rest) {
                    Some((here, None)) => {
                        at += here;
                        *self = Self::Head;
                    }
                    Some((here, Some(next))) => {
                        at += here;
                        *state = next;
                    }
                    None => return (at, heads, FollowEnd::BrokenBody),
                },
            }
        }
        (at, heads, FollowEnd::All)
    }
}

/// The position in a chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chunked {
    /// Before the size of a chunk.
    SizeStart,
    /// Inside the size.
    Size(u64),
    /// After the size: whitespace, then an extension or the end of the line.
    AfterSize(u64),
    /// Inside an extension.
    Extension(u64),
    /// At the LF after the size.
    SizeLf(u64),
    /// Inside a chunk, with the number of bytes still to come.
    Data(u64),
    /// At the CR after a chunk.
    DataCr,
    /// At the LF after a chunk.
    DataLf,
    /// At the start of a trailer line, or at the empty line that ends the body.
    TrailerStart,
    /// Inside a trailer line.
    Trailer,
    /// At the LF of a trailer line.
    TrailerLf,
    /// At the LF of the empty line.
    EndLf,
}

impl Chunked {
    /// Consumes one byte, or as much chunk data as `bytes` holds. Returns the number of bytes and
    /// the next position, which is `None` after the end of the body. Returns `None` for malformed
    /// bytes. `bytes` must not be empty.
    fn step(self, bytes: &[u8]) -> Option<(usize, Option<Self>)> {
        let byte = *bytes.first()?;
        let next = match (self, byte) {
            (Self::Data(left), _) => {
                let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                let left = left - here as u64;
                let next = if left == 0 {
                    Self::DataCr
                } else {
                    Self::Data(left)
                };
                return Some((here, Some(next)));
            }
            (Self::SizeStart, _) => Self::Size(digit(byte)?),
            (Self::Size(size) | Self::AfterSize(size) | Self::Extension(size), b'\r') => {
                Self::SizeLf(size)
            }
            (Self::Size(size) | Self::AfterSize(size), b' ' | b'\t') => Self::AfterSize(size),
            (Self::Size(size) | Self::AfterSize(size), b';') => Self::Extension(size),
            (Self::Size(size), _) => Self::Size(size.checked_mul(16)?.checked_add(digit(byte)?)?),
            (Self::Extension(size), byte) if byte != b'\n' => Self::Extension(size),
            (Self::SizeLf(0) | Self::TrailerLf, b'\n') => Self::TrailerStart,
            (Self::SizeLf(size), b'\n') => Self::Data(size),
            (Self::DataCr, b'\r') => Self::DataLf,
            (Self::DataLf, b'\n') => Self::SizeStart,
            (Self::TrailerStart, b'\r') => Self::EndLf,
            (Self::Trailer, b'\r') => Self::TrailerLf,
            (Self::TrailerStart | Self::Trailer, byte) if byte != b'\n' => Self::Trailer,
            (Self::EndLf, b'\n') => return Some((1, None)),
            _ => return None,
        };
        Some((1, Some(next)))
    }
}

fn digit(byte: u8) -> Option<u64> {
    char::from(byte).to_digit(16).map(u64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 8 << 10;

    #[test]
    fn heads_after_bodies_are_found_wherever_the_bytes_are_cut() {
        let posts = "POST /a HTTP/1.1\r\ncontent-length: 5\r\n\r\nhello\
                     POST /b HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n\
                     5;x=\"y\"\r\nhello\r\n0A \r\n0123456789\r\n0\r\nx: y\r\n\r\n\
                     GET /c HTTP/1.1\r\n\r\n";
        let malformed = "GET /d HTTP/1.1\nx: y\r\n\r\n";
        let all = format!("{posts}{malformed}");
        let mut whole = Http1Framing::Head;
        let stop = FollowEnd::Malformed(Malformed::BareLf);
        assert_eq!(whole.follow(all.as_bytes(), MAX), (posts.len(), 3, stop));
        for step in 1..60 {
            let (mut framing, mut at, mut end, mut all_heads) = (Http1Framing::Head, 0, 0, 0);
            let stop = loop {
                end = (end + step).min(all.len());
                let (here, heads, stop) = framing.follow(&all.as_bytes()[at..end], MAX);
                (at, all_heads) = (at + here, all_heads + heads);
                match stop {
                    FollowEnd::All | FollowEnd::PartialHead if end < all.len() => {}
                    stop => break stop,
                }
            };
            assert_eq!((at, all_heads), (posts.len(), 3), "{step}");
            assert_eq!(stop, FollowEnd::Malformed(Malformed::BareLf), "{step}");
        }
    }

    #[test]
    fn chunked_bodies_with_a_fault_have_no_end() {
        for body in [
            "x\r\n",
            ";\r\n",
            "\r\n",
            "5\n",
            "5;a\nb\r\n",
            "5 5\r\n",
            "fffffffffffffffff\r\n",
            "1\r\nab\r\n",
            "1\r\na\n",
            "0\r\nx: y\nz\r\n",
            "0\r\n\n",
            "0\r\nx\ry\r\n",
            "5\rx",
        ] {
            let mut framing = Http1Framing::Chunked(Chunked::SizeStart);
            assert_eq!(
                framing.follow(body.as_bytes(), MAX).2,
                FollowEnd::BrokenBody,
                "{body:?}"
            );
        }
    }
}
