//! The Redis connection: its URL, and TLS.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use deadpool_redis::redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::config::cluster::{self, ClusterUrl};
use crate::config::kinds::Kind;
use crate::config::sentinel::{self, SentinelUrl};
use crate::config::table::Values;
use crate::config::{RedisSource, SPECS, SettingsMode, SettingsReader, Spec};
use crate::net::tls::{self, TlsFiles, TlsProblem};
use crate::redis::{NodeAddress, Sentinels};

/// The address of Redis, or of the sentinels that know the address.
#[derive(Clone, Debug)]
pub struct RedisUrl {
    /// Address and login of Redis; only the login if there are sentinels.
    pub connection: ConnectionInfo,
    /// The sentinels to ask for the address.
    pub sentinels: Option<Sentinels>,
    /// The first nodes of a cluster to ask; empty for a single server.
    pub seeds: Vec<NodeAddress>,
    /// The TLS configuration; `None` without TLS.
    pub tls: Option<Arc<ClientConfig>>,
}

/// A hint for percent-encoding characters with a meaning in URLs.
const ESCAPES: &str = "in a user or password, write % as %25, # as %23, / as %2F, ? as %3F, : as %3A and \
                       @ as %40";

impl RedisUrl {
    /// Returns a URL that stands in for the address of a private Redis until it has started.
    pub(super) fn placeholder() -> Option<Self> {
        let connection = ConnectionAddr::Unix(PathBuf::new())
            .into_connection_info()
            .ok()?;
        Some(Self {
            connection,
            sentinels: None,
            seeds: Vec::new(),
            tls: None,
        })
    }
}

impl Kind for RedisUrl {
    const PLACEHOLDER: &'static str = "URL";

    fn parse(text: &str) -> Result<Self, String> {
        url(text)
    }

    /// Masks the password.
    fn mask(text: &str) -> String {
        if let Some(masked) = sentinel::masked(text).or_else(|| cluster::masked(text)) {
            return masked;
        }
        match text.split_once("://").zip(text.rsplit_once('@')) {
            Some(((scheme, rest), (_, host))) => {
                let user = rest.split([':', '@']).next().unwrap_or_default();
                format!("{scheme}://{user}:***@{host}")
            }
            None => text.to_owned(),
        }
    }
}

/// Parses a Redis URL. Errors never repeat the text, which may hold a password.
fn url(text: &str) -> Result<RedisUrl, String> {
    let scheme = text.split("://").next().unwrap_or_default();
    match scheme {
        "redis" | "rediss" | "unix" | "redis+unix" => {
            if scheme.starts_with("redis") && scheme != "redis+unix" && has_bare_password(text) {
                return Err(format!("has a # / or ? before its @: {ESCAPES}"));
            }
            let info = text.into_connection_info().map_err(|_| {
                let hint = if text.contains(['@', '#', '%']) {
                    ESCAPES
                } else {
                    ""
                };
                let wrong = "is not a Redis URL like redis://host:6379/0";
                if hint.is_empty() {
                    wrong.to_owned()
                } else {
                    format!("{wrong}; {hint}")
                }
            })?;
            if matches!(info.addr(), ConnectionAddr::TcpTls { insecure: true, .. }) {
                return Err(
                    "the certificate of Redis is always verified: name its issuer with \
                            --redis-ca instead of #insecure"
                        .to_owned(),
                );
            }
            Ok(RedisUrl {
                connection: without_delay(info),
                sentinels: None,
                seeds: Vec::new(),
                tls: None,
            })
        }
        "redis-sentinel" | "rediss-sentinel" => of_sentinels(&SentinelUrl::parse(text)?),
        "redis-cluster" | "rediss-cluster" => of_cluster(ClusterUrl::parse(text)?),
        _ => Err(format!(
            "must begin with redis://, rediss://, unix://, redis-cluster://, rediss-cluster://, \
             redis-sentinel:// or rediss-sentinel://{}",
            suggestion(text)
        )),
    }
}

