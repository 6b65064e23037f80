//! Decompression of request bodies as they arrive. Two limits bound the decompressed size: the
//! reader of the body limits the bytes, and this module limits the ratio.

use std::error::Error;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use async_compression::tokio::bufread::{GzipDecoder, ZlibDecoder, ZstdDecoder};
use async_compression::zstd::DParameter;
use axum::body::{Body, BodyDataStream, Bytes};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_ENCODING;
use futures_util::StreamExt as _;
use futures_util::stream::poll_fn;
use parking_lot::Mutex;
use tokio::io::AsyncRead;
use tokio_util::io::{ReaderStream, StreamReader};

use crate::http::error::{ApiError, ErrorCode};
use crate::http::state::StateFields;

/// The supported codings, as listed in a 415 response.
static TAKEN: (&str, &str) = ("accept-encoding", "gzip, deflate, zstd");
/// Decompressed bytes that any body may have at any ratio.
const FREE: u64 = 1 << 20;
/// Size of a decompressed part in bytes.
const PART: usize = 16 << 10;
/// Maximum zstd window, as a power of 2. Senders can rely on this size (RFC 9659).
const WINDOW: u32 = 23;

/// The compression of a body.
#[derive(Clone, Copy)]
pub enum Coding {
    /// `gzip`.
    Gzip,
    /// `deflate`, which is the zlib format.
    Deflate,
    /// `zstd`.
    Zstd,
}

/// Returns the compression of a body, if any.
///
/// # Errors
/// 415 with the supported codings, for any other coding and for several codings.
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
    let detail = "a body must be compressed at most once, with gzip, deflate or zstd";
    ApiError::new(ErrorCode::UnsupportedMediaType, detail)
        .at("Content-Encoding", "must be gzip, deflate or zstd")
        .with_header(&TAKEN)
}

/// An error on reading a compressed body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The connection failed.
    Broken,
    /// The data does not match its coding, or ends too early.
    Corrupt,
    /// The decompressed body exceeds the maximum ratio.
    Ratio,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl Error for Fault {}

/// Returns the decompressed body, limited to `most` times its compressed size.
///
/// # Errors
/// 415 for an unsupported coding.
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
            // After an error, the raw rest, for readers that drain the body before they respond.
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

/// Returns the next raw part of a body.
fn next(raw: &Mutex<BodyDataStream>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Fault>>> {
    let mut raw = raw.lock();
    raw.poll_next_unpin(cx).map_err(|_| Fault::Broken)
}

fn fault(error: &io::Error) -> Fault {
    let known = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<Fault>())
        .copied();
    known.unwrap_or(Fault::Corrupt)
}

/// Finds the fault in an error. Each layer of a body wraps the error of the layer below.
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

/// Converts an error on reading a body, compressed or not, into an error for the client.
pub fn refused(state: &StateFields, error: &axum::Error) -> ApiError {
    match fault_in(error) {
        Some(Fault::Corrupt) => {
            ApiError::invalid("the body does not match its `Content-Encoding`, or ends too early")
                .at("Content-Encoding", "does not match the body")
        }
        Some(Fault::Ratio) => {
            state.metrics.refuse("inflation");
            let most = state.settings.max_inflation;
            let detail = format!(
                "the decompressed body is more than {most} times larger than the compressed one: send it \
                 without `Content-Encoding` or in smaller pieces"
            );
            ApiError::new(ErrorCode::TooLarge, detail)
        }
        Some(Fault::Broken) | None => ApiError::invalid("the body ended early"),
    }
}
