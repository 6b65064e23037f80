//! Leases: what is lent to consumers of groups with a policy, until when, and what happens then
//! (ADR 7).
//!
//! Beside each stream lie, in its slot, a hash with the policies of its groups and for each of
//! these a sorted set: its members are entry ids, its scores when the lease of each ends, in
//! microseconds by the clock of Redis. Every verb is one script over stream and set, so nothing
//! happens half, and the end of a lease, which is never the same twice for one entry, tells the
//! holder of today from that of yesterday.
//!
//! The list of pending entries is the truth of who holds what, the set only of until when. A member
//! that is not pending means nothing, and is thrown away when it is met; an entry that is pending
//! and no member is one that a native consumer took, and is enrolled by the sweeper. So nothing
//! that others do to stream or group (XACK, XDEL, XTRIM, XCLAIM, DELCONSUMER) can break anything.

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

/// Holds what belongs to nobody: entries that were handed back. No caller can have this name.
pub(super) const NOBODY: &str = "streamgate:nobody";

/// A script that is sent by its hash.
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

    /// Its text, for a connection of its own.
    pub(super) const fn text(&self) -> &'static str {
        self.text
    }

    fn hash(&self) -> &str {
        self.hash
            .get_or_init(|| Script::new(self.text).get_hash().to_owned())
    }
}

/// The hash with the policies of a stream's groups.
pub(super) fn policies(stream: &StreamName) -> String {
    // For every read and acknowledgement: at once, where `format!` grows as it goes.
    [
        OWN_PREFIX,
        "{",
        stream.tag(),
        "}:policies:",
        stream.as_str(),
    ]
    .concat()
}

/// What the keys of all leases of a stream begin with: names may hold anything, so the length of
/// the first tells where the second begins.
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

/// The sorted set with the leases of a group.
pub(super) fn leases(stream: &StreamName, group: &GroupName) -> Vec<u8> {
    [leases_prefix(stream).as_bytes(), group.as_bytes()].concat()
}

/// Where it is told that entries of a group were freed.
pub(super) fn channel(stream: &StreamName, group: &GroupName) -> String {
    let key = stream.as_str();
    format!(
        "{OWN_PREFIX}{{{}}}:wake:{}:{key}:{group}",
        stream.tag(),
        key.len()
    )
}

/// Whether a consumer is one of ours, which is not shown: the one that is nobody, or a marker.
pub(super) fn is_nobody(consumer: &RawName) -> bool {
    let name = consumer.as_bytes();
    name == NOBODY.as_bytes() || name.starts_with(life::MARKER_PREFIX.as_bytes())
}

/// The words every verb on one group begins with: its keys, group and channel.
pub(super) fn begin(command: &mut Cmd, stream: &StreamName, group: &GroupName) {
    command
        .arg(3)
        .arg(stream.as_str())
        .arg(policies(stream))
        .arg(leases(stream, group));
    command.arg(group.as_bytes()).arg(channel(stream, group));
}

impl Store {
    /// Runs a script, by its hash where the server has it; `write` adds keys and arguments. A
    /// script that meets the policy of another life has done nothing: it runs again without that.
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
            // Nothing ran, so it may be sent again; with its text it is there from then on.
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