/// Returns a hint with the URL that was probably meant. The text must not hold a password.
fn suggestion(text: &str) -> String {
    let is_address = |text: &str| {
        text.parse::<std::net::SocketAddr>().is_ok()
            || text.split_once(':').is_some_and(|(host, port)| {
                is_host(host)
                    && port
                        .split('/')
                        .next()
                        .is_some_and(|port| port.parse::<u16>().is_ok())
            })
    };
    match text {
        _ if text.starts_with('/') && !text.contains('@') => {
            format!("; for this socket write unix://{text}")
        }
        _ if is_address(text) => format!("; for this address write redis://{text}"),
        "localhost" => "; for this host write redis://localhost:6379".to_owned(),
        _ => String::new(),
    }
}

fn is_host(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b))
}

fn of_sentinels(url: &SentinelUrl) -> Result<RedisUrl, String> {
    let asked = |(host, port): &(String, u16)| {
        let login = (
            url.sentinel_user.as_deref(),
            url.sentinel_password.as_deref(),
        );
        connection(url.tls, (host, *port), login)
    };
    let nodes = url.nodes.iter().map(asked).collect::<Result<_, _>>()?;
    // The address is not known yet.
    let login = (url.user.as_deref(), url.password.as_deref());
    let connection = connection(url.tls, ("", 0), login)?;
    let login = connection.redis_settings().clone().set_db(url.db);
    let sentinels = Some(Sentinels {
        nodes,
        master: url.master.clone(),
    });
    Ok(RedisUrl {
        connection: connection.set_redis_settings(login),
        sentinels,
        seeds: Vec::new(),
        tls: None,
    })
}

fn of_cluster(url: ClusterUrl) -> Result<RedisUrl, String> {
    let authority = url.authority;
    let login = (authority.user.as_deref(), authority.password.as_deref());
    // Each node has an address of its own.
    let connection = connection(url.tls, ("", 0), login)?;
    let seeds = authority.nodes.into_iter();
    Ok(RedisUrl {
        connection,
        sentinels: None,
        seeds: seeds
            .map(|(host, port)| NodeAddress { host, port })
            .collect(),
        tls: None,
    })
}

/// Returns an address with a login: user and password.
fn connection(
    tls: bool,
    (host, port): (&str, u16),
    (user, password): (Option<&str>, Option<&str>),
) -> Result<ConnectionInfo, String> {
    let host = host.to_owned();
    let address = match tls {
        true => ConnectionAddr::TcpTls {
            host,
            port,
            insecure: false,
            tls_params: None,
        },
        false => ConnectionAddr::Tcp(host, port),
    };
    let info = without_delay(
        address
            .into_connection_info()
            .map_err(|error| error.to_string())?,
    );
    let mut login = info.redis_settings().clone();
    if let Some(user) = user {
        login = login.set_username(user);
    }
    if let Some(password) = password {
        login = login.set_password(password);
    }
    Ok(info.set_redis_settings(login))
}

/// Returns whether the part before the host ends too early, at a character that should be escaped.
fn has_bare_password(text: &str) -> bool {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    rest.split_once(['/', '?', '#'])
        .is_some_and(|(_, behind)| behind.contains('@'))
}

fn without_delay(info: ConnectionInfo) -> ConnectionInfo {
    let tcp = info.tcp_settings().clone().set_nodelay(true);
    info.set_tcp_settings(tcp)
}

type ClientCertificate = (
    Vec<tokio_rustls::rustls::pki_types::CertificateDer<'static>>,
    PrivateKeyDer<'static>,
);

/// The name of the setting, for a problem with the contents of its file.
fn about(spec: &Spec, text: &str) -> String {
    format!("{}: {text}", spec.name)
}

