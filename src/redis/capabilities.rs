//! Capabilities of the Redis server, and how the gateway uses them. The gateway detects them with
//! COMMAND INFO and with trial commands on a key that does not exist, never by version.
//!
//! `GET /v1/capabilities` returns the table of this file, so the table must match what the rest of
//! the store does. When you start using a Redis command, update its row.

use std::sync::Arc;

use deadpool_redis::redis::{Cmd, Value};

use crate::redis::decode::{bytes, list};
use crate::redis::{Store, StoreError};

/// The way the gateway implements a feature on the current server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Used {
    /// With the dedicated Redis command.
    Native,
    /// With a script or other commands, which behave the same on every server.
    Script,
    /// Unsupported on this server.
    Unavailable,
}

/// A feature that depends on the server.
#[derive(Clone, Copy, Debug)]
pub struct Capability {
    /// Machine-readable name.
    pub name: &'static str,
    /// Purpose, for people.
    pub what: &'static str,
    /// The Redis command or option.
    pub command: &'static str,
    /// Whether the server supports it; `None` if unknown.
    pub native: Option<bool>,
    /// Implementation that the gateway uses on this server.
    pub used: Used,
}

/// The capabilities of one server at one time.
#[derive(Clone, Debug)]
pub struct Capabilities {
    /// Name that the server reports: `redis`, `valkey`.
    pub server: Option<String>,
    /// Version of the server. For information only; no decision depends on it.
    pub version: Option<String>,
    /// All capabilities, in the order of the table.
    pub list: Vec<Capability>,
}

/// The method to detect a capability.
enum Ask {
    /// COMMAND INFO.
    Info,
    /// A trial of this command, in which `KEY` stands for a key that does not exist. The command
    /// changes nothing.
    Trial(&'static [&'static str]),
}

/// Placeholder for the key in a trial.
const KEY: &str = "KEY";

struct Row {
    name: &'static str,
    what: &'static str,
    command: &'static str,
    ask: Ask,
    /// Implementations on servers with and without native support.
    used: (Used, Used),
}

/// A server with this capability can leave untraced holes, see `Store::untraced_holes`.
const DELETE_WITH_REFERENCES: &str = "delete-with-references";

const TABLE: &[Row] = &[
    Row {
        name: "auto-sequence",
        what: "appending with an id of ms-*",
        command: "XADD ms-*",
        ask: Ask::Trial(&["XADD", KEY, "NOMKSTREAM", "1-*", "n", "1"]),
        used: (Used::Native, Used::Unavailable),
    },
    Row {
        name: "entry-counters",
        what: "counts in positions, exact gaps, entries_read, setting counters",
        command: "XSETID ENTRIESADDED",
        ask: Ask::Trial(&[
            "XSETID",
            KEY,
            "1-0",
            "ENTRIESADDED",
            "1",
            "MAXDELETEDID",
            "0-0",
        ]),
        used: (Used::Native, Used::Unavailable),
    },
    Row {
        name: "idempotent-append",
        what: "Idempotency-Key",
        command: "XADD IDMP",
        ask: Ask::Trial(&["XADD", KEY, "NOMKSTREAM", "IDMP", "p", "i", "*", "n", "1"]),
        used: (Used::Script, Used::Script),
    },
    Row {
        name: "last-entry",
        what: "after=+",
        command: "XREAD +",
        ask: Ask::Trial(&["XREAD", "STREAMS", KEY, "+"]),
        used: (Used::Script, Used::Script),
    },
    Row {
        name: "byte-limit",
        what: "max_bytes",
        command: "XREAD MAXSIZE",
        ask: Ask::Trial(&["XREAD", "MAXSIZE", "1", "STREAMS", KEY, "0"]),
        used: (Used::Script, Used::Script),
    },
    Row {
        name: DELETE_WITH_REFERENCES,
        what: "refs=keep, delete or acked on deleting entries",
        command: "XDELEX",
        ask: Ask::Info,
        used: (Used::Script, Used::Script),
    },
    Row {
        name: "trim-with-references",
        what: "refs=keep, delete or acked on trimming",
        command: "XTRIM ACKED",
        ask: Ask::Trial(&["XTRIM", KEY, "MAXLEN", "=", "1", "ACKED"]),
        used: (Used::Script, Used::Script),
    },
    Row {
        name: "ack-and-delete",
        what: "acknowledging and deleting in one step",
        command: "XACKDEL",
        ask: Ask::Info,
        used: (Used::Script, Used::Script),
    },
    Row {
        name: "nack",
        what: "returning an entry to its group",
        command: "XNACK",
        ask: Ask::Info,
        used: (Used::Script, Used::Script),
    },
    Row {
        name: "claim-on-read",
        what: "claiming idle pending entries in the same step that reads new ones",
        command: "XREADGROUP CLAIM",
        ask: Ask::Trial(&[
            "XREADGROUP",
            "GROUP",
            "g",
            "c",
            "CLAIM",
            "1",
            "STREAMS",
            KEY,
            ">",
        ]),
        used: (Used::Script, Used::Script),
    },
    Row {
        name: "wait-for-replicas",
        what: "responding to an append after replicas have the entry",
        command: "WAIT",
        ask: Ask::Info,
        used: (Used::Native, Used::Unavailable),
    },
    Row {
        name: "wait-for-fsync",
        what: "responding to an append after the entry is on disk",
        command: "WAITAOF",
        ask: Ask::Info,
        used: (Used::Native, Used::Unavailable),
    },
    Row {
        name: "change-reports",
        what: "following many streams, and streams of a cluster, without reading each of them",
        command: "CLIENT|TRACKING",
        ask: Ask::Info,
        used: (Used::Native, Used::Script),
    },
];

