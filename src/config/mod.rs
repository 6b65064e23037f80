//! Settings: their table, the sources of their values, and their combined meaning.
//!
//! A flag takes precedence over an environment variable (`STREAMGATE_…`), which takes precedence
//! over the file given by `--config`. All problems are reported at once. No other module of the
//! crate reads the environment for settings.

mod layers;
mod live;
mod network;
mod reader;
mod redis;
mod sentinel;
mod specs;
mod values;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use crate::config::layers::{Layers, Source};
pub use crate::config::redis::RedisUrl;
pub use crate::config::specs::{SPECS, Spec};
use reader::Reader;

use crate::config::values::{
    boolean, cores, listen_address, log_format, log_level, origin, placeholder,
};

use crate::auth::{Auth, secret_of};
use crate::http::state::ApiSettings;
use crate::jobs::JobSettings;
use crate::live::LiveSettings;
use crate::net::ServerSettings;
use crate::rate_limit::Quota;
use crate::redis::PoolSettings;
use crate::telemetry::LogSettings;

/// The Redis that holds the streams.
#[derive(Clone, Debug)]
pub enum RedisSource {
    /// An external Redis.
    Url(Box<RedisUrl>),
    /// A private Redis that the gateway runs, with its data in this directory.
    Private(PathBuf),
}

/// All settings of a gateway.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The Redis that holds the streams.
    pub redis: RedisSource,
    /// The Redis connection pool. Its address is a placeholder until a private Redis has started.
    pub pool: PoolSettings,
    /// Subscriptions and background jobs.
    pub live: LiveSettings,
    /// Intervals of the background jobs.
    pub jobs: JobSettings,
    /// The HTTP API.
    pub api: ApiSettings,
    /// Authentication and authorization.
    pub auth: Auth,
    /// The file with the secret that signs tickets, in place of a secret in Redis.
    pub ticket_secret_file: Option<PathBuf>,
    /// Connections from clients.
    pub server: ServerSettings,
    /// The log.
    pub log: LogSettings,
}

/// A problem with the settings. The text names the setting and the source of its value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Problem(String);

impl Problem {
    /// Creates a problem from its complete text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// The command for which settings are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `serve`: a Redis must be configured.
    Serve,
    /// `dev`: without a configured Redis, a private one in the platform's data directory is used.
    Dev,
    /// A query to a running gateway: its Redis and the contents of files do not matter.
    Ask,
}

impl Reader<'_> {
    /// Reads the auth file. Without one, authentication is off.
    fn auth(&mut self, mode: Mode) -> Auth {
        let path = self.get("auth-file", |text| Ok(PathBuf::from(text)));
        let Some(path) = path.filter(|_| mode != Mode::Ask) else {
            return Auth::off();
        };
        Auth::from_file(&path).unwrap_or_else(|wrong| {
            let of = format!("auth-file ({})", path.display());
            self.problems.extend(
                wrong
                    .into_iter()
                    .map(|wrong| Problem(format!("{of}: {wrong}"))),
            );
            Auth::off()
        })
    }

    /// Reads the secret that signs tickets, and returns the path of its file.
    fn ticket_secret(&mut self, auth: &Auth, mode: Mode) -> Option<PathBuf> {
        let path = self.get("ticket-secret-file", |text| Ok(PathBuf::from(text)))?;
        let read = crate::net::tls::read(&path).and_then(|text| {
            secret_of(&text).map_err(|wrong| format!("{} {wrong}", path.display()))
        });
        match read {
            _ if mode == Mode::Ask => {}
            _ if !auth.is_on() => {
                let text =
                    "ticket-secret-file requires auth-file: without one there are no tickets";
                self.problems.push(Problem(text.to_owned()));
            }
            Ok(secret) => auth.take_secret_from_file(&secret),
            Err(wrong) => self
                .problems
                .push(Problem(format!("ticket-secret-file: {wrong}"))),
        }
        Some(path)
    }

    /// Refuses to listen on a non-loopback address without authentication, unless `insecure` is set.
    fn check_exposure(&mut self, listen: Option<SocketAddr>, auth: &Auth, mode: Mode) {
        let insecure = self.get("insecure", boolean).unwrap_or(false);
        let exposed = listen.filter(|listen| !listen.ip().is_loopback());
        if let Some(listen) = exposed.filter(|_| !insecure && !auth.is_on() && mode != Mode::Ask) {
            self.problems.push(Problem(format!(
                "listen: {listen} can be reached from other machines, but authentication is off: set \
                 --auth-file, listen on 127.0.0.1, or set --insecure"
            )));
        }
    }
}

