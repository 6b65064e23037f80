//! An in-memory HTTP/1.1 connection for tests with arbitrary input: `fuzz/` and
//! `tests/it/untrusted.rs`.

use std::io;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};

use axum::body::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::http::{FastTarget, recognise};
use crate::net::exchange::Exchange;
use crate::net::io::fast_requests::scan_whole;
use crate::net::io::request_io::RequestIo;

/// Number of polls without input after which a connection counts as finished.
const QUIET: usize = 4;

/// The outcome of a connection.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ConnectionOutcome {
    /// The length of each request body in bytes; `None` if the body ended early.
    pub requests: Vec<Option<u64>>,
    /// Whether the last request replaces a malformed head.
    pub refused: bool,
    /// The bytes of all answers.
    pub answers: Vec<u8>,
}

/// A client that sends `bytes` in parts and reads everything.
struct TestClient {
    bytes: Vec<u8>,
    sent: usize,
    part: usize,
    served: Arc<Mutex<ConnectionOutcome>>,
    quiet: Arc<AtomicBool>,
}

impl AsyncRead for TestClient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let length = (self.bytes.len() - self.sent)
            .min(self.part)
            .min(buffer.remaining());
        if length == 0 {
            self.quiet.store(true, Relaxed);
            return Poll::Pending;
        }
        buffer.put_slice(&self.bytes[self.sent..self.sent + length]);
        self.sent += length;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TestClient {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut served = self.served.lock();
        served.answers.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Returns what `seen` returns for the target if the bytes are a request that may take the fast path.
pub fn recognise_fast<T>(
    bytes: &[u8],
    max_head: usize,
    seen: impl FnOnce(FastTarget<'_>) -> T,
) -> Option<T> {
    let client = Ipv4Addr::LOCALHOST.into();
    scan_whole(
        bytes,
        max_head,
        |_| client,
        |request| recognise(request).map(seen),
    )
}

/// Serves a connection that sends `bytes`, `part` of them per read, until it waits for more input.
/// Each answer is an empty 200.
#[must_use]
pub fn serve(bytes: &[u8], part: usize, max_head: usize) -> ConnectionOutcome {
    let (served, quiet) = (
        Arc::<Mutex<ConnectionOutcome>>::default(),
        Arc::<AtomicBool>::default(),
    );
    let (noted, exchange) = (served.clone(), Arc::<Exchange>::default());
    let lock = |served: &Arc<Mutex<ConnectionOutcome>>| -> ConnectionOutcome {
        std::mem::take(&mut *served.lock())
    };
    let client = TestClient {
        bytes: bytes.to_vec(),
        sent: 0,
        part,
        served: served.clone(),
        quiet: quiet.clone(),
    };
    let io = RequestIo::new(client, exchange.clone(), max_head, false);
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let (refused, noted) = (exchange.begin().is_some(), noted.clone());
        async move {
            let mut body = request.into_body();
            let mut length = Some(0);
            while let Some(frame) = body.frame().await {
                let data = frame.map(|frame| frame.data_ref().map_or(0, Bytes::len) as u64);
                length = length.zip(data.ok()).map(|(length, data)| length + data);
            }
            let mut noted = noted.lock();
            noted.requests.push(length);
            noted.refused |= refused;
            Ok::<_, std::convert::Infallible>(hyper::Response::new(Full::<Bytes>::default()))
        }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.max_buf_size(max_head + 1);
    let mut connection = Box::pin(builder.serve_connection(TokioIo::new(io), service));
    let mut context = Context::from_waker(Waker::noop());
    let mut polls = 0;
    while polls < QUIET {
        if connection.as_mut().poll(&mut context).is_ready() {
            break;
        }
        polls = if quiet.load(Relaxed) { polls + 1 } else { 0 };
    }
    drop(connection);
    lock(&served)
}
