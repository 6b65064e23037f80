//! The way to Redis: what its URL means, and TLS.

use deadpool_redis::redis::{
    Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _,
    TlsCertificates,
};

use super::sentinel::SentinelUrl;
use super::{Mode, Problem, Reader};
use crate::net::tls::{self, TlsFiles, TlsProblem};
use crate::store::Sentinels;

/// Where Redis is, or who knows that.
#[derive(Clone, Debug)]
pub struct RedisUrl {
    /// Where it is, and as whom to log in; with sentinels, the latter alone.
    pub connection: ConnectionInfo,
    /// Whom to ask where it is.
    pub sentinels: Option<Sentinels>,
}

/// Never repeats the text, which may hold a password.
pub(super) fn url(text: &str) -> Result<RedisUrl, String> {
    let scheme = text.split("://").next().unwrap_or_default();
    match scheme {
        "redis" | "rediss" | "unix" | "redis+unix" => {
            let info = text
                .into_connection_info()
                .map_err(|_| "is not a URL of Redis, like redis://host:6379/0")?;
            if matches!(info.addr(), ConnectionAddr::TcpTls { insecure: true, .. }) {
                return Err("the certificate of Redis is always checked: name who signs it by \
                            --redis-ca, in place of #insecure"
                    .to_owned());
            }
            Ok(RedisUrl { connection: without_delay(info), sentinels: None })
        }
        "redis-sentinel" | "rediss-sentinel" => of_sentinels(&SentinelUrl::parse(text)?),
        _ => Err(format!(
            "must begin with redis://, rediss://, unix://, redis-sentinel:// or rediss-sentinel://{}",
            suggestion(text)
        )),
    }
}

/// The URL that was probably meant. Only for a text that holds no password.
fn suggestion(text: &str) -> String {
    let is_address = |text: &str| {
        text.parse::<std::net::SocketAddr>().is_ok()
            || text.split_once(':').is_some_and(|(host, port)| {
                is_host(host)
                    && port.split('/').next().is_some_and(|port| port.parse::<u16>().is_ok())
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
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b))
}

fn of_sentinels(url: &SentinelUrl) -> Result<RedisUrl, String> {
    let at = |host: &str, port: u16, user: Option<&str>, password: Option<&str>| {
        let host = host.to_owned();
        let address = match url.tls {
            true => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
            false => ConnectionAddr::Tcp(host, port),
        };
        let info =
            without_delay(address.into_connection_info().map_err(|error| error.to_string())?);
        let mut login = info.redis_settings().clone();
        if let Some(user) = user {
            login = login.set_username(user);
        }
        if let Some(password) = password {
            login = login.set_password(password);
        }
        Ok::<_, String>(info.set_redis_settings(login))
    };
    let asked = |(host, port): &(String, u16)| {
        at(host, *port, url.sentinel_user.as_deref(), url.sentinel_password.as_deref())
    };
    let nodes = url.nodes.iter().map(asked).collect::<Result<_, _>>()?;
    // Where it is, is not known yet.
    let connection = at("", 0, url.user.as_deref(), url.password.as_deref())?;
    let login = connection.redis_settings().clone().set_db(url.db);
    let connection = connection.set_redis_settings(login);
    Ok(RedisUrl { connection, sentinels: Some(Sentinels { nodes, master: url.master.clone() }) })
}

fn without_delay(info: ConnectionInfo) -> ConnectionInfo {
    let tcp = info.tcp_settings().clone().set_nodelay(true);
    info.set_tcp_settings(tcp)
}

impl Reader<'_> {
    /// The way to Redis, with the certificates it needs.
    pub(super) fn redis_tls(&mut self, mut url: RedisUrl, mode: Mode) -> Option<RedisUrl> {
        let ca = self.file("redis-ca");
        let (cert, key) = (self.file("redis-client-cert"), self.file("redis-client-key"));
        let given = ca.is_some() || cert.is_some() || key.is_some();
        if !matches!(url.connection.addr(), ConnectionAddr::TcpTls { .. }) {
            if given {
                let text = "redis-ca and redis-client-cert are for a redis-url with rediss:// or \
                            rediss-sentinel://";
                self.problems.push(Problem(text.to_owned()));
            }
            return Some(url);
        }
        let client = self.both(("redis-client-cert", cert), ("redis-client-key", key));
        if !given || mode == Mode::Ask {
            return Some(url);
        }
        let before = self.problems.len();
        let root_cert = ca.and_then(|path| self.certificates("redis-ca", &path));
        let client_tls = client.and_then(|(cert, key)| {
            let files = TlsFiles { cert, key };
            let problems = files.check().err().unwrap_or_default();
            self.problems.extend(problems.into_iter().map(|problem| match problem {
                TlsProblem::Cert(text) => Problem(format!("redis-client-cert: {text}")),
                TlsProblem::Key(text) => Problem(format!("redis-client-key: {text}")),
            }));
            let (client_cert, client_key) = (tls::read(&files.cert), tls::read(&files.key));
            Some(ClientTlsConfig { client_cert: client_cert.ok()?, client_key: client_key.ok()? })
        });
        if self.problems.len() > before {
            return None;
        }
        let certificates = TlsCertificates { client_tls, root_cert };
        let sentinels = url.sentinels.iter_mut().flat_map(|sentinels| &mut sentinels.nodes);
        for info in sentinels.chain([&mut url.connection]) {
            let Ok(client) = Client::build_with_tls(info.clone(), certificates.clone()) else {
                let text = "redis-ca: holds a certificate that cannot sign others";
                self.problems.push(Problem(text.to_owned()));
                return None;
            };
            info.clone_from(client.get_connection_info());
        }
        Some(url)
    }

    fn certificates(&mut self, name: &str, path: &std::path::Path) -> Option<Vec<u8>> {
        let read = tls::read(path).and_then(|pem| match tls::certificates(&pem) {
            Ok(_) => Ok(pem),
            Err(wrong) => Err(format!("{} {wrong}", path.display())),
        });
        read.map_err(|wrong| self.problems.push(Problem(format!("{name}: {wrong}")))).ok()
    }
}
