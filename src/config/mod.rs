//! Settings: what there is to set, where values come from, and what they mean together.
//!
//! A flag comes before a variable of the environment (`STREAMGATE_…`), which comes before the
//! file given by `--config`. Everything wrong is reported at once. No other file of the crate
//! reads the environment for settings.

mod layers;
mod live;
mod network;
mod redis;
mod sentinel;
mod specs;
mod values;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use crate::config::layers::{Layers, Source};
pub use crate::config::redis::RedisUrl;
use crate::config::specs::find;
pub use crate::config::specs::{SPECS, Spec};

use crate::config::values::{
    boolean, cores, listen_address, log_format, log_level, origin, placeholder, size,
};

use crate::auth::{Auth, secret_of};
use crate::http::state::ApiSettings;
use crate::jobs::JobSettings;
use crate::live::LiveSettings;
use crate::model::duration;
use crate::net::ServerSettings;
use crate::rate_limit::Quota;
use crate::redis::PoolSettings;
use crate::telemetry::LogSettings;

/// Where the streams are.
#[derive(Clone, Debug)]
pub enum RedisSource {
    /// A Redis that somebody else runs.
    Url(Box<RedisUrl>),
    /// One of our own, in this directory.
    Private(PathBuf),
}

/// All settings of a gateway.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the streams are.
    pub redis: RedisSource,
    /// The connection in this is a placeholder while a private Redis is not yet started.
    pub pool: PoolSettings,
    /// Following.
    pub live: LiveSettings,
    /// Intervals of the background jobs.
    pub jobs: JobSettings,
    /// The HTTP side.
    pub api: ApiSettings,
    /// Who may do what.
    pub auth: Auth,
    /// Holds the secret that tickets are signed with, in place of Redis.
    pub ticket_secret_file: Option<PathBuf>,
    /// Connections from clients.
    pub server: ServerSettings,
    /// The log.
    pub log: LogSettings,
}

/// One thing that is wrong with the settings. The text names the setting and where it came from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Problem(String);

impl Problem {
    /// A problem with its whole text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// Which command the settings are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A Redis must be named.
    Serve,
    /// A private Redis in the platform's data directory unless something else is named.
    Dev,
    /// A gateway that runs is asked: which Redis it has does not matter, nor what is in files.
    Ask,
}

/// Reads values one after the other and gathers what is wrong with them.
struct Reader<'a> {
    layers: &'a Layers,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn get<T>(&mut self, name: &str, read: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let (text, source) = self.layers.one(name)?;
        self.keep(name, &text, &source, read)
    }

    fn keep<T>(
        &mut self,
        name: &str,
        text: &str,
        source: &Source,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        match read(text) {
            Ok(value) => Some(value),
            Err(wrong) => {
                self.problems
                    .push(Problem(format!("{name} ({source}): {wrong}")));
                None
            }
        }
    }

    /// Reads a value that has an order, and checks the range that the table gives the setting.
    fn ranged<T: PartialOrd>(
        &mut self,
        name: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let (least, most) = find(name).map_or(("", ""), |spec| spec.range);
        let in_range = |text: &str| {
            let value = read(text)?;
            let low = read(least).is_ok_and(|least| value < least);
            let high = read(most).is_ok_and(|most| value > most);
            match low || high {
                true => Err(format!("{text:?} is not between {least} and {most}")),
                false => Ok(value),
            }
        };
        self.get(name, in_range)
    }

    fn all<T>(&mut self, name: &str, read: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
        let values = self.layers.many(name);
        values
            .iter()
            .filter_map(|(text, source)| self.keep(name, text, source, &read))
            .collect()
    }

    fn duration(&mut self, name: &str) -> Duration {
        self.duration_if_any(name).unwrap_or(Duration::from_secs(1))
    }

    /// A duration, or 0 for none.
    fn duration_if_any(&mut self, name: &str) -> Option<Duration> {
        let read = |text: &str| duration::parse(text).map_err(|error| error.to_string());
        self.ranged(name, read)
            .filter(|duration| !duration.is_zero())
    }

    fn size(&mut self, name: &str) -> usize {
        self.ranged(name, size).unwrap_or(1)
    }

    /// Nobody is asked who they are without a file that says whom to believe.
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

    /// The file with the secret of tickets, which is taken at once.
    fn ticket_secret(&mut self, auth: &Auth, mode: Mode) -> Option<PathBuf> {
        let path = self.get("ticket-secret-file", |text| Ok(PathBuf::from(text)))?;
        let read = crate::net::tls::read(&path).and_then(|text| {
            secret_of(&text).map_err(|wrong| format!("{} {wrong}", path.display()))
        });
        match read {
            _ if mode == Mode::Ask => {}
            _ if !auth.is_on() => {
                let text =
                    "ticket-secret-file is for an auth-file: without one there are no tickets";
                self.problems.push(Problem(text.to_owned()));
            }
            Ok(secret) => auth.take_secret_from_file(&secret),
            Err(wrong) => self
                .problems
                .push(Problem(format!("ticket-secret-file: {wrong}"))),
        }
        Some(path)
    }

    fn count(&mut self, name: &str) -> usize {
        let count = |text: &str| {
            text.parse::<usize>()
                .map_err(|_| format!("{text:?} is not a whole number"))
        };
        self.ranged(name, count).unwrap_or(1)
    }
}

