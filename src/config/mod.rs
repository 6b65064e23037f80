//! Settings: their table, the sources of their values, and their combined meaning.
//!
//! A flag takes precedence over an environment variable (`STREAMGATE_…`), which takes precedence
//! over the file given by `--config`. All problems are reported at once. No other module of the
//! crate reads the environment for settings.

mod auth;
mod authority;
mod cluster;
mod kinds;
mod layers;
mod live;
mod network;
mod reader;
mod redis;
mod sentinel;
mod spec;
mod table;

use std::path::PathBuf;
use std::time::Duration;

use crate::auth::Auth;
use crate::config::kinds::{ByteSize, LogFormat};
pub use crate::config::layers::{Layers, Source};
use crate::config::reader::SettingsReader;
pub use crate::config::redis::RedisUrl;
pub use crate::config::spec::Spec;
use crate::config::table::Values;
pub use crate::config::table::{SPECS, Specs};
use crate::http::state::ApiSettings;
use crate::jobs::JobSettings;
use crate::live::LiveSettings;
use crate::net::ServerSettings;
use crate::redis::{AddressMap, PoolSettings};
use crate::service::ServiceLimits;
use crate::telemetry::LogSettings;
use crate::trace::TraceSettings;

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
    /// The limits of the use cases.
    pub limits: ServiceLimits,
    /// Authentication and authorization.
    pub auth: Auth,
    /// The file with the secret that signs tickets, in place of a secret in Redis.
    pub ticket_secret_file: Option<PathBuf>,
    /// Connections from clients.
    pub server: ServerSettings,
    /// The log.
    pub log: LogSettings,
    /// The export of traces; `None` for no traces.
    pub traces: Option<TraceSettings>,
}

/// A problem with the settings. The text names the setting and the source of its value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigProblem(String);

impl ConfigProblem {
    /// Creates a problem from its complete text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// The command for which settings are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettingsMode {
    /// `serve`: a Redis must be configured.
    Serve,
    /// `dev`: without a configured Redis, a private one in the platform's data directory is used.
    Dev,
    /// A query to a running gateway: its Redis and the contents of files do not matter.
    Ask,
}

impl SettingsReader<'_> {
    /// Returns the Redis to use, from its address or the data directory of a private one.
    fn redis_source(&mut self, values: &Values, mode: SettingsMode) -> Option<RedisSource> {
        match (&values.redis_url, &values.data_dir) {
            (Some(_), Some(_)) => {
                self.problem("redis-url and data-dir exclude each other");
                None
            }
            (Some(url), None) => Some(RedisSource::Url(Box::new(url.clone()))),
            (None, Some(dir)) => Some(RedisSource::Private(dir.0.clone())),
            (None, None) if !self.is_valid(&SPECS.redis_url) => None,
            (None, None) if mode != SettingsMode::Serve => {
                let dir = layers::data_dir();
                if dir.is_none() {
                    self.problem("there is no home directory for the data: set --data-dir");
                }
                dir.map(RedisSource::Private)
            }
            (None, None) => {
                self.problem(
                    "no Redis is configured: set --redis-url for a running one, or --data-dir for a \
                     private one",
                );
                None
            }
        }
    }

    /// Returns the settings of the connections to Redis.
    fn pool(
        &mut self,
        values: &Values,
        redis: Option<&RedisSource>,
        block: Duration,
        mode: SettingsMode,
    ) -> Option<PoolSettings> {
        let url = match redis {
            Some(RedisSource::Url(url)) => self.redis_tls(values, (**url).clone(), mode),
            _ => RedisUrl::placeholder(),
        };
        let RedisUrl {
            connection,
            sentinels,
            seeds,
            tls,
        } = url?;
        let mappings = values.redis_cluster_map.iter();
        let address_map = mappings.map(|map| (map.0.clone(), map.1.clone())).collect();
        Some(PoolSettings {
            connection,
            sentinels,
            seeds,
            address_map: AddressMap(address_map),
            tls,
            password_file: self.password_file(values, redis, mode),
            connect_timeout: values.redis_connect_timeout,
            response_timeout: values.redis_timeout,
            workers: values.workers.unwrap_or_else(cores),
            readers: values.redis_connections,
            blocking: values.redis_blocking_connections,
            block,
            durable: values.redis_durable_connections,
            large_reads: values.read_memory.0,
        })
    }

    /// Returns the settings of the HTTP API.
    fn api(&mut self, values: &Values) -> ApiSettings {
        for (spec, bytes) in [
            (&SPECS.body_memory, values.body_memory),
            (&SPECS.max_scheduled_bytes, values.max_scheduled_bytes),
        ] {
            self.check_holds_a_body(spec, bytes, values.max_body);
        }
        ApiSettings {
            https: values.tls_cert.is_some(),
            base_path: values.base_path.clone().unwrap_or_default(),
            any_host: false,
            hosts: values.host.iter().map(|host| host.0.clone()).collect(),
            origins: values.allow_origin.iter().map(|of| of.0.clone()).collect(),
            max_body: values.max_body.0,
            body_memory: values.body_memory.0,
            answer_memory: values.answer_memory.0,
            max_inflation: values.max_inflation,
            body_timeout: values.body_timeout,
            idempotency_window: values.idempotency_window,
            trace_context: values.trace_context,
            console: !values.no_console,
            fast_path: true,
            slow_request: Duration::from_secs(1),
        }
    }

    /// Checks that a memory limit is at least as large as the largest body.
    fn check_holds_a_body(&mut self, spec: &Spec, bytes: ByteSize, max_body: ByteSize) {
        let valid = self.is_valid(spec) && self.is_valid(&SPECS.max_body);
        if valid
            && bytes < max_body
            && let Some((text, source)) = self.layers.one(spec)
        {
            self.problem(format!(
                "{} ({source}): {text:?} is less than max-body",
                spec.name
            ));
        }
    }
}

