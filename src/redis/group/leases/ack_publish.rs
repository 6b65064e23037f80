//! Acknowledgement of entries and appends of their results, in one step.

use deadpool_redis::redis::{Cmd, Value};

use crate::model::id::EntryId;
use crate::model::name::{GroupName, StreamName};
use crate::redis::conn::send_options::RetryPolicy;
use crate::redis::decode::{int, list, text};
use crate::redis::group::leases::settle::write_items;
use crate::redis::group::leases::{Item, LeaseOutcome};
use crate::redis::keys;
use crate::redis::script::{LuaScript, lua};
use crate::redis::stream::append::fingerprint;
use crate::redis::{AppendOutcome, IdempotencyKey, NewEntry, Store, StoreError};

/// Appends all entries and acknowledges all items, or does nothing.
static ACK_PUBLISH: LuaScript = LuaScript::new(lua![
    "lib/below",
    "lib/stream_life",
    "lib/life",
    "lib/leases",
    "lib/order",
    "lib/items",
    "publish_arguments",
    "lib/keys",
    "ack_publish"
]);

/// The entries to acknowledge, and those to append, each with its stream.
#[derive(Clone, Debug)]
pub struct AckPublish {
    /// The entries to acknowledge; not empty.
    pub items: Vec<Item>,
    /// The entries to append; not empty. Their streams are in the slot of the group.
    pub entries: Vec<(StreamName, NewEntry)>,
    /// Lifetime of idempotency keys, in milliseconds.
    pub window_ms: u64,
}

/// The outcome of an acknowledgement that publishes.
#[derive(Clone, Debug)]
pub enum AckPublished {
    /// All entries were appended, or had been with their keys, and all items acknowledged.
    Done(Vec<AppendOutcome>),
    /// All entries had been appended with their keys, and some items are no longer pending. Nothing
    /// was done.
    Replayed(Vec<AppendOutcome>, Vec<LeaseOutcome>),
    /// Some item is not pending or its lease is lost. Nothing was done.
    Lost(Vec<LeaseOutcome>),
    /// The key of the entry with this index was used for other content. Nothing was done.
    KeyReused(usize),
    /// The stream of the entry with this index is another type. Nothing was done.
    NotAStream(usize),
}

impl Store {
    /// Appends entries and acknowledges items in one step, or does nothing.
    ///
    /// # Errors
    /// [`StoreError::GroupNotFound`], [`StoreError::NotAStream`], [`StoreError::IdsExhausted`],
    /// [`StoreError::OutOfMemory`], or an outage of Redis.
    /// # Cancel safety
    /// If dropped after the command was sent, the step may still be done.
    pub async fn ack_and_publish(
        &self,
        stream: &StreamName,
        group: &GroupName,
        step: &AckPublish,
    ) -> Result<AckPublished, StoreError> {
        let mut streams: Vec<&StreamName> = Vec::new();
        let numbers: Vec<usize> = step
            .entries
            .iter()
            .map(|(to, _)| {
                streams
                    .iter()
                    .position(|one| *one == to)
                    .unwrap_or_else(|| {
                        streams.push(to);
                        streams.len() - 1
                    })
            })
            .collect();
        let write = |command: &mut Cmd| {
            command.arg(6 + 3 * streams.len());
            command.arg(&self.group_keys(stream, group));
            for to in &streams {
                command.arg(to.redis_key()).arg(&keys::idempotency(to));
            }
            command
                .arg(self.untraced_holes_flag())
                .arg(group.as_bytes());
            command
                .arg(keys::wake_channel(stream, group))
                .arg(step.window_ms)
                .arg(step.items.len());
            write_items(command, &step.items);
            command.arg(step.entries.len());
            for ((_, entry), number) in step.entries.iter().zip(&numbers) {
                let key = entry.key.as_ref().map_or("", IdempotencyKey::as_str);
                let print = entry.key.as_ref().map(|_| fingerprint(&entry.fields));
                command
                    .arg(number + 1)
                    .arg(key)
                    .arg(print.unwrap_or_default())
                    .arg(2 * entry.fields.len());
                for (name, value) in &entry.fields {
                    command.arg(name.as_slice()).arg(value.as_slice());
                }
            }
        };
        let mut done = self
            .run_once(&ACK_PUBLISH, RetryPolicy::Unsafe, &write)
            .await;
        if matches!(done, Err(StoreError::OtherLife)) {
            let of_group = |command: &mut Cmd| self.begin(command, stream, group);
            self.discard_other_lives(&of_group).await?;
            done = self
                .run_once(&ACK_PUBLISH, RetryPolicy::Unsafe, &write)
                .await;
        }
        let mut reply = list(done?)?.into_iter();
        let word = text(reply.next().unwrap_or_default())?;
        let first = reply.next().unwrap_or_default();
        if word == "reused" || word == "not-a-stream" {
            let index = text(first)?
                .parse::<usize>()
                .ok()
                .and_then(|at| at.checked_sub(1));
            let index =
                index.ok_or_else(|| StoreError::Unexpected("an index out of range".to_owned()))?;
            return Ok(match word.as_str() {
                "reused" => AckPublished::KeyReused(index),
                _ => AckPublished::NotAStream(index),
            });
        }
        let ids = list(first)?.into_iter().map(appended);
        let ids = ids.collect::<Result<Vec<_>, _>>()?;
        let codes = list(reply.next().unwrap_or_default())?;
        let outcomes = codes.iter().map(outcome).collect::<Result<Vec<_>, _>>()?;
        for marks in reply {
            let marks = text(marks)?;
            let mut words = marks.split(' ');
            let number = words.next().and_then(|number| number.parse::<usize>().ok());
            if let Some(to) = number.and_then(|number| streams.get(number.wrapping_sub(1))) {
                self.note_keys(to, words).await;
            }
        }
        Ok(match word.as_str() {
            "done" => AckPublished::Done(ids),
            "replayed" => AckPublished::Replayed(ids, outcomes),
            _ => AckPublished::Lost(outcomes),
        })
    }
}

fn appended(value: Value) -> Result<AppendOutcome, StoreError> {
    let text = text(value)?;
    let id = text.trim_start_matches('~').parse::<EntryId>();
    Ok(AppendOutcome {
        id: id.map_err(|_| StoreError::Unexpected("an invalid id of an entry".to_owned()))?,
        replayed: text.starts_with('~'),
    })
}

fn outcome(value: &Value) -> Result<LeaseOutcome, StoreError> {
    Ok(match int(value)? {
        1 => LeaseOutcome::Acknowledged,
        2 => LeaseOutcome::LeaseLost,
        _ => LeaseOutcome::NotPending,
    })
}
