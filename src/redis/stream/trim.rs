//! Trimming of streams, optionally with regard to groups that still refer to the entries.
//!
//! Trimming without regard to groups is Redis' own. Otherwise a script trims, on every server. The
//! `ACKED` option of Redis 8.2 leaves holes in the middle of a stream that no position can account
//! for, so the script removes only a prefix of the stream.

use deadpool_redis::redis::Cmd;

use crate::model::id::EntryId;
use crate::model::name::StreamName;
use crate::redis::conn::send_options::RetryPolicy;
use crate::redis::decode::unsigned;
use crate::redis::script::{LuaScript, lua};
use crate::redis::stream::deletion::ReferencePolicy;
use crate::redis::{Store, StoreError};

/// The entries that a trim may remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trim {
    /// All but this number of newest entries.
    MaxLen(u64),
    /// All entries below this id.
    MinId(EntryId),
}

/// The parameters of a trim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trimming {
    /// Entries to remove at most.
    pub trim: Trim,
    /// Whether to trim exactly; otherwise Redis removes only whole nodes, which is much cheaper.
    pub exact: bool,
    /// Maximum number of entries to examine; 0 for no limit. Not with `exact`.
    pub limit: Option<u64>,
    /// Treatment of groups. [`ReferencePolicy::Acked`] removes only a prefix that every group has read
    /// and acknowledged. [`ReferencePolicy::Delete`] also deletes pending records below the entry that
    /// is the oldest afterwards.
    pub references: ReferencePolicy,
}

static TRIM: LuaScript = LuaScript::new(lua![
    "lib/below",
    "lib/groups",
    "lib/held_back",
    "lib/trim",
    "trim"
]);

impl Trimming {
    /// Returns whether Redis' own trimming suffices.
    pub(in crate::redis) fn is_native(&self) -> bool {
        self.references == ReferencePolicy::Keep
    }

    /// Appends the arguments of XADD and XTRIM.
    pub(in crate::redis) fn write(&self, command: &mut Cmd) {
        let [kind, how, threshold] = self.words();
        command.arg(kind).arg(how).arg(threshold);
        if let Some(limit) = self.limit {
            command.arg("LIMIT").arg(limit);
        }
    }

    /// Appends the arguments of the Lua function `trim` after the stream.
    pub(in crate::redis) fn write_script(&self, command: &mut Cmd) {
        command.arg(self.references.word()).arg(&self.words());
        command.arg(
            self.limit
                .map(|limit| limit.to_string())
                .unwrap_or_default(),
        );
    }

    fn words(&self) -> [String; 3] {
        let (kind, threshold) = match self.trim {
            Trim::MaxLen(length) => ("MAXLEN", length.to_string()),
            Trim::MinId(min) => ("MINID", min.to_string()),
        };
        [
            kind.to_owned(),
            if self.exact { "=" } else { "~" }.to_owned(),
            threshold,
        ]
    }
}

impl Store {
    /// Trims a stream and returns the number of entries removed.
    ///
    /// # Errors
    /// [`StoreError::NotAStream`], or an outage of Redis.
    /// # Cancel safety
    /// If dropped after the command was sent, the stream may still be trimmed.
    pub async fn trim(&self, stream: &StreamName, trimming: &Trimming) -> Result<u64, StoreError> {
        if trimming.is_native() {
            let mut command = Cmd::new();
            command.arg("XTRIM").arg(stream.redis_key());
            trimming.write(&mut command);
            return unsigned(&self.write(&command).await?);
        }
        let trimmed = self.run_script(&TRIM, RetryPolicy::Unsafe, |command| {
            command.arg(1).arg(stream.redis_key());
            trimming.write_script(command);
        });
        unsigned(&trimmed.await?)
    }
}
