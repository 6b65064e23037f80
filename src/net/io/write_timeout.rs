//! A write timeout for connections. A connection whose send buffers stay full for longer is closed,
//! and the data held for it is freed.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Sleep;

use crate::net::io::forward::forward;

/// A connection with a write timeout.
pub(crate) struct Unread<S> {
    stream: S,
    patience: Duration,
    /// The timer that runs while writes are blocked; set and cleared by the writes.
    full: Option<Pin<Box<Sleep>>>,
    /// The counter of connections closed by the timeout.
    cut: Counter,
}

impl<S> Unread<S> {
    pub(crate) fn new(stream: S, patience: Duration, cut: Counter) -> Self {
        Self {
            stream,
            patience,
            full: None,
            cut,
        }
    }

    fn written<T>(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.full = None;
            return result;
        }
        let patience = self.patience;
        let full = self
            .full
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        ready!(full.as_mut().poll(cx));
        self.cut.inc();
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Unread<S> {
    forward!(stream: poll_read);
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Unread<S> {
    forward!(stream: is_write_vectored, poll_flush, poll_shutdown);

    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.written(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.written(cx, result)
    }
}
