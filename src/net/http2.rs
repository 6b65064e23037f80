//! HTTP/2 connections on hyper, with the limits that hyper does not enforce. An idle connection is
//! closed, a stream whose answer stays unread is reset, and a connection that cancels more requests
//! than it lets complete is closed.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::task::TaskTracker;

use crate::net::client_limiter::ClientPeer;
use crate::net::http2_streams::{FlowTimedBody, Http2Streams};
use crate::net::io::linger::LINGER_ONE_TOO_MANY;
use crate::net::io::prefixed::Rewound;
use crate::net::request_body::RequestBody;
use crate::net::serving::{OpenGuard, Serving};

/// HTTP/2 keepalive: the idle time before a PING, and the timeout for its answer.
const PING: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(20));
/// Maximum number of streams that a client opened and reset before the gateway accepted them. More
/// end the connection.
const MAX_PENDING_RESETS: usize = 20;
/// Maximum number of streams reset because of a client error. More end the connection.
const MAX_ERROR_RESETS: usize = 256;
/// Maximum number of requests that a client cancelled before an answer. More end the connection,
/// unless at least as many requests were answered.
const MAX_TAKEN_BACK: usize = 200;
/// Time limit for a connection without streams to close after a GOAWAY.
const ENDS_WITHIN: Duration = Duration::from_secs(1);

/// Serves a connection until it ends. The tasks of its streams run on `here`.
pub(crate) async fn serve<S>(
    stream: S,
    read: Vec<u8>,
    router: axum::Router,
    (visitor, open): (ClientPeer, OpenGuard),
    serving: &Serving,
    here: TaskTracker,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (visitor, _open) = (Arc::new(visitor), open);
    let turned_away = visitor.is_turned_away();
    let mut linger = serving.linger;
    if turned_away {
        linger.timeout = linger.timeout.min(LINGER_ONE_TOO_MANY);
    }
    let unread = (serving.write_timeout, serving.unread.clone());
    let streams = Http2Streams::new(here, unread, (linger, serving.lingered.clone()));
    let of = streams.clone();
    let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        let (visitor, router, stream) = (visitor.clone(), router.clone(), of.begin());
        let request = request.map(|body| RequestBody::new(body, stream.unfinished()));
        async move {
            let response = visitor.answer(router, request).await;
            stream.answered();
            Ok::<_, Infallible>(response.map(|body| FlowTimedBody::new(body, stream)))
        }
    });
    let mut builder = hyper::server::conn::http2::Builder::new(streams.clone());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(if turned_away { 1 } else { serving.max_streams })
        .max_header_list_size(u32::try_from(serving.max_header_size).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_ERROR_RESETS)
        .keep_alive_interval(PING.0)
        .keep_alive_timeout(PING.1);
    let io = TokioIo::new(Rewound::new(read, stream));
    let mut connection = Box::pin(builder.serve_connection(io, service));
    let mut draining = pin!(serving.shutdown.draining());
    let mut clock = pin!(Clock::new(serving.header_timeout, serving.idle_timeout));
    std::future::poll_fn(|cx| {
        if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
            if let Err(error) = ended {
                tracing::debug!(%error, "HTTP/2 connection failed");
            }
            return Poll::Ready(());
        }
        let (taken_back, answered) = (streams.taken_back(), streams.answered());
        let flooded = taken_back > MAX_TAKEN_BACK.max(answered);
        if flooded && !clock.is_ending() {
            serving.refused("resets");
        }
        let had_its_answer = turned_away && answered > 0;
        // Check the flag first: the future must not be polled again after it was ready.
        let draining = serving.shutdown.is_draining() || draining.as_mut().poll(cx).is_ready();
        if flooded || had_its_answer || draining {
            clock
                .as_mut()
                .end(|| connection.as_mut().graceful_shutdown());
        }
        clock
            .as_mut()
            .poll(cx, &streams, || connection.as_mut().graceful_shutdown())
    })
    .await;
}

/// The idle timeout and graceful shutdown of a connection.
struct Clock {
    /// Idle timeout and check interval. A connection may therefore stay idle for up to twice as
    /// long.
    idle: Duration,
    sleep: Pin<Box<Sleep>>,
    /// The number of streams begun as of the last check.
    seen: usize,
    ending: bool,
}

impl Clock {
    fn new(first: Duration, idle: Duration) -> Self {
        let sleep = Box::pin(sleep_until(Instant::now() + first));
        Self {
            idle,
            sleep,
            seen: 0,
            ending: false,
        }
    }

    fn is_ending(&self) -> bool {
        self.ending
    }

    /// Starts a graceful shutdown of the connection: no new streams begin.
    fn end(mut self: Pin<&mut Self>, end: impl FnOnce()) {
        if !self.ending {
            self.ending = true;
            end();
            self.sleep.as_mut().reset(Instant::now() + ENDS_WITHIN);
        }
    }

    /// Returns ready when the connection must be dropped: it is shutting down without streams, but
    /// the peer does not close it.
    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        streams: &Http2Streams,
        end: impl FnOnce(),
    ) -> Poll<()> {
        let mut end = Some(end);
        while self.sleep.as_mut().poll(cx).is_ready() {
            let quiet = streams.open() == 0 && streams.begun() == self.seen;
            self.seen = streams.begun();
            match (quiet, self.ending) {
                (true, true) => return Poll::Ready(()),
                (true, false) => {
                    if let Some(end) = end.take() {
                        self.as_mut().end(end);
                    }
                }
                (false, _) => {
                    let after = if self.ending { ENDS_WITHIN } else { self.idle };
                    self.sleep.as_mut().reset(Instant::now() + after);
                }
            }
        }
        Poll::Pending
    }
}
