//! Leases on entries delivered to consumers of groups with a policy (ADR 7).
//!
//! Each stream has, in its slot, a hash with the policies of its groups, and for each of these
//! groups a sorted set of leases. The members of the set are entry ids. The scores are the times
//! when the leases end, in microseconds by the clock of Redis.
//!
//! Every operation is one script over the stream and the set, so it is atomic. The end of a lease
//! is never the same twice for one entry, so it distinguishes the current holder from an earlier
//! one.
//!
//! The list of pending entries decides which consumer holds an entry; the set only holds the end of
//! the lease. A member that is not pending has no effect and is removed when a script finds it. A
//! pending entry without a lease was taken by a native consumer, and the sweep gives it a lease.
//! Commands of other clients on the stream or group (XACK, XDEL, XTRIM, XCLAIM, DELCONSUMER)
//! therefore cannot break anything.

mod claim;
mod copy;
mod dead;
mod hand_out;
mod history;
mod holds;
mod life;
mod lua;
mod policy;
mod read;
mod redrive;
mod settle;
mod sweep;
mod wake;

use std::sync::OnceLock;

use deadpool_redis::redis::{Cmd, Script, Value};

use super::pool::Repeat;
use super::{Store, StoreError};
use crate::model::name::{GroupName, OWN_PREFIX, RawName, StreamName};

pub use dead::{DeadLetter, DeadLetters};
pub(super) use life::lua_life;
pub(super) use lua::lua_leases;
pub use policy::{GroupChange, GroupStart};
pub use read::{Handed, HandedOut, Lease, WorkRead};
pub use redrive::{Redrive, Redriven};
pub use settle::{Item, Settled, Settlement};
pub(super) use settle::{lua_items, write_items};

pub use sweep::{SweepAt, SweepParts, Swept};
pub use wake::{Calls, Ear};

/// The consumer that holds entries returned to the group. No client can use this name.
pub(super) const NOBODY: &str = "streamgate:nobody";

/// A Lua script that is invoked by its hash.
pub(super) struct Verb {
    text: &'static str,
    hash: OnceLock<String>,
}

impl Verb {
    pub(super) const fn new(text: &'static str) -> Self {
        Self {
            text,
            hash: OnceLock::new(),
        }
    }

    /// Returns the text of the script, for use on an exclusive connection.
    pub(super) const fn text(&self) -> &'static str {
        self.text
    }

    fn hash(&self) -> &str {
        self.hash
            .get_or_init(|| Script::new(self.text).get_hash().to_owned())
    }
}

/// Returns the Redis key of the hash with the policies of a stream's groups.
pub(super) fn policies(stream: &StreamName) -> String {
    // Runs for every read and acknowledgement. `concat` allocates once; `format!` reallocates.
    [
        OWN_PREFIX,
        "{",
        stream.tag(),
        "}:policies:",
        stream.as_str(),
    ]
    .concat()
}

/// Returns the prefix of the Redis keys of all leases of a stream. Names may contain any character,
/// so the key includes the length of the stream's name to mark where the group's name begins.
pub(super) fn leases_prefix(stream: &StreamName) -> String {
    let (key, length) = (stream.as_str(), stream.as_str().len().to_string());
    [
        OWN_PREFIX,
        "{",
        stream.tag(),
        "}:leases:",
        &length,
        ":",
        key,
        ":",
    ]
    .concat()
}

/// Returns the Redis key of the sorted set with the leases of a group.
pub(super) fn leases(stream: &StreamName, group: &GroupName) -> Vec<u8> {
    [leases_prefix(stream).as_bytes(), group.as_bytes()].concat()
}

/// Returns the channel on which released entries of a group are announced.
pub(super) fn channel(stream: &StreamName, group: &GroupName) -> String {
    let key = stream.as_str();
    format!(
        "{OWN_PREFIX}{{{}}}:wake:{}:{key}:{group}",
        stream.tag(),
        key.len()
    )
}

/// Returns whether a consumer belongs to the gateway and is hidden from clients: the holder of
/// returned entries, or a marker.
pub(super) fn is_nobody(consumer: &RawName) -> bool {
    let name = consumer.as_bytes();
    name == NOBODY.as_bytes() || name.starts_with(life::MARKER_PREFIX.as_bytes())
}

/// Appends the common arguments of scripts on one group: keys, group name and channel.
pub(super) fn begin(command: &mut Cmd, stream: &StreamName, group: &GroupName) {
    command
        .arg(3)
        .arg(stream.as_str())
        .arg(policies(stream))
        .arg(leases(stream, group));
    command.arg(group.as_bytes()).arg(channel(stream, group));
}

impl Store {
    /// Runs a script, by its hash if the server has it; `write` adds keys and arguments. A script
    /// that finds the policy of a deleted group has done nothing. The policy is then discarded and
    /// the script runs again.
    pub(super) async fn verb(
        &self,
        verb: &Verb,
        repeat: Repeat,
        write: impl Fn(&mut Cmd),
    ) -> Result<Value, StoreError> {
        match self.run(verb, repeat, &write).await {
            Err(StoreError::OtherLife) => {
                Box::pin(self.discard_other_lives(&write)).await?;
                self.run(verb, repeat, &write).await
            }
            done => done,
        }
    }

    async fn run(
        &self,
        verb: &Verb,
        repeat: Repeat,
        write: &impl Fn(&mut Cmd),
    ) -> Result<Value, StoreError> {
        let mut command = Cmd::new();
        command.arg("EVALSHA").arg(verb.hash());
        write(&mut command);
        match self
            .connections
            .command(&command, repeat, self.writer)
            .await
        {
            // Nothing ran, so the script can be sent again. EVAL also stores it on the server.
            Err(StoreError::NoScript) => {
                let mut command = Cmd::new();
                command.arg("EVAL").arg(verb.text);
                write(&mut command);
                self.connections
                    .command(&command, repeat, self.writer)
                    .await
            }
            done => done,
        }
    }
}
