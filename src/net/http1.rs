//! HTTP/1.1 connections on hyper, with timeouts that `axum::serve` does not offer. A connection may
//! turn out to speak HTTP/2, and a subscription may take it over.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use axum::http::HeaderValue;
use axum::http::header::CONNECTION;
use hyper::body::Incoming;
use hyper::server::conn::http1::{Builder, Connection};
use hyper::service::HttpService;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use crate::net::client_limiter::ClientPeer;
use crate::net::exchange::{AnswerBody, Exchange, ExchangePhase};
use crate::net::io::deadline::Deadline;
use crate::net::io::fast_requests::FastRequests;
use crate::net::io::linger::LINGER_ONE_TOO_MANY;
use crate::net::io::request_io::RequestIo;
use crate::net::routes::Routes;
use crate::net::serving::{OpenGuard, Serving};
use crate::net::takeover::Subscriber;

/// The rest of a connection after hyper has finished with it.
#[expect(
    clippy::large_enum_variant,
    reason = "the value is destructured right after construction"
)]
pub(crate) enum Left<S> {
    Nothing,
    /// A subscription that continues without hyper.
    Subscriber(Subscriber<S>),
    /// A connection that speaks HTTP/2, with the bytes received so far.
    Http2(S, Vec<u8>, ClientPeer, OpenGuard),
}

/// The reason why the serving loop ended.
#[expect(
    clippy::large_enum_variant,
    reason = "the value is destructured right after construction"
)]
enum ServedHttp1 {
    /// All answers are sent and no more will follow.
    Done,
    /// The connection failed, or a head did not arrive in time.
    Broken,
    Subscribed(crate::http::Session),
    Http2,
}

/// Serves a connection. If `undecided`, its first bytes may turn out to be HTTP/2.
pub(crate) async fn serve<S>(
    stream: S,
    undecided: bool,
    Routes { router, fast }: Routes,
    visitor: ClientPeer,
    open: OpenGuard,
    serving: &Arc<Serving>,
) -> Left<S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let exchange = Arc::<Exchange>::default();
    let io = RequestIo::new(stream, exchange.clone(), serving.max_header_size, undecided);
    let turned_away = visitor.is_turned_away();
    let visitor = Arc::new(visitor);
    let io = io.with_fast(FastRequests::new(fast, &visitor, &exchange, serving));
    let (asking, asked, at) = (visitor.clone(), exchange.clone(), serving.clone());
    let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        if let Some(malformed) = asked.begin() {
            request.extensions_mut().insert(malformed);
        }
        let (method, version) = (request.method().clone(), request.version());
        let (visitor, router) = (asking.clone(), router.clone());
        let (exchange, serving) = (asked.clone(), at.clone());
        async move {
            let mut response = visitor.answer(router, request).await;
            // Closing the connection avoids waiting for the rest of an unwanted body.
            if exchange.is_incomplete() || serving.shutdown.is_draining() {
                response
                    .headers_mut()
                    .insert(CONNECTION, HeaderValue::from_static("close"));
            }
            exchange.baton.take_from(&method, version, &mut response);
            Ok::<_, Infallible>(response.map(|body| AnswerBody::new(body, exchange)))
        }
    });
    let mut builder = Builder::new();
    // `RequestIo` limits the size of heads before they reach hyper.
    builder
        .max_buf_size(serving.max_header_size + 1)
        .keep_alive(!turned_away);
    let mut connection = Box::pin(builder.serve_connection(TokioIo::new(io), service));
    let served = drive(&mut connection, &exchange, serving).await;
    let parts = Pin::into_inner(connection).into_parts();
    let unread = !parts.read_buf.is_empty();
    let (stream, held) = parts.io.into_inner().into_parts();
    match served {
        ServedHttp1::Broken => Left::Nothing,
        ServedHttp1::Done => {
            drop(parts.service);
            let more = exchange.is_sending() || unread || !held.is_empty();
            end(stream, more, turned_away, serving).await;
            Left::Nothing
        }
        ServedHttp1::Subscribed(session) => {
            Left::Subscriber(Subscriber::new(stream, session, open))
        }
        ServedHttp1::Http2 => {
            drop(parts.service);
            // The service and the I/O held the only other references.
            match Arc::into_inner(visitor) {
                Some(visitor) => Left::Http2(stream, held, visitor, open),
                None => Left::Nothing,
            }
        }
    }
}

/// Polls hyper's connection until it ends or is taken over. Closes the connection when it is idle
/// for too long or the gateway shuts down.
async fn drive<I, S>(
    connection: &mut Pin<Box<Connection<I, S>>>,
    exchange: &Exchange,
    serving: &Serving,
) -> ServedHttp1
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    S: HttpService<Incoming, ResBody = AnswerBody, Error = Infallible>,
{
    let mut closing = pin!(serving.shutdown.closing());
    let (mut listening, mut asked_to_end) = (false, false);
    let mut waits_for = (ExchangePhase::Head, 0);
    let mut deadline = Deadline::new(Instant::now() + serving.header_timeout);
    std::future::poll_fn(|cx| {
        loop {
            // Polling once registers the waker of this task, which stays the same.
            if !listening {
                listening = true;
                let _ = closing.as_mut().poll(cx);
            }
            // A request whose head has partly arrived still gets its answer.
            if !asked_to_end && serving.shutdown.is_closing() && !exchange.has_partial_head() {
                asked_to_end = true;
                connection.as_mut().graceful_shutdown();
            }
            if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                return Poll::Ready(match ended {
                    Ok(()) => ServedHttp1::Done,
                    Err(error) => {
                        tracing::debug!(%error, "HTTP/1.1 connection failed");
                        ServedHttp1::Broken
                    }
                });
            }
            // A request beside hyper may just have ended.
            let may_end = serving.shutdown.is_closing() && !exchange.has_partial_head();
            if may_end && !asked_to_end {
                continue;
            }
            if exchange.baton.is_http2() {
                return Poll::Ready(ServedHttp1::Http2);
            }
            if let Some(session) = exchange.baton.ready() {
                return Poll::Ready(ServedHttp1::Subscribed(session));
            }
            let now_waits_for = (exchange.phase(), exchange.requests());
            if now_waits_for != waits_for {
                waits_for = now_waits_for;
                deadline.set(match waits_for.0 {
                    ExchangePhase::Head => Some(Instant::now() + serving.header_timeout),
                    ExchangePhase::Idle => Some(Instant::now() + serving.idle_timeout),
                    ExchangePhase::Answering => None,
                });
            }
            if deadline.poll(cx).is_pending() {
                return Poll::Pending;
            }
            if waits_for.0 == ExchangePhase::Head {
                tracing::debug!("no complete request head within the header timeout");
                return Poll::Ready(ServedHttp1::Broken);
            }
            deadline.set(None);
            connection.as_mut().graceful_shutdown();
        }
    })
    .await
}

/// Closes a connection whose answers are all sent. If the client may send `more`, closes only the
/// sending side and reads on within the linger limits.
async fn end<S>(mut stream: S, more: bool, turned_away: bool, serving: &Serving)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    use tokio::io::AsyncWriteExt as _;
    if !more {
        let _ = stream.shutdown().await;
        return;
    }
    let mut linger = serving.linger;
    if turned_away {
        linger.timeout = linger.timeout.min(LINGER_ONE_TOO_MANY);
    }
    let ended = Box::pin(linger.end(stream));
    let ended = tokio::select! {
        ended = ended => ended,
        () = serving.shutdown.closing() => true,
    };
    if !ended {
        serving.lingered.inc();
    }
}
