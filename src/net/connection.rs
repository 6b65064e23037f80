//! A client connection after it is accepted: TLS handshake, protocol selection and socket options.

use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::task::TaskTracker;

use crate::net::client_limiter::ClientPeer;
use crate::net::http1::{self, Left};
use crate::net::http2;
use crate::net::io::write_timeout::Unread;
use crate::net::routes::Routes;
use crate::net::serving::{OpenGuard, Serving};

/// TCP keepalive of an idle connection: the delay before the first probe and the interval between
/// probes.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(10));

/// An accepted connection that is not served yet.
pub(crate) struct Accepted {
    pub(crate) stream: std::net::TcpStream,
    pub(crate) visitor: ClientPeer,
    pub(crate) open: OpenGuard,
    pub(crate) serving: Arc<Serving>,
}

type Plain = Unread<TcpStream>;

impl Accepted {
    /// Serves the connection on the caller's runtime, until it ends or only a subscription is left.
    /// The subscription continues on `here` as a separate task, which is much smaller.
    pub(crate) async fn serve(self, routes: Routes, here: TaskTracker) {
        let Self {
            stream,
            visitor,
            open,
            serving,
        } = self;
        set_options(&stream, serving.write_timeout);
        let stream = match TcpStream::from_std(stream) {
            Ok(stream) => Unread::new(stream, serving.write_timeout, serving.unread.clone()),
            Err(error) => {
                tracing::warn!(%error, "cannot register a connection with the runtime");
                return;
            }
        };
        // The larger futures are boxed, because most connections only need the first one.
        let Some(tls) = &serving.tls else {
            let served = http1::serve(stream, true, routes.clone(), visitor, open, &serving).await;
            return Box::pin(go_on(served, routes, &serving, here)).await;
        };
        Box::pin(async {
            let Some(stream) = shake_hands(stream, tls, &serving).await else {
                return;
            };
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                let here_too = here.clone();
                let of = (visitor, open);
                return http2::serve(stream, Vec::new(), routes.router, of, &serving, here_too)
                    .await;
            }
            let served = http1::serve(stream, true, routes.clone(), visitor, open, &serving).await;
            go_on(served, routes, &serving, here).await;
        })
        .await;
    }
}

/// Continues a connection that hyper's HTTP/1.1 server has left.
async fn go_on<S>(left: Left<S>, routes: Routes, serving: &Serving, here: TaskTracker)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    match left {
        Left::Nothing => {}
        Left::Subscriber(subscriber) => drop(here.spawn(subscriber)),
        Left::Http2(stream, read, visitor, open) => {
            http2::serve(
                stream,
                read,
                routes.router,
                (visitor, open),
                serving,
                here.clone(),
            )
            .await;
        }
    }
}

/// Performs the TLS handshake. Returns `None` if it fails, times out or the gateway shuts down.
async fn shake_hands(
    stream: Plain,
    tls: &TlsAcceptor,
    serving: &Serving,
) -> Option<TlsStream<Plain>> {
    let shaken = tokio::select! {
        shaken = tokio::time::timeout(serving.handshake_timeout, tls.accept(stream)) => shaken,
        () = serving.shutdown.closing() => return None,
    };
    let outcome = match shaken {
        Ok(Ok(stream)) => {
            serving.metrics.shaken("done");
            return Some(stream);
        }
        Ok(Err(error)) => {
            tracing::debug!(%error, "TLS handshake failed");
            "failed"
        }
        Err(_) => "timeout",
    };
    serving.metrics.shaken(outcome);
    None
}

/// Sets the socket options that send small frames immediately and detect a dead peer.
fn set_options(stream: &std::net::TcpStream, write_timeout: Duration) {
    let _ = stream.set_nodelay(true);
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE.0)
        .with_interval(KEEPALIVE.1);
    let _ = socket.set_tcp_keepalive(&keepalive);
    // For data that the peer's host never acknowledges. Longer than the gateway's own write
    // timeout, which also updates the metrics.
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_user_timeout(Some(write_timeout + KEEPALIVE.0));
    #[cfg(not(target_os = "linux"))]
    let _ = write_timeout;
}
