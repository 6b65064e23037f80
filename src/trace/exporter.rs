//! The export of spans: a task that sends batches to the collector.

use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::Uri;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::trace::otlp::{self, Span};

/// The maximum number of spans of a batch.
const BATCH: usize = 512;
/// The time for which a batch waits for more spans.
const GATHER: Duration = Duration::from_millis(500);
/// The timeout of an export, from name lookup to the last byte of the response.
const PATIENCE: Duration = Duration::from_secs(5);
/// The maximum size of a response, in bytes.
const MAX_RESPONSE: usize = 64 << 10;

/// The address of a collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtlpEndpoint {
    host: String,
    port: u16,
    path: String,
}

/// The error for a text that is not the address of a collector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a URL like http://localhost:4318; for https, run a collector on this machine")]
pub struct InvalidEndpoint;

impl FromStr for OtlpEndpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        let uri: Uri = text.parse().map_err(|_| InvalidEndpoint)?;
        let host = uri.host().filter(|host| !host.is_empty());
        if uri.scheme_str() != Some("http") || uri.query().is_some() {
            return Err(InvalidEndpoint);
        }
        Ok(Self {
            host: host.ok_or(InvalidEndpoint)?.to_owned(),
            port: uri.port_u16().unwrap_or(4318),
            path: format!("{}/v1/traces", uri.path().trim_end_matches('/')),
        })
    }
}

/// Exports the spans of a queue until `stop`, and then those that are left.
pub(super) async fn export(
    endpoint: OtlpEndpoint,
    mut spans: mpsc::Receiver<Span>,
    metrics: Metrics,
    stop: CancellationToken,
) {
    let instance = format!("{:016x}", fastrand::u64(..));
    let mut fails = false;
    loop {
        let mut batch = Vec::new();
        let stops = tokio::select! {
            count = spans.recv_many(&mut batch, BATCH) => count == 0,
            () = stop.cancelled() => true,
        };
        if stops {
            // The spans of the last requests, in one attempt.
            spans.close();
            while let Ok(span) = spans.try_recv() {
                batch.push(span);
            }
        } else if batch.len() < BATCH {
            tokio::select! {
                () = tokio::time::sleep(GATHER) => {}
                () = stop.cancelled() => {}
            }
            while batch.len() < BATCH
                && let Ok(span) = spans.try_recv()
            {
                batch.push(span);
            }
        }
        if !batch.is_empty() {
            let body = otlp::body(&batch, &instance);
            let sent = tokio::time::timeout(PATIENCE, post(&endpoint, body)).await;
            let sent = sent.unwrap_or_else(|_| Err("no response in time".to_owned()));
            let outcome = if sent.is_ok() { "exported" } else { "dropped" };
            metrics.count_spans(outcome, batch.len() as u64);
            if let Err(error) = &sent
                && !fails
            {
                tracing::warn!("cannot export traces to the collector; spans are dropped: {error}");
            } else if sent.is_ok() && fails {
                tracing::info!("exporting traces to the collector again");
            }
            fails = sent.is_err();
        }
        if stops {
            return;
        }
    }
}

/// Sends a batch on a connection of its own.
async fn post(endpoint: &OtlpEndpoint, body: Vec<u8>) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let bare = endpoint.host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((bare, endpoint.port)).await;
    let stream = stream.map_err(|error| text(&error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| text(&error))?;
    let request = hyper::Request::post(&endpoint.path)
        .header("host", format!("{}:{}", endpoint.host, endpoint.port))
        .header("content-type", "application/json")
        .header("connection", "close")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| text(&error))?;
    let asked = async {
        let response = sender.send_request(request).await;
        let response = response.map_err(|error| text(&error))?;
        let status = response.status();
        let rest = Limited::new(response.into_body(), MAX_RESPONSE).collect();
        drop(rest.await);
        match status.is_success() {
            true => Ok(()),
            false => Err(format!("the collector responded with {status}")),
        }
    };
    // The connection makes no progress unless it is polled, and may end before the response is
    // read.
    let (mut connection, mut asked) = (std::pin::pin!(connection.fuse()), std::pin::pin!(asked));
    std::future::poll_fn(|cx| {
        let _ = connection.as_mut().poll(cx);
        asked.as_mut().poll(cx)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_url_without_tls() {
        for (text, host, port, path) in [
            ("http://localhost:4318", "localhost", 4318, "/v1/traces"),
            ("http://otel", "otel", 4318, "/v1/traces"),
            ("http://[::1]:80/a/", "[::1]", 80, "/a/v1/traces"),
        ] {
            let expected = OtlpEndpoint {
                host: host.to_owned(),
                port,
                path: path.to_owned(),
            };
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for wrong in [
            "",
            "localhost:4318",
            "https://otel",
            "http://",
            "http://a?b=c",
        ] {
            assert_eq!(
                wrong.parse::<OtlpEndpoint>(),
                Err(InvalidEndpoint),
                "{wrong}"
            );
        }
    }
}