impl Reader<'_> {
    /// Returns the Redis to use, from its address or the data directory of a private one.
    fn redis_source(
        &mut self,
        url: Option<RedisUrl>,
        data_dir: Option<PathBuf>,
        mode: Mode,
    ) -> Option<RedisSource> {
        match (url, data_dir) {
            (Some(_), Some(_)) => {
                self.problems.push(Problem(
                    "redis-url and data-dir exclude each other".to_owned(),
                ));
                None
            }
            (Some(url), None) => Some(RedisSource::Url(Box::new(url))),
            (None, Some(dir)) => Some(RedisSource::Private(dir)),
            (None, None) if self.layers.one("redis-url").is_some() => None,
            (None, None) if mode != Mode::Serve => {
                let dir = layers::data_dir();
                if dir.is_none() {
                    let text = "there is no home directory for the data: set --data-dir";
                    self.problems.push(Problem(text.to_owned()));
                }
                dir.map(RedisSource::Private)
            }
            (None, None) => {
                self.problems.push(Problem(
                    "no Redis is configured: set --redis-url for a running one, or --data-dir for a private one".to_owned(),
                ));
                None
            }
        }
    }

    /// Reads the settings of the HTTP API.
    fn api(&mut self) -> ApiSettings {
        let max_body = self.size("max-body");
        ApiSettings {
            https: self.layers.one("tls-cert").is_some(),
            base_path: self.get("base-path", network::parsed).unwrap_or_default(),
            any_host: false,
            hosts: self.all("host", |text| Ok(text.to_ascii_lowercase())),
            origins: self.all("allow-origin", origin),
            max_body,
            body_memory: self.at_least_a_body("body-memory", max_body),
            answer_memory: self.size("answer-memory"),
            max_fields: self.count("max-fields"),
            max_inflation: self.count("max-inflation"),
            max_field_name: self.size("max-field-name"),
            body_timeout: self.duration("body-timeout"),
            max_subscriptions: self.count("max-subscriptions"),
            max_waiting: self.count("max-waiting-reads"),
            heartbeat: self.duration("heartbeat"),
            max_session_age: self.duration_if_any("max-session-age"),
            max_consumers: self.count("max-consumers"),
            max_scheduled: self.count("max-scheduled"),
            max_scheduled_bytes: self.at_least_a_body("max-scheduled-bytes", max_body),
            idempotency_window: self.duration("idempotency-window"),
            trace_context: self.get("trace-context", boolean).unwrap_or(false),
            console: !self.get("no-console", boolean).unwrap_or(false),
            slow_request: Duration::from_secs(1),
        }
    }
}

