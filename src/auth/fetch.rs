//! Sources of an issuer's keys: a file or a URL.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::Uri;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::auth::verifying::VerifyingKey;

/// The timeout of a fetch, from name lookup to the last byte.
const PATIENCE: Duration = Duration::from_secs(5);
/// The maximum size of a key set, in bytes.
const MAX_SET: usize = 256 << 10;

/// The source of a JSON Web Key Set.
pub enum KeySource {
    /// A file.
    File(PathBuf),
    /// A URL: https, or http on the same machine.
    Url(Box<Uri>, Option<Arc<ClientConfig>>),
}

/// The reason why a source is not valid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUrl {
    /// A scheme with which anyone on the network path could supply keys.
    #[error("keys must be fetched over https, or over http from this machine (localhost)")]
    Scheme,
    /// A text that is not a URL.
    #[error("not a URL")]
    Url,
    /// Trusted certificates that cannot be read.
    #[error("cannot read the trusted certificates: {0}")]
    Roots(String),
}

impl KeySource {
    /// Creates a source from a URL. The trusted certificates are those of `ca`, or those of the
    /// system.
    ///
    /// # Errors
    /// Returns [`InvalidUrl`] for an unusable URL, or certificates that cannot be read.
    pub fn url(text: &str, ca: Option<&[u8]>) -> Result<Self, InvalidUrl> {
        let uri: Uri = text.parse().map_err(|_| InvalidUrl::Url)?;
        let host = uri.host().ok_or(InvalidUrl::Url)?;
        match uri.scheme_str() {
            Some("https") => {}
            Some("http") if matches!(host, "localhost" | "127.0.0.1" | "[::1]") => {
                return Ok(Self::Url(Box::new(uri), None));
            }
            _ => return Err(InvalidUrl::Scheme),
        }
        Ok(Self::Url(Box::new(uri), Some(Arc::new(believing(ca)?))))
    }

    /// Fetches the current keys.
    ///
    /// # Errors
    /// Returns the reason of the failure, for the log.
    ///
    /// # Cancel safety
    /// This method is cancel safe.
    pub async fn fetch(&self) -> Result<Vec<VerifyingKey>, String> {
        let text = match self {
            Self::File(path) => tokio::fs::read_to_string(path)
                .await
                .map_err(|error| error.to_string())?,
            Self::Url(uri, tls) => tokio::time::timeout(PATIENCE, get(uri, tls.as_ref()))
                .await
                .map_err(|_| "no response in time".to_owned())??,
        };
        VerifyingKey::set(&text).map_err(|error| error.to_string())
    }
}

fn believing(ca: Option<&[u8]>) -> Result<ClientConfig, InvalidUrl> {
    use tokio_rustls::rustls::pki_types::CertificateDer;
    use tokio_rustls::rustls::pki_types::pem::PemObject as _;
    let mut roots = RootCertStore::empty();
    let of = |error: &dyn std::fmt::Display| InvalidUrl::Roots(error.to_string());
    if let Some(pem) = ca {
        for certificate in CertificateDer::pem_slice_iter(pem) {
            roots
                .add(certificate.map_err(|error| of(&error))?)
                .map_err(|error| of(&error))?;
        }
    } else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    if roots.is_empty() {
        return Err(InvalidUrl::Roots("there are none".to_owned()));
    }
    let provider = tokio_rustls::rustls::crypto::ring::default_provider();
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| of(&error))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

async fn get(uri: &Uri, tls: Option<&Arc<ClientConfig>>) -> Result<String, String> {
    let host = uri.host().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let port = uri
        .port_u16()
        .unwrap_or(if tls.is_some() { 443 } else { 80 });
    let stream = TcpStream::connect((bare, port))
        .await
        .map_err(|error| error.to_string())?;
    match tls {
        Some(tls) => {
            let name = ServerName::try_from(bare.to_owned()).map_err(|error| error.to_string())?;
            let stream = TlsConnector::from(tls.clone()).connect(name, stream).await;
            ask(uri, stream.map_err(|error| error.to_string())?).await
        }
        None => ask(uri, stream).await,
    }
}

async fn ask(
    uri: &Uri,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<String, String> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let request = hyper::Request::get(path)
        .header("host", authority)
        .header("accept", "application/jwk-set+json, application/json")
        .header("connection", "close")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let asked = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| error.to_string())?;
        if response.status() != 200 {
            return Err(format!("the server responded with {}", response.status()));
        }
        let body = Limited::new(response.into_body(), MAX_SET).collect().await;
        let bytes = body.map_err(|error| error.to_string())?.to_bytes();
        String::from_utf8(bytes.to_vec()).map_err(|error| error.to_string())
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
