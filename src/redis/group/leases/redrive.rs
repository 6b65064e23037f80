//! Redrive of dead letters: returns the original entry to its group only, or appends a copy.

use deadpool_redis::redis::Value;

use crate::model::id::EntryId;
use crate::model::name::{GroupName, StreamName};
use crate::redis::conn::send_options::RetryPolicy;
use crate::redis::constants::NOBODY;
use crate::redis::decode::{id, list, text, tuple};
use crate::redis::group::leases::begin;
use crate::redis::script::{LuaScript, lua};
use crate::redis::{Store, StoreError};

/// The target of a redrive.
#[derive(Clone, Debug)]
pub enum Redrive {
    /// Returns the original entry to its group, if the entry still exists.
    Original,
    /// Returns the original entry to its group, or appends a copy to its stream, for all groups, if
    /// the entry no longer exists.
    OrCopy,
    /// Appends a copy to this stream, for all its groups.
    To(StreamName),
}

/// The outcome of redriving a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redriven {
    /// The original entry was returned to its group; the dead letter was deleted.
    Redriven,
    /// A copy was appended with this id; the dead letter was deleted.
    Copied(EntryId),
    /// The original entry no longer exists; the dead letter stays.
    Gone,
    /// The original entry is already pending in the group; the dead letter stays.
    Pending,
    /// The group has no such dead letter.
    NotFound,
}

/// Redrives dead letters. Returns `{what, id}` for each, up to the first one whose copy has too
/// many fields for a script. `Store::copy_packed` copies that letter before the script continues,
/// so that copies keep the order of their letters.
///
/// XCLAIM with FORCE adds an entry to the pending list of one group with a delivery count of 0. The
/// entry gets an expired lease, so the next read delivers it.
static REDRIVE: LuaScript = LuaScript::new(lua!["lib/life", "lib/leases", "redrive"]);

impl Store {
    /// Redrives dead letters of a group and returns the outcome for each, in order.
    ///
    /// # Errors
    /// Same as [`Store::needed_policy`], and [`StoreError::DeadLetterNotAStream`] when the
    /// dead-letter key or the target of the copies is not a stream.
    /// # Cancel safety
    /// If dropped after the command was sent, the dead letters may still be redriven.
    pub async fn redrive(
        &self,
        stream: &StreamName,
        group: &GroupName,
        ids: &[EntryId],
        how: &Redrive,
    ) -> Result<Vec<Redriven>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let (copy, to) = match how {
            Redrive::Original => (0, ""),
            Redrive::OrCopy => (1, ""),
            Redrive::To(to) => (1, to.redis_key()),
        };
        let mut all = Vec::with_capacity(ids.len());
        while let Some(rest) = ids.get(all.len()..).filter(|rest| !rest.is_empty()) {
            let reply = self.run_script(&REDRIVE, RetryPolicy::Unsafe, |command| {
                begin(command, stream, group);
                command.arg(NOBODY).arg(copy).arg(to);
                for id in rest {
                    command.arg(id.to_string());
                }
            });
            let answers = list(reply.await?)?;
            if answers.is_empty() {
                return Err(StoreError::Unexpected(
                    "an empty reply to a redrive".to_owned(),
                ));
            }
            for (id, answer) in rest.iter().zip(answers) {
                all.push(match redriven(answer)? {
                    Some(redriven) => redriven,
                    None => self.copy_packed(stream, group, *id, how).await?,
                });
            }
        }
        Ok(all)
    }
}

/// Decodes the outcome for a letter; `None` for a copy that the script leaves to the gateway.
pub(super) fn redriven(value: Value) -> Result<Option<Redriven>, StoreError> {
    let [what, copy] = tuple(value)?;
    Ok(Some(match text(what)?.as_str() {
        "redriven" => Redriven::Redriven,
        "copied" => Redriven::Copied(id(copy)?),
        "gone" => Redriven::Gone,
        "pending" => Redriven::Pending,
        "packed" => return Ok(None),
        _ => Redriven::NotFound,
    }))
}