impl Settings {
    /// Reads all settings.
    ///
    /// # Errors
    /// Returns all problems, not just the first.
    pub fn load(layers: &Layers, mode: Mode) -> Result<Self, Vec<Problem>> {
        let mut read = Reader {
            layers,
            problems: layers.problems(),
        };
        let listen = read.get("listen", listen_address);
        let auth = read.auth(mode);
        let ticket_secret_file = read.ticket_secret(&auth, mode);
        read.check_exposure(listen, &auth, mode);
        let url = read.get("redis-url", redis::url);
        let data_dir = read.get("data-dir", |text| Ok(PathBuf::from(text)));
        let redis = read.redis_source(url, data_dir, mode);
        let connection = match &redis {
            Some(RedisSource::Url(url)) => read.redis_tls((**url).clone(), mode),
            _ => placeholder(),
        };
        let block = Duration::from_secs(5);
        let pool = connection.map(
            |RedisUrl {
                 connection,
                 sentinels,
                 tls,
             }| PoolSettings {
                connection,
                sentinels,
                tls,
                password_file: read.password_file(redis.as_ref(), mode),
                connect_timeout: read.duration("redis-connect-timeout"),
                response_timeout: read.duration("redis-timeout"),
                workers: if layers.one("workers").is_some() {
                    read.count("workers")
                } else {
                    cores()
                },
                readers: read.count("redis-connections"),
                blocking: read.count("redis-blocking-connections"),
                block,
                durable: read.count("redis-durable-connections"),
                large_reads: read.size("read-memory"),
            },
        );
        let jobs = live::jobs(&mut read);
        let live = live::read(
            &mut read,
            pool.as_ref().map_or(1, |pool| pool.workers),
            block,
        );
        let api = read.api();
        let server = read.server(
            listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8080))),
            mode,
        );
        let log = LogSettings {
            json: read.get("log-format", log_format).unwrap_or(false),
            level: read
                .get("log-level", log_level)
                .unwrap_or(tracing::Level::INFO),
            refusals: read
                .get("log-refusals", network::parsed)
                .unwrap_or(Quota::SECONDLY),
        };
        match (redis, pool) {
            (Some(redis), Some(pool)) if read.problems.is_empty() => Ok(Self {
                redis,
                pool,
                live,
                jobs,
                api,
                auth,
                ticket_secret_file,
                server,
                log,
            }),
            _ => {
                read.problems.dedup();
                Err(read.problems)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(
        flags: &[(&str, &str)],
        env: &[(&str, &str)],
        file: &str,
        mode: Mode,
    ) -> Result<Settings, Vec<Problem>> {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let mut layers = Layers::default();
        for (name, value) in flags.iter().map(own) {
            layers.flag(&name, value);
        }
        layers.environment(env.iter().map(own));
        layers.file("streamgate.toml", file);
        Settings::load(&layers, mode)
    }

    fn problems(flags: &[(&str, &str)], env: &[(&str, &str)], file: &str) -> Vec<String> {
        load(flags, env, file, Mode::Serve)
            .unwrap_err()
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    const URL: (&str, &str) = ("redis-url", "redis://localhost");

    #[test]
    fn a_flag_beats_the_environment_beats_the_file() {
        let file = "max_body = \"1MiB\"\nheartbeat = \"1s\"\nlog_level = \"warn\"";
        let env = [
            ("STREAMGATE_MAX_BODY", "2MiB"),
            ("STREAMGATE_HEARTBEAT", "2s"),
        ];
        let settings = load(&[URL, ("max-body", "3MiB")], &env, file, Mode::Serve).unwrap();
        assert_eq!(settings.api.max_body, 3 << 20);
        assert_eq!(settings.api.heartbeat, Duration::from_secs(2));
        assert_eq!(settings.log.level, tracing::Level::WARN);
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let wrong = problems(
            &[("listen", "0.0.0.0:80"), ("heartbeat", "15")],
            &[
                ("STREAMGATE_MAX_BDOY", "1"),
                ("STREAMGATE_MAX_BODY", "much"),
            ],
            "log_format = \"xml\"\ncolour = 1",
        );
        for part in [
            "--insecure",
            "heartbeat (--heartbeat): a duration needs a unit",
            "did you mean STREAMGATE_MAX_BODY",
            "max-body (STREAMGATE_MAX_BODY): \"much\"",
            "log-format (streamgate.toml): \"xml\"",
            "colour",
            "--redis-url for a running one, or --data-dir for a private one",
        ] {
            assert!(
                wrong.iter().any(|problem| problem.contains(part)),
                "{part}: {wrong:#?}"
            );
        }
    }

    #[test]
    fn the_largest_body_fits_into_the_memory_of_all() {
        let flags = [URL, ("body-memory", "1MiB")];
        let wrong = problems(&flags, &[], "");
        assert_eq!(
            wrong,
            ["body-memory (--body-memory): \"1MiB\" is less than max-body"]
        );
        assert!(load(&flags, &[], "max_body = \"1MiB\"", Mode::Serve).is_ok());
    }

    #[test]
    fn a_password_is_never_repeated() {
        for url in [
            "redis://:secret@[",
            "rediss://:secret@host/#insecure",
            "secret",
        ] {
            let wrong = problems(&[("redis-url", url)], &[], "");
            assert!(!wrong.concat().contains("secret"), "{wrong:?}");
        }
    }

    #[test]
    fn lists_come_from_repeated_flags_and_from_commas() {
        let flags = [
            URL,
            ("allow-origin", "http://a"),
            ("allow-origin", "http://b:1"),
        ];
        let settings = load(&flags, &[("STREAMGATE_HOST", "x, Y")], "", Mode::Serve).unwrap();
        assert_eq!(settings.api.origins, ["http://a", "http://b:1"]);
        assert_eq!(settings.api.hosts, ["x", "y"]);
    }

    #[test]
    fn every_default_is_valid() {
        let settings = load(&[URL], &[], "", Mode::Serve).unwrap();
        assert_eq!(settings.api.max_body, 8 << 20);
        assert!(settings.server.listen.ip().is_loopback());
    }
}
