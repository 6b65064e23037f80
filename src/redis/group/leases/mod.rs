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

pub(in crate::redis) mod claim;
pub(in crate::redis) mod copy;
pub(in crate::redis) mod dead_letters;
pub(in crate::redis) mod hand_out;
pub(in crate::redis) mod history;
pub(in crate::redis) mod holds;
pub(in crate::redis) mod life;
pub(in crate::redis) mod lua;
pub(in crate::redis) mod policy;
pub(in crate::redis) mod read;
pub(in crate::redis) mod redrive;
pub(in crate::redis) mod settle;
pub(in crate::redis) mod sweep;
pub(in crate::redis) mod wake;

use std::sync::OnceLock;

use deadpool_redis::redis::{Cmd, Script, Value};

use crate::model::name::{GroupName, OWN_PREFIX, RawName, StreamName};
use crate::redis::conn::pool::Repeat;
use crate::redis::{Store, StoreError};

pub use crate::redis::group::leases::dead_letters::{DeadLetter, DeadLetters};
pub(in crate::redis) use crate::redis::group::leases::life::lua_life;
pub(in crate::redis) use crate::redis::group::leases::lua::lua_leases;
pub use crate::redis::group::leases::policy::{GroupChange, GroupStart};
pub use crate::redis::group::leases::read::{Handed, HandedOut, Lease, WorkRead};
pub use crate::redis::group::leases::redrive::{Redrive, Redriven};
pub use crate::redis::group::leases::settle::{Item, Settled, Settlement};
pub(in crate::redis) use crate::redis::group::leases::settle::{lua_items, write_items};

pub use crate::redis::group::leases::sweep::{SweepAt, SweepParts, Swept};
pub use crate::redis::group::leases::wake::{Calls, Ear};

/// The consumer that holds entries returned to the group. No client can use this name.
pub(in crate::redis) const NOBODY: &str = "streamgate:nobody";

/// A Lua script that is invoked by its hash.
pub(in crate::redis) struct Verb {
    text: &'static str,
    hash: OnceLock<String>,
}

impl Verb {
    pub(in crate::redis) const fn new(text: &'static str) -> Self {
        Self {
            text,
            hash: OnceLock::new(),
        }
    }

    /// Returns the text of the script, for use on an exclusive connection.
    pub(in crate::redis) const fn text(&self) -> &'static str {
        self.text
    }

    fn hash(&self) -> &str {
        self.hash
            .get_or_init(|| Script::new(self.text).get_hash().to_owned())
    }
}

/// Returns the Redis key of the hash with the policies of a stream's groups.
pub(in crate::redis) fn policies(stream: &StreamName) -> String {
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
pub(in crate::redis) fn leases_prefix(stream: &StreamName) -> String {
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
pub(in crate::redis) fn leases(stream: &StreamName, group: &GroupName) -> Vec<u8> {
    [leases_prefix(stream).as_bytes(), group.as_bytes()].concat()
}

/// Returns the channel on which released entries of a group are announced.
pub(in crate::redis) fn channel(stream: &StreamName, group: &GroupName) -> String {
    let key = stream.as_str();
    format!(
        "{OWN_PREFIX}{{{}}}:wake:{}:{key}:{group}",
        stream.tag(),
        key.len()
    )
}

/// Returns whether a consumer belongs to the gateway and is hidden from clients: the holder of
/// returned entries, or a marker.
pub(in crate::redis) fn is_nobody(consumer: &RawName) -> bool {
    let name = consumer.as_bytes();
    name == NOBODY.as_bytes() || name.starts_with(life::MARKER_PREFIX.as_bytes())
}

/// Appends the common arguments of scripts on one group: keys, group name and channel.
pub(in crate::redis) fn begin(command: &mut Cmd, stream: &StreamName, group: &GroupName) {
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
    pub(in crate::redis) async fn verb(
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
