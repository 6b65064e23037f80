//! Compressed bodies of requests, inflated as they come. What a few bytes can become is bounded twice:
//! by whoever reads the body, in bytes, and here, by the ratio.

use std::error::Error;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use async_compression::tokio::bufread::{GzipDecoder, ZlibDecoder, ZstdDecoder};
use async_compression::zstd::DParameter;
use axum::body::{Body, BodyDataStream, Bytes};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_ENCODING;
use futures_util::StreamExt as _;
use futures_util::stream::poll_fn;
use tokio::io::AsyncRead;
use tokio_util::io::{ReaderStream, StreamReader};

use crate::http::error::{ApiError, ErrorCode};
use crate::http::state::Shared;

/// The codings that are taken, as an answer 415 tells them.
static TAKEN: (&str, &str) = ("accept-encoding", "gzip, deflate, zstd");
/// Any body may become so large, however it is packed.
const FREE: u64 = 1 << 20;
/// Bytes of a part.
const PART: usize = 16 << 10;
/// The largest window of zstd, as a power of 2: what RFC 9659 lets senders expect.
const WINDOW: u32 = 23;

/// How a body is packed.
#[derive(Clone, Copy)]
pub enum Coding {
    /// `gzip`.
    Gzip,
    /// `deflate`, which is the format of zlib.
    Deflate,
    /// `zstd`.
    Zstd,
}

/// How a body is packed, if it is.
///
/// # Errors
/// 415 with the codings that are taken, for any other, and for several on top of each other.
pub fn coding(headers: &HeaderMap) -> Result<Option<Coding>, ApiError> {
    let mut found = None;
    for value in headers.get_all(CONTENT_ENCODING) {
        let text = value.to_str().map_err(|_| unknown())?;
        for name in text
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
        {
            let coding = match name.to_ascii_lowercase().as_str() {
                "identity" => continue,
                "gzip" | "x-gzip" => Coding::Gzip,
                "deflate" => Coding::Deflate,
                "zstd" => Coding::Zstd,
                _ => return Err(unknown()),
            };
            if found.replace(coding).is_some() {
                return Err(unknown());
            }
        }
    }
    Ok(found)
}

fn unknown() -> ApiError {
    let detail = "a body is compressed once, by gzip, deflate or zstd, or not at all";
    ApiError::new(ErrorCode::UnsupportedMediaType, detail)
        .at("Content-Encoding", "is another")
        .with_header(&TAKEN)
}

/// What goes wrong with a compressed body besides what does with any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The connection broke under it.
    Broken,
    /// It is not what its coding says, or ends too early.
    Corrupt,
    /// It becomes too large for what it is.
    Ratio,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl Error for Fault {}

/// The body as it was before it was compressed, at most so many times larger.
///
/// # Errors
/// 415 for a coding that is not taken.
pub fn inflated(most: usize, headers: &HeaderMap, body: Body) -> Result<Body, ApiError> {
    let Some(coding) = coding(headers)? else {
        return Ok(body);
    };
    let packed = Arc::new(AtomicU64::new(0));
    let raw = Arc::new(Mutex::new(body.into_data_stream()));
    let (counted, shared) = (packed.clone(), raw.clone());
    let reader = StreamReader::new(poll_fn(move |cx| {
        let part = ready!(next(&shared, cx));
        let part = part.map(|part| part.map_err(io::Error::other));
        if let Some(Ok(bytes)) = &part {
            counted.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        Poll::Ready(part)
    }));
    let plain: Pin<Box<dyn AsyncRead + Send>> = match coding {
        Coding::Gzip => {
            let mut decoder = GzipDecoder::new(reader);
            decoder.multiple_members(true);
            Box::pin(decoder)
        }
        Coding::Deflate => Box::pin(ZlibDecoder::new(reader)),
        Coding::Zstd => {
            let window = [DParameter::window_log_max(WINDOW)];
            let mut decoder = ZstdDecoder::with_params(reader, &window);
            decoder.multiple_members(true);
            Box::pin(decoder)
        }
    };
    let (mut length, most) = (0_u64, most.max(1) as u64);
    let mut plain = ReaderStream::with_capacity(plain, PART);
    let mut failed = false;
    Ok(Body::from_stream(poll_fn(move |cx| {
        if failed {
            // The rest as it comes, for whoever reads it on before answering.
            return next(&raw, cx);
        }
        let part = match ready!(plain.poll_next_unpin(cx)) {
            None => return Poll::Ready(None),
            Some(Err(error)) => Err(fault(&error)),
            Some(Ok(bytes)) => {
                length += bytes.len() as u64;
                match length > FREE && length / most > packed.load(Ordering::Relaxed) {
                    true => Err(Fault::Ratio),
                    false => Ok(bytes),
                }
            }
        };
        failed = part.is_err();
        Poll::Ready(Some(part))
    })))
}

/// The next part of a body as it came.
fn next(raw: &Mutex<BodyDataStream>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Fault>>> {
    let mut raw = raw.lock().unwrap_or_else(PoisonError::into_inner);
    raw.poll_next_unpin(cx).map_err(|_| Fault::Broken)
}

fn fault(error: &io::Error) -> Fault {
    let known = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<Fault>())
        .copied();
    known.unwrap_or(Fault::Corrupt)
}

/// Each layer of a body wraps the error of the one below.
fn fault_in(error: &axum::Error) -> Option<Fault> {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(fault) = error.downcast_ref::<Fault>() {
            return Some(*fault);
        }
        next = error.source();
    }
    None
}

/// Why a body, compressed or not, could not be read to its end.
pub fn refused(state: &Shared, error: &axum::Error) -> ApiError {
    match fault_in(error) {
        Some(Fault::Corrupt) => {
            ApiError::invalid("the body is not what `Content-Encoding` says, or ends too early")
                .at("Content-Encoding", "does not fit the body")
        }
        Some(Fault::Ratio) => {
            state.metrics.refuse("inflation");
            let most = state.settings.max_inflation;
            let detail = format!(
                "the body becomes more than {most} times larger once it is decompressed: send it \
                 without `Content-Encoding`, or in smaller pieces"
            );
            ApiError::new(ErrorCode::TooLarge, detail)
        }
        Some(Fault::Broken) | None => ApiError::invalid("the body broke off"),
    }
}
