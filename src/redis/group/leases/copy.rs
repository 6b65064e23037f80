//! Copies of dead letters with packed fields. The gateway appends these copies itself, because a
//! script cannot append that many fields.

use deadpool_redis::redis::{Cmd, Pipeline, Value};

use crate::model::id::EntryId;
use crate::model::name::{GroupName, StreamName};
use crate::model::packed::{PACKED, unpack};
use crate::redis::decode::entries;
use crate::redis::group::leases::dead_letters::of_dead;
use crate::redis::group::leases::redrive::{Redrive, Redriven, redriven};
use crate::redis::script::{LuaScript, lua};
use crate::redis::{Store, StoreError, keys};

/// Verifies, in one transaction with the preceding XADD, that the copy was appended and that the
/// dead letter still exists; then deletes the letter and frees its key. If the letter no longer
/// exists, the script deletes the copy before any client sees it.
///
/// WATCH would achieve the same, but might never succeed on a stream with frequent dead letters.
static CHECK_COPY: LuaScript =
    LuaScript::new(lua!["lib/life", "lib/leases", "lib/order", "copy_check"]);

impl Store {
    /// Appends a copy of a dead letter with packed fields to the stream given by `how`, and deletes
    /// the letter, atomically.
    ///
    /// # Errors
    /// Same as [`Store::redrive`], and [`StoreError::OutOfMemory`].
    /// # Cancel safety
    /// If dropped after the command was sent, the copy may still be appended.
    pub(super) async fn copy_packed(
        &self,
        stream: &StreamName,
        group: &GroupName,
        id: EntryId,
        how: &Redrive,
    ) -> Result<Redriven, StoreError> {
        let policy = self
            .policy(stream, group)
            .await?
            .ok_or(StoreError::GroupHasNoPolicy)?;
        let to = if let Redrive::To(to) = how {
            to
        } else {
            stream
        };
        let copied = self
            .copy_to((stream, group, &policy.dead_letter), id, to)
            .await
            .map_err(of_dead)?;
        Ok(copied.unwrap_or(Redriven::NotFound))
    }

    async fn copy_to(
        &self,
        (stream, group, dead): (&StreamName, &GroupName, &StreamName),
        id: EntryId,
        to: &StreamName,
    ) -> Result<Option<Redriven>, StoreError> {
        let (_, _permit) = self.portion(dead, 1).await?;
        let mut command = Cmd::new();
        command
            .arg("XRANGE")
            .arg(dead.redis_key())
            .arg(id.to_string())
            .arg(id.to_string());
        let letter = entries(self.read(&command).await?)?.pop();
        let packed = letter.as_ref().and_then(|letter| letter.value(PACKED));
        let Some((packed, fields)) = packed.and_then(|packed| Some((packed, unpack(packed)?)))
        else {
            return Ok(None);
        };
        let mut append = Cmd::new();
        append.arg("XADD").arg(to.redis_key()).arg("*");
        for (name, value) in &fields {
            append.arg(name.as_slice()).arg(value.as_slice());
        }
        let mut transaction = Pipeline::new();
        transaction.atomic().add_command(append);
        // The letter is in the stream that it was read from, even if the policy names another by now.
        let [key, policies, leases, order, turns, _] = self.group_keys(stream, group);
        transaction.cmd("EVAL").arg(CHECK_COPY.text()).arg(7);
        transaction
            .arg(&[key, policies, leases, order, turns])
            .arg(&[dead.redis_key(), to.redis_key()])
            .arg(group.as_bytes())
            .arg(keys::wake_channel(stream, group))
            .arg(id.to_string())
            .arg(packed);
        let checked = self.write_pipeline(&transaction).await?.pop();
        redriven(checked.unwrap_or(Value::Nil))
    }
}
