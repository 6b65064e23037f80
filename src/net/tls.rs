//! TLS for client connections, with a certificate that is reloaded when its files change.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{self, ServerConfig};

/// Interval at which the certificate files are checked for changes.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The ALPN protocols in order of preference.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Installs the process-wide rustls crypto provider. Must be called before any other use of TLS.
pub fn install_provider() {
    // An error means that a provider is installed already, which is this one.
    let _ = ring::default_provider().install_default();
}

/// The files of a certificate and its key.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificate with its chain, in PEM.
    pub cert: PathBuf,
    /// The private key, in PEM.
    pub key: PathBuf,
}

/// A problem with a certificate or its key. The text never includes the contents of a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsProblem {
    /// A problem with the certificate file.
    #[error("{0}")]
    Cert(String),
    /// A problem with the key file.
    #[error("{0}")]
    Key(String),
}

/// The contents of both files.
#[derive(PartialEq, Eq)]
struct Contents {
    cert: Vec<u8>,
    key: Vec<u8>,
}

impl TlsFiles {
    fn read(&self) -> Result<Contents, Vec<TlsProblem>> {
        let cert = read_file(&self.cert).map_err(TlsProblem::Cert);
        let key = read_file(&self.key).map_err(TlsProblem::Key);
        match (cert, key) {
            (Ok(cert), Ok(key)) => Ok(Contents { cert, key }),
            (cert, key) => Err([cert.err(), key.err()].into_iter().flatten().collect()),
        }
    }

    /// Checks whether the files are usable.
    ///
    /// # Errors
    /// All problems of the files.
    pub fn check(&self) -> Result<(), Vec<TlsProblem>> {
        self.certified(&self.read()?).map(drop)
    }

    fn certified(&self, contents: &Contents) -> Result<CertifiedKey, Vec<TlsProblem>> {
        let (cert, key) = (self.cert.display(), self.key.display());
        let chain = certificates(&contents.cert)
            .map_err(|wrong| TlsProblem::Cert(format!("{cert} {wrong}")));
        let private = PrivateKeyDer::from_pem_slice(&contents.key)
            .map_err(|_| TlsProblem::Key(format!("{key} holds no private key in PEM format")));
        let (chain, private) = match (chain, private) {
            (Ok(chain), Ok(private)) => (chain, private),
            (chain, private) => {
                return Err([chain.err(), private.err()].into_iter().flatten().collect());
            }
        };
        CertifiedKey::from_der(chain, private, &provider()).map_err(|error| {
            vec![match error {
                rustls::Error::InconsistentKeys(_) => {
                    TlsProblem::Key(format!("{key} does not match the certificate in {cert}"))
                }
                rustls::Error::InvalidCertificate(_) => {
                    TlsProblem::Cert(format!("{cert} holds an invalid certificate"))
                }
                _ => TlsProblem::Key(format!("{key} holds a key of an unsupported type")),
            }]
        })
    }
}

fn provider() -> CryptoProvider {
    ring::default_provider()
}

/// Reads a file.
///
/// # Errors
/// The cause, with the path of the file.
pub fn read_file(path: &std::path::Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// Parses all certificates of a PEM file, at least one.
///
/// # Errors
/// A predicate that the caller appends to the path of the file.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, &'static str> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        _ => Err("holds no certificate in PEM format"),
    }
}

/// The current certificate, which new connections get.
pub(crate) struct Shown {
    files: TlsFiles,
    /// The loaded certificate; replaced by `watch`.
    now: RwLock<Arc<CertifiedKey>>,
}

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shown")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.now.read().clone())
    }
}

impl Shown {
    /// Loads the certificate and returns it with an acceptor that always serves the current one.
    ///
    /// # Errors
    /// All problems of the files.
    pub(crate) fn new(files: &TlsFiles) -> Result<(Arc<Self>, TlsAcceptor), Vec<TlsProblem>> {
        let now = files.certified(&files.read()?)?;
        let shown = Arc::new(Self {
            files: files.clone(),
            now: RwLock::new(Arc::new(now)),
        });
        let builder = ServerConfig::builder_with_provider(Arc::new(provider()));
        let mut config = builder
            .with_safe_default_protocol_versions()
            .map_err(|error| vec![TlsProblem::Cert(error.to_string())])?
            .with_no_client_auth()
            .with_cert_resolver(shown.clone());
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        Ok((shown, TlsAcceptor::from(Arc::new(config))))
    }

    /// Reloads the certificate when its files change. Unusable files are logged once, and the
    /// current certificate stays in use.
    pub(crate) async fn watch(self: Arc<Self>) {
        let mut seen = self.files.read().ok();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            // Blocking reads of two small files do not justify another thread.
            let read = self.files.read();
            if read.as_ref().ok() == seen.as_ref() {
                continue;
            }
            let loaded = read.as_ref().map_err(Clone::clone);
            match loaded.and_then(|contents| self.files.certified(contents)) {
                Ok(certified) => {
                    *self.now.write() = Arc::new(certified);
                    tracing::info!(cert = %self.files.cert.display(), "reloaded the TLS certificate");
                }
                Err(problems) => {
                    for error in problems {
                        tracing::error!(%error, "cannot reload the TLS certificate; keeping the previous one");
                    }
                }
            }
            seen = read.ok();
        }
    }
}
