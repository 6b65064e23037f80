//! Settings of client connections and of client identification.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::config::values::listen_address;
use crate::config::{Mode, Problem, Reader, Source};
use crate::net::ServerSettings;
use crate::net::client_limiter::ClientLimits;
use crate::net::forwarded::{ForwardedHeader, Proxies};
use crate::net::tls::{TlsFiles, TlsProblem};

impl Reader<'_> {
    pub(super) fn server(&mut self, listen: SocketAddr, mode: Mode) -> ServerSettings {
        let shutdown_grace = self.duration("shutdown-grace");
        ServerSettings {
            listen,
            metrics_listen: self.get("metrics-listen", listen_address),
            tls: self.tls(mode),
            max_connections: self.count("max-connections"),
            max_streams: u32::try_from(self.count("max-streams-per-connection"))
                .unwrap_or(u32::MAX),
            max_header_size: self.size("max-header-size"),
            handshake_timeout: self.duration("tls-handshake-timeout"),
            header_timeout: self.duration("header-timeout"),
            idle_timeout: self.duration("idle-timeout"),
            linger_timeout: self.duration("linger-timeout"),
            linger_bytes: self.size("linger-bytes"),
            write_timeout: self.duration("write-timeout"),
            // The rest of the grace period is for requests that are still open then.
            lame_duck: self
                .duration_if_any("lame-duck")
                .unwrap_or_default()
                .min(shutdown_grace / 2),
            shutdown_grace,
            visitors: ClientLimits {
                rate: self.get("rate-per-address", parsed),
                max_addresses: self.count("max-addresses"),
                max_connections: self
                    .ranged("max-connections-per-address", parsed)
                    .filter(|most| *most > 0),
                proxies: Proxies {
                    trusted: self.all("trusted-proxy", parsed),
                    written: self.get("forwarded-header", written).unwrap_or_default(),
                },
            },
        }
    }

    pub(super) fn file(&mut self, name: &str) -> Option<PathBuf> {
        self.get(name, |text| Ok(PathBuf::from(text)))
    }

    /// Returns two settings that require each other.
    pub(super) fn both<T>(
        &mut self,
        one: (&str, Option<T>),
        other: (&str, Option<T>),
    ) -> Option<(T, T)> {
        match (one, other) {
            ((_, Some(one)), (_, Some(other))) => Some((one, other)),
            ((given, Some(_)), (missing, None)) | ((missing, None), (given, Some(_))) => {
                self.problems
                    .push(Problem(format!("{given} requires {missing}")));
                None
            }
            ((_, None), (_, None)) => None,
        }
    }

    fn tls(&mut self, mode: Mode) -> Option<TlsFiles> {
        let (cert, key) = (self.file("tls-cert"), self.file("tls-key"));
        let (cert, key) = self.both(("tls-cert", cert), ("tls-key", key))?;
        let files = TlsFiles { cert, key };
        if mode != Mode::Ask
            && let Err(problems) = files.check()
        {
            self.problems
                .extend(problems.into_iter().map(|problem| match problem {
                    TlsProblem::Cert(text) => Problem(format!("tls-cert: {text}")),
                    TlsProblem::Key(text) => Problem(format!("tls-key: {text}")),
                }));
        }
        Some(files)
    }

    /// Reads a memory limit, which must be at least as large as the largest body.
    pub(super) fn at_least_a_body(&mut self, name: &str, max_body: usize) -> usize {
        let bytes = self.size(name);
        if bytes < max_body {
            let (text, source) = self
                .layers
                .one(name)
                .unwrap_or((String::new(), Source::Default));
            self.problems.push(Problem(format!(
                "{name} ({source}): {text:?} is less than max-body"
            )));
        }
        bytes
    }
}

pub(super) fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(
    text: &str,
) -> Result<T, String> {
    text.parse().map_err(|error| format!("{text:?}: {error}"))
}

fn written(text: &str) -> Result<ForwardedHeader, String> {
    match text.to_ascii_lowercase().as_str() {
        "x-forwarded-for" => Ok(ForwardedHeader::XForwardedFor),
        "forwarded" => Ok(ForwardedHeader::Forwarded),
        _ => Err(format!("{text:?} is neither x-forwarded-for nor forwarded")),
    }
}