impl SettingsReader<'_> {
    /// Adds the TLS configuration for Redis to its URL.
    pub(super) fn redis_tls(
        &mut self,
        values: &Values,
        mut url: RedisUrl,
        mode: SettingsMode,
    ) -> Option<RedisUrl> {
        let (ca, cert, key) = (
            values.redis_ca.as_deref(),
            values.redis_client_cert.clone(),
            values.redis_client_key.clone(),
        );
        let given = ca.is_some() || cert.is_some() || key.is_some();
        if !matches!(url.connection.addr(), ConnectionAddr::TcpTls { .. }) {
            if given {
                self.problem(
                    "redis-ca and redis-client-cert require a redis-url with rediss://, \
                     rediss-cluster:// or rediss-sentinel://",
                );
            }
            return Some(url);
        }
        let client = self.both(
            (&SPECS.redis_client_cert, cert),
            (&SPECS.redis_client_key, key),
        );
        if mode == SettingsMode::Ask {
            return Some(url);
        }
        let before = self.problems.len();
        let roots = self.roots(ca);
        let client = client.and_then(|(cert, key)| self.client(&TlsFiles { cert, key }));
        if self.problems.len() > before {
            return None;
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().ok()?;
        let builder = builder.with_root_certificates(roots?);
        let config = match client {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).ok()?,
            None => builder.with_no_client_auth(),
        };
        url.tls = Some(Arc::new(config));
        Some(url)
    }

    /// Loads the root certificates from the file, or from the system.
    fn roots(&mut self, ca: Option<&Path>) -> Option<RootCertStore> {
        let mut roots = RootCertStore::empty();
        let Some(path) = ca else {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            return Some(roots);
        };
        let read = tls::read_file(path).and_then(|pem| {
            tls::certificates(&pem).map_err(|wrong| format!("{} {wrong}", path.display()))
        });
        let added = read.map(|all| all.into_iter().all(|one| roots.add(one).is_ok()));
        match added {
            Ok(true) => return Some(roots),
            Ok(false) => self.problem(about(
                &SPECS.redis_ca,
                "contains a certificate that cannot sign others",
            )),
            Err(wrong) => self.problem(about(&SPECS.redis_ca, &wrong)),
        }
        None
    }

    /// Loads the client certificate and its key.
    fn client(&mut self, files: &TlsFiles) -> Option<ClientCertificate> {
        self.check_tls(files, &SPECS.redis_client_cert, &SPECS.redis_client_key);
        let chain = tls::certificates(&tls::read_file(&files.cert).ok()?).ok()?;
        Some((
            chain,
            PrivateKeyDer::from_pem_slice(&tls::read_file(&files.key).ok()?).ok()?,
        ))
    }

    /// Reports what is wrong with a certificate and its key, as problems of their settings.
    pub(super) fn check_tls(&mut self, files: &TlsFiles, cert: &Spec, key: &Spec) {
        for problem in files.check().err().unwrap_or_default() {
            self.problem(match problem {
                TlsProblem::Cert(text) => about(cert, &text),
                TlsProblem::Key(text) => about(key, &text),
            });
        }
    }

    /// Returns the path of the password file. The file must be readable, and no other setting may
    /// contain the password.
    pub(super) fn password_file(
        &mut self,
        values: &Values,
        redis: Option<&RedisSource>,
        mode: SettingsMode,
    ) -> Option<PathBuf> {
        let path = values.redis_password_file.clone()?;
        match redis {
            _ if mode == SettingsMode::Ask => {}
            Some(RedisSource::Private(_)) => self
                .problem("redis-password-file requires redis-url and cannot be used with data-dir"),
            Some(RedisSource::Url(url)) if url.connection.redis_settings().password().is_some() => {
                self.problem("redis-password-file and a password in redis-url exclude each other");
            }
            _ => {
                if let Err(wrong) = tls::read_file(&path) {
                    self.problem(about(&SPECS.redis_password_file, &wrong));
                }
            }
        }
        Some(path)
    }
}
