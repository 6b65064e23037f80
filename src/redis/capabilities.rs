//! What the server can do, and what the gateway does about it: found out by asking for commands
//! and by trying them on a key that does not exist, never by version.
//!
//! The table of this file is what `GET /v1/capabilities` answers, so it must tell what the rest of
//! this room really does. Whoever begins to use a command of Redis changes its row.

use std::sync::{Arc, PoisonError};

use deadpool_redis::redis::{Cmd, Value};

use crate::redis::decode::{bytes, list};
use crate::redis::{Store, StoreError};

/// How the gateway does something on the server it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Used {
    /// By the command of Redis made for it.
    Native,
    /// By a script or by other commands, which mean the same on every server.
    Script,
    /// Not at all.
    Unavailable,
}

/// One thing that depends on the server.
#[derive(Clone, Copy, Debug)]
pub struct Capability {
    /// A word to compare.
    pub name: &'static str,
    /// What it is good for.
    pub what: &'static str,
    /// How Redis calls it.
    pub command: &'static str,
    /// Whether the server has it; `None` if that could not be found out.
    pub native: Option<bool>,
    /// What the gateway does here.
    pub used: Used,
}

/// All of it, of one server at one time.
#[derive(Clone, Debug)]
pub struct Capabilities {
    /// What the server calls itself: `redis`, `valkey`.
    pub server: Option<String>,
    /// Its version. Nothing is decided by it.
    pub version: Option<String>,
    /// In the order of the table.
    pub list: Vec<Capability>,
}

/// How it is found out whether a server has something.
enum Ask {
    /// By COMMAND INFO.
    Info,
    /// By these words, in which `KEY` is one that does not exist: they change nothing.
    Trial(&'static [&'static str]),
}

/// Stands for the key in a trial.
const KEY: &str = "KEY";

struct Row {
    name: &'static str,
    what: &'static str,
    command: &'static str,
    ask: Ask,
    /// What is done where the server has it, and where not.
    used: (Used, Used),
}

/// By its presence the server is known to leave holes, see `Store::untraced_holes`.
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
        what: "handing an entry back to its group",
        command: "XNACK",
        ask: Ask::Info,
        used: (Used::Script, Used::Script),
    },
    Row {
        name: "claim-on-read",
        what: "taking over long pending entries in the step that reads new ones",
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
        what: "answering once replicas have an entry",
        command: "WAIT",
        ask: Ask::Info,
        used: (Used::Native, Used::Unavailable),
    },
    Row {
        name: "wait-for-fsync",
        what: "answering once an entry is on disk",
        command: "WAITAOF",
        ask: Ask::Info,
        used: (Used::Native, Used::Unavailable),
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
    /// What the server can do, and what is done here; `None` while it was never asked.
    #[must_use]
    pub fn capabilities(&self) -> Option<Arc<Capabilities>> {
        self.capabilities
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Asks the server what it can do; false if asking again soon may tell more. What was known
    /// before stays known when it cannot be asked at all.
    ///
    /// # Cancel safety
    /// Safe: nothing is noted then.
    pub(super) async fn probe(&self) -> bool {
        let (found, settled) = match self.ask_server().await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::debug!(%error, "the server was not asked what it can do");
                return false;
            }
        };
        if let Some(known) = found.has(DELETE_WITH_REFERENCES) {
            self.untraced_holes
                .store(known, std::sync::atomic::Ordering::Relaxed);
        }
        let mut capabilities = self
            .capabilities
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *capabilities = Some(Arc::new(found));
        settled
    }

    /// What the server can do, and whether that is all there will be to know.
    async fn ask_server(&self) -> Result<(Capabilities, bool), StoreError> {
        // Nobody can have made this key, so that a trial finds nothing to change.
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
                // Also where it is the key that is not there: the rest was understood.
                (Ask::Trial(_), Ok(_))
                | (_, Err(StoreError::StreamNotFound | StoreError::GroupNotFound)) => Some(true),
                (_, Err(StoreError::NotSupported(_))) => Some(false),
                // Whoever is refused and asks again every few seconds fills the log of refusals.
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

    /// Name and version, as far as the server tells them.
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
        // Those that are no Redis call themselves something, and their `redis_version` is what
        // they are compatible with.
        let name = of("server_name").unwrap_or_else(|| "redis".to_owned());
        let version = of(&format!("{name}_version")).or_else(|| of("redis_version"));
        Ok((Some(name), version))
    }
}