/// Returns the default number of workers: one for each core, limited to a few connections to Redis.
fn cores() -> usize {
    std::thread::available_parallelism()
        .map_or(1, std::num::NonZero::get)
        .min(16)
}

/// Returns the limits of the use cases.
fn limits(values: &Values) -> ServiceLimits {
    ServiceLimits {
        max_fields: values.max_fields,
        max_field_name: values.max_field_name.0,
        max_subscriptions: values.max_subscriptions,
        max_waiting: values.max_waiting_reads,
        heartbeat: values.heartbeat,
        max_session_age: Some(values.max_session_age).filter(|age| !age.is_zero()),
        max_consumers: values.max_consumers,
        max_scheduled: values.max_scheduled,
        max_scheduled_bytes: values.max_scheduled_bytes.0,
    }
}

impl Settings {
    /// Reads all settings.
    ///
    /// # Errors
    /// Returns all problems, not just the first.
    pub fn load(layers: &Layers, mode: SettingsMode) -> Result<Self, Vec<ConfigProblem>> {
        let mut read = SettingsReader::new(layers);
        let values = Values::read(&mut read);
        let auth = read.auth(&values, mode);
        let ticket_secret_file = read.ticket_secret(&values, &auth, mode);
        read.check_exposure(&values, &auth, mode);
        let redis = read.redis_source(&values, mode);
        let block = Duration::from_secs(5);
        let pool = read.pool(&values, redis.as_ref(), block, mode);
        let api = read.api(&values);
        let server = read.server(&values, mode);
        match (redis, pool) {
            (Some(redis), Some(pool)) if read.problems.is_empty() => Ok(Self {
                redis,
                live: live::live(&values, pool.workers, block),
                pool,
                jobs: live::jobs(&values),
                api,
                limits: limits(&values),
                auth,
                ticket_secret_file,
                server,
                traces: live::traces(&values),
                log: LogSettings {
                    json: values.log_format == LogFormat::Json,
                    level: values.log_level,
                    refusals: values.log_refusals,
                },
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
        flags: &[(&'static Spec, &str)],
        env: &[(&str, &str)],
        file: &str,
        mode: SettingsMode,
    ) -> Result<Settings, Vec<ConfigProblem>> {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let mut layers = Layers::default();
        for (spec, value) in flags {
            layers.flag(spec, *value);
        }
        layers.environment(env.iter().map(own));
        layers.file("streamgate.toml", file);
        Settings::load(&layers, mode)
    }

    fn problems(flags: &[(&'static Spec, &str)], env: &[(&str, &str)], file: &str) -> Vec<String> {
        load(flags, env, file, SettingsMode::Serve)
            .unwrap_err()
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    const URL: (&Spec, &str) = (&SPECS.redis_url, "redis://localhost");

    #[test]
    fn a_flag_beats_the_environment_beats_the_file() {
        let file = "max_body = \"1MiB\"\nheartbeat = \"1s\"\nlog_level = \"warn\"";
        let env = [
            ("STREAMGATE_MAX_BODY", "2MiB"),
            ("STREAMGATE_HEARTBEAT", "2s"),
        ];
        let settings = load(
            &[URL, (&SPECS.max_body, "3MiB")],
            &env,
            file,
            SettingsMode::Serve,
        )
        .unwrap();
        assert_eq!(settings.api.max_body, 3 << 20);
        assert_eq!(settings.limits.heartbeat, Duration::from_secs(2));
        assert_eq!(settings.log.level, tracing::Level::WARN);
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let wrong = problems(
            &[(&SPECS.listen, "0.0.0.0:80"), (&SPECS.heartbeat, "15")],
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
        let flags = [URL, (&SPECS.body_memory, "1MiB")];
        let wrong = problems(&flags, &[], "");
        assert_eq!(
            wrong,
            ["body-memory (--body-memory): \"1MiB\" is less than max-body"]
        );
        assert!(load(&flags, &[], "max_body = \"1MiB\"", SettingsMode::Serve).is_ok());
    }

    #[test]
    fn a_password_is_never_repeated() {
        for url in [
            "redis://:secret@[",
            "rediss://:secret@host/#insecure",
            "secret",
        ] {
            let wrong = problems(&[(&SPECS.redis_url, url)], &[], "");
            assert!(!wrong.concat().contains("secret"), "{wrong:?}");
        }
    }

    #[test]
    fn lists_come_from_repeated_flags_and_from_commas() {
        let flags = [
            URL,
            (&SPECS.allow_origin, "http://a"),
            (&SPECS.allow_origin, "http://b:1"),
        ];
        let settings = load(
            &flags,
            &[("STREAMGATE_HOST", "x, Y")],
            "",
            SettingsMode::Serve,
        )
        .unwrap();
        assert_eq!(settings.api.origins, ["http://a", "http://b:1"]);
        assert_eq!(settings.api.hosts, ["x", "y"]);
    }

    #[test]
    fn every_default_is_valid() {
        let settings = load(&[URL], &[], "", SettingsMode::Serve).unwrap();
        assert_eq!(settings.api.max_body, 8 << 20);
        assert!(settings.server.listen.ip().is_loopback());
    }
}