impl Reader<'_> {
    /// Refuses an address that others can reach while anybody may do everything.
    fn check_exposure(&mut self, listen: Option<SocketAddr>, auth: &Auth, mode: Mode) {
        let insecure = self.get("insecure", boolean).unwrap_or(false);
        let exposed = listen.filter(|listen| !listen.ip().is_loopback());
        if let Some(listen) = exposed.filter(|_| !insecure && !auth.is_on() && mode != Mode::Ask) {
            self.problems.push(Problem(format!(
                "listen: {listen} can be reached from elsewhere, and there is no authentication: give \
                 it an --auth-file, listen on 127.0.0.1, or say --insecure"
            )));
        }
    }
}

impl Settings {
    /// Reads all settings.
    ///
    /// # Errors
    /// Every problem there is, not just the first.
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
        let redis = match (url, data_dir) {
            (Some(_), Some(_)) => {
                read.problems.push(Problem(
                    "redis-url and data-dir exclude each other".to_owned(),
                ));
                None
            }
            (Some(url), None) => Some(RedisSource::Url(Box::new(url))),
            (None, Some(dir)) => Some(RedisSource::Private(dir)),
            (None, None) if layers.one("redis-url").is_some() => None,
            (None, None) if mode != Mode::Serve => {
                let dir = layers::data_dir();
                if dir.is_none() {
                    let text = "there is no home directory for data: use --data-dir";
                    read.problems.push(Problem(text.to_owned()));
                }
                dir.map(RedisSource::Private)
            }
            (None, None) => {
                read.problems.push(Problem(
                    "no Redis is named: use --redis-url for one that runs, or --data-dir for a private one".to_owned(),
                ));
                None
            }
        };
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
        let max_body = read.size("max-body");
        let api = ApiSettings {
            https: layers.one("tls-cert").is_some(),
            base_path: read.get("base-path", network::parsed).unwrap_or_default(),
            any_host: false,
            hosts: read.all("host", |text| Ok(text.to_ascii_lowercase())),
            origins: read.all("allow-origin", origin),
            max_body,
            body_memory: read.at_least_a_body("body-memory", max_body),
            answer_memory: read.size("answer-memory"),
            max_fields: read.count("max-fields"),
            max_inflation: read.count("max-inflation"),
            max_field_name: read.size("max-field-name"),
            body_timeout: read.duration("body-timeout"),
            max_subscriptions: read.count("max-subscriptions"),
            max_waiting: read.count("max-waiting-reads"),
            heartbeat: read.duration("heartbeat"),
            max_session_age: read.duration_if_any("max-session-age"),
            max_consumers: read.count("max-consumers"),
            max_scheduled: read.count("max-scheduled"),
            max_scheduled_bytes: read.at_least_a_body("max-scheduled-bytes", max_body),
            idempotency_window: read.duration("idempotency-window"),
            trace_context: read.get("trace-context", boolean).unwrap_or(false),
            slow_request: Duration::from_secs(1),
        };
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
            "--redis-url for one that runs, or --data-dir for a private one",
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