impl Capabilities {
    fn has(&self, name: &str) -> Option<bool> {
        self.list
            .iter()
            .find(|capability| capability.name == name)?
            .native
    }
}

impl Store {
    /// Returns the capabilities of the server, or `None` until a probe has succeeded.
    #[must_use]
    pub fn capabilities(&self) -> Option<Arc<Capabilities>> {
        self.capabilities.read().clone()
    }

    /// Probes the capabilities of the server. Returns false if another probe soon may learn more.
    /// Keeps the capabilities known before if the server cannot be probed at all.
    ///
    /// # Cancel safety
    /// Cancel safe: records nothing if dropped.
    pub(super) async fn probe(&self) -> bool {
        let (found, settled) = match self.ask_server().await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::debug!(%error, "cannot probe the capabilities of the Redis server");
                return false;
            }
        };
        if let Some(known) = found.has(DELETE_WITH_REFERENCES) {
            self.untraced_holes
                .store(known, std::sync::atomic::Ordering::Relaxed);
        }
        let mut capabilities = self.capabilities.write();
        *capabilities = Some(Arc::new(found));
        settled
    }

    /// Returns the capabilities of the server, and whether the result is final.
    async fn ask_server(&self) -> Result<(Capabilities, bool), StoreError> {
        // No client can know this key, so a trial finds nothing to change.
        let key = format!(
            "{}probe:{:016x}",
            crate::model::name::OWN_PREFIX,
            fastrand::u64(..)
        );
        let (mut native, mut settled) = (Vec::with_capacity(TABLE.len()), true);
        for row in TABLE {
            let mut command = Cmd::new();
            match row.ask {
                Ask::Info => {
                    command.arg("COMMAND").arg("INFO").arg(row.command);
                }
                Ask::Trial(words) => {
                    for word in words {
                        command.arg(if *word == KEY { key.as_str() } else { word });
                    }
                }
            }
            native.push(match (&row.ask, self.read(&command).await) {
                (Ask::Info, Ok(infos)) => Some(list(infos)?.iter().any(|info| *info != Value::Nil)),
                // An error about the missing key proves that the server knows the command.
                (Ask::Trial(_), Ok(_))
                | (_, Err(StoreError::StreamNotFound | StoreError::GroupNotFound)) => Some(true),
                (_, Err(StoreError::NotSupported(_))) => Some(false),
                // Final: repeating a denied command every few seconds would fill the ACL log.
                (_, Err(StoreError::Denied(_))) => None,
                (_, Err(error)) if error.is_outage() => return Err(error),
                (_, Err(_)) => {
                    settled = false;
                    None
                }
            });
        }
        let (server, version) = self.server_name().await?;
        let list = TABLE.iter().zip(native).map(|(row, native)| Capability {
            name: row.name,
            what: row.what,
            command: row.command,
            native,
            used: if native == Some(false) {
                row.used.1
            } else {
                row.used.0
            },
        });
        Ok((
            Capabilities {
                server,
                version,
                list: list.collect(),
            },
            settled,
        ))
    }

    /// Returns the name and the version that the server reports, if any.
    pub(super) async fn server_name(&self) -> Result<(Option<String>, Option<String>), StoreError> {
        let mut command = Cmd::new();
        command.arg("INFO").arg("server");
        let info = match self.read(&command).await {
            Err(error) if error.is_outage() => return Err(error),
            Err(_) => return Ok((None, None)),
            Ok(info) => String::from_utf8_lossy(&bytes(info)?).into_owned(),
        };
        let of = |name: &str| {
            let value = info
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            value.map(|value| value.trim().to_owned())
        };
        // Servers other than Redis report their own `server_name`. Their `redis_version` is the
        // Redis version they are compatible with.
        let name = of("server_name").unwrap_or_else(|| "redis".to_owned());
        let version = of(&format!("{name}_version")).or_else(|| of("redis_version"));
        Ok((Some(name), version))
    }
}
