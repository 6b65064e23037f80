//! The counters of a stream, read by one small script, and range reads that are atomic with them.
//!
//! XINFO STREAM alone fails on a missing key, and returns the whole first and last entry. The
//! script also checks whether the entry of a position still exists.

use std::sync::atomic::Ordering;

use deadpool_redis::redis::{Cmd, Pipeline, Value};

use crate::model::entry::Entry;
use crate::model::history::{Evidence, PositionStatus, StreamCounters};
use crate::model::id::EntryId;
use crate::model::name::StreamName;
use crate::model::position::Position;
use crate::model::range::Order;
use crate::redis::conn::send_options::RetryPolicy;
use crate::redis::decode::{Properties, id, list, optional, optional_id, tuple, unsigned};
use crate::redis::script::{LuaScript, lua};
use crate::redis::stream::read_budget::ReadPermit;
use crate::redis::{Lane, Store, StoreError};

static SCRIPT: LuaScript = LuaScript::new(lua!["lib/facts", "stream_counters"]);

/// Returns the counters of several streams. The result is 0 for a missing key, and 1 for a key of
/// another type.
static GLANCE: LuaScript = LuaScript::new(lua!["lib/facts", "stream_tails"]);

/// The counters of a stream, and whether the entry of a position exists.
#[derive(Clone, Copy, Debug)]
pub struct PositionCheck {
    /// Counters of the stream.
    pub facts: StreamCounters,
    /// Whether the entry exists; `None` for a position without a count, whose entry is not checked.
    pub entry_exists: Option<bool>,
}

impl PositionCheck {
    const MISSING: Self = Self {
        facts: StreamCounters::missing(),
        entry_exists: None,
    };

    /// Returns the state of a position after which exactly `entries_after` entries were found.
    #[must_use]
    pub fn standing(&self, position: Position, entries_after: u64) -> PositionStatus {
        let entry_exists = self.entry_exists;
        self.facts.standing(
            position,
            Evidence {
                entry_exists,
                entries_after,
                to_tail: true,
            },
        )
    }
}

/// A range of ids, inclusive, with an order and a maximum count.
#[derive(Clone, Copy)]
pub(in crate::redis) struct Range {
    pub(in crate::redis) order: Order,
    pub(in crate::redis) low: EntryId,
    pub(in crate::redis) high: EntryId,
    pub(in crate::redis) count: usize,
}

/// Returns the id of the entry to check. Only a counted position is certain to be an entry.
pub(in crate::redis) fn entry_at(position: Position) -> Option<EntryId> {
    position
        .n
        .map(|_| position.id)
        .filter(|id| *id > EntryId::MIN)
}

/// Returns the call of the script as part of a transaction with other reads.
fn command(stream: &StreamName, at: Position) -> Cmd {
    let mut command = SCRIPT.by_hash();
    write(&mut command, stream, at);
    command
}

fn write(command: &mut Cmd, stream: &StreamName, at: Position) {
    let at = entry_at(at).map_or_else(String::new, |id| id.to_string());
    command.arg(1).arg(stream.redis_key()).arg(at);
}

/// Adds commands that check a stream which should exist. They cost Redis less than the script, but
/// fail if the stream does not exist, and are not atomic.
pub(in crate::redis) fn add_check(pipeline: &mut Pipeline, stream: &StreamName, at: Position) {
    add_info(pipeline, stream);
    if let Some(id) = entry_at(at) {
        let id = id.to_string();
        pipeline
            .cmd("XRANGE")
            .arg(stream.redis_key())
            .arg(&id)
            .arg(&id)
            .arg("COUNT")
            .arg(1);
    }
}

/// Adds the command that reads the counters of a stream which should exist.
pub(in crate::redis) fn add_info(pipeline: &mut Pipeline, stream: &StreamName) {
    pipeline.cmd("XINFO").arg("STREAM").arg(stream.redis_key());
}

impl Store {
    /// Decodes the replies to the commands of [`add_check`].
    pub(in crate::redis) fn decode_check(
        &self,
        stream: &StreamName,
        at: Position,
        replies: &mut impl Iterator<Item = Value>,
    ) -> Result<PositionCheck, StoreError> {
        let facts = self.decode_info(stream, replies.next().unwrap_or(Value::Nil))?;
        let entry_exists = match entry_at(at) {
            Some(_) => Some(!list(replies.next().unwrap_or(Value::Nil))?.is_empty()),
            None => None,
        };
        Ok(PositionCheck {
            facts,
            entry_exists,
        })
    }

    /// Decodes the reply to the command of [`add_info`].
    pub(in crate::redis) fn decode_info(
        &self,
        stream: &StreamName,
        reply: Value,
    ) -> Result<StreamCounters, StoreError> {
        let mut info = Properties::new(reply)?;
        let (first, last) = (info.take("first-entry"), info.take("last-entry"));
        let weight = weight_of(&first).max(weight_of(&last));
        self.large.saw(
            stream.redis_key(),
            Some(weight).filter(|weight| *weight > 0),
        );
        self.facts_from([
            info.take("length"),
            info.take("last-generated-id"),
            info.take("entries-added"),
            info.take("max-deleted-entry-id"),
            id_of(first),
            id_of(last),
        ])
    }

    fn weighed(&self, stream: &StreamName, weight: &Value) -> Result<(), StoreError> {
        let weight = usize::try_from(unsigned(weight)?).unwrap_or(usize::MAX);
        self.large.saw(
            stream.redis_key(),
            Some(weight).filter(|weight| *weight > 0),
        );
        Ok(())
    }

    /// Returns the counters of a stream, or [`StreamCounters::missing`] if the stream does not exist.
    ///
    /// # Errors
    /// [`StoreError::NotAStream`] when the key holds another type, [`StoreError::Crowded`], or an
    /// outage of Redis.
    /// # Cancel safety
    /// Cancel safe: only reads.
    pub async fn facts(
        &self,
        lane: &Lane,
        stream: &StreamName,
    ) -> Result<StreamCounters, StoreError> {
        let _permit = match lane {
            Lane::Shared => self.large.permit_for_facts(stream.redis_key()).await?,
            Lane::Own(_) => ReadPermit::default(),
        };
        let reply = self
            .run_script_on(lane, &SCRIPT, RetryPolicy::Safe, |command| {
                write(command, stream, Position::OLDEST);
            })
            .await?;
        Ok(self.decode_facts(stream, reply)?.facts)
    }

    /// Checks several streams, each with the position of a reader. Returns `None` for a key of
    /// another type.
    ///
    /// # Errors
    /// An outage of Redis.
    /// # Cancel safety
    /// Cancel safe: only reads.
    pub async fn check_tails(
        &self,
        lane: &Lane,
        streams: &[(StreamName, Position)],
    ) -> Result<Vec<Option<PositionCheck>>, StoreError> {
        let write = |command: &mut Cmd| {
            command.arg(streams.len());
            for (stream, _) in streams {
                command.arg(stream.redis_key());
            }
            for (_, at) in streams {
                command.arg(entry_at(*at).map_or_else(String::new, |id| id.to_string()));
            }
        };
        let check = |((stream, _), reply): (&(StreamName, Position), Value)| match reply {
            Value::Int(0) => Ok(Some(PositionCheck::MISSING)),
            Value::Int(_) => Ok(None),
            facts => self.decode_facts(stream, facts).map(Some),
        };
        let replies = list(
            self.run_script_on(lane, &GLANCE, RetryPolicy::Safe, write)
                .await?,
        )?;
        streams.iter().zip(replies).map(check).collect()
    }

    /// Checks several streams that should exist, each with the position of a reader. The check is
    /// not atomic: a concurrent change makes the check of a stream contradict the position.
    ///
    /// # Errors
    /// [`StoreError::StreamNotFound`] or [`StoreError::NotAStream`] when one of the streams is
    /// missing or of another type, or an outage of Redis.
    /// # Cancel safety
    /// Cancel safe: only reads.
    pub async fn check(
        &self,
        lane: &Lane,
        streams: &[(StreamName, Position)],
    ) -> Result<Vec<PositionCheck>, StoreError> {
        let mut pipeline = Pipeline::new();
        for (stream, at) in streams {
            add_check(&mut pipeline, stream, *at);
        }
        let mut replies = self.read_pipeline(lane, &pipeline).await?.into_iter();
        streams
            .iter()
            .map(|(stream, at)| self.decode_check(stream, *at, &mut replies))
            .collect()
    }

    /// Reads a range and a check of its stream atomically.
    ///
    /// # Errors
    /// [`StoreError::NotAStream`], or an outage of Redis.
    /// # Cancel safety
    /// Cancel safe: only reads.
    pub(in crate::redis) async fn range_with_facts(
        &self,
        lane: &Lane,
        stream: &StreamName,
        range: &Range,
        at: Position,
    ) -> Result<(Vec<Entry>, PositionCheck), StoreError> {
        let (verb, from, to) = match range.order {
            Order::Asc => ("XRANGE", range.low, range.high),
            Order::Desc => ("XREVRANGE", range.high, range.low),
        };
        let mut plain = Cmd::new();
        plain
            .arg(verb)
            .arg(stream.redis_key())
            .arg(from.to_string())
            .arg(to.to_string());
        plain.arg("COUNT").arg(range.count);
        let mut transaction = Pipeline::new();
        transaction
            .atomic()
            .add_command(plain)
            .add_command(command(stream, at));
        let mut replies = self.read_pipeline(lane, &transaction).await;
        if let Err(StoreError::NoScript) = replies {
            // The transaction only reads. Running the script alone stores it on the server.
            let run = self.run_script_on(lane, &SCRIPT, RetryPolicy::Safe, |command| {
                write(command, stream, at);
            });
            run.await?;
            replies = self.read_pipeline(lane, &transaction).await;
        }
        let [entries, facts] = match replies {
            // Redis rejects all transactions when it is out of memory, but runs a script that only
            // reads. Always using the script would cost Redis four times as much per entry.
            Err(StoreError::OutOfMemory) => {
                let whole = self.run_script_on(lane, &SCRIPT, RetryPolicy::Safe, |command| {
                    write(command, stream, at);
                    command
                        .arg(verb)
                        .arg(from.to_string())
                        .arg(to.to_string())
                        .arg(range.count);
                });
                match whole.await? {
                    Value::Nil => [Value::Array(Vec::new()), Value::Nil],
                    both => tuple(both)?,
                }
            }
            replies => tuple(Value::Array(replies?))?,
        };
        Ok((
            crate::redis::decode::entries(entries)?,
            self.decode_facts(stream, facts)?,
        ))
    }

    pub(in crate::redis) async fn read_on(
        &self,
        lane: &Lane,
        command: &Cmd,
    ) -> Result<Value, StoreError> {
        match lane {
            Lane::Shared => self.read(command).await,
            Lane::Own(handle) => handle.command(command).await,
        }
    }

    fn decode_facts(&self, stream: &StreamName, value: Value) -> Result<PositionCheck, StoreError> {
        if value == Value::Nil {
            return Ok(PositionCheck::MISSING);
        }
        let [
            length,
            last_id,
            added,
            max_deleted,
            oldest,
            newest,
            weight,
            exists,
        ] = tuple(value)?;
        self.weighed(stream, &weight)?;
        let facts = [length, last_id, added, max_deleted, oldest, newest];
        let entry_exists = optional(&exists)?.map(|exists| exists == 1);
        Ok(PositionCheck {
            facts: self.facts_from(facts)?,
            entry_exists,
        })
    }

    fn facts_from(&self, values: [Value; 6]) -> Result<StreamCounters, StoreError> {
        let [length, last_id, added, max_deleted, oldest, newest] = values;
        Ok(StreamCounters {
            exists: true,
            length: unsigned(&length)?,
            entries_added: optional(&added)?,
            last_id: id(last_id)?,
            oldest: optional_id(oldest)?,
            newest: optional_id(newest)?,
            max_deleted: optional_id(max_deleted)?.unwrap_or(EntryId::MIN),
            untraced_holes: self.untraced_holes.load(Ordering::Relaxed),
        })
    }
}

/// Returns the weight of an entry that XINFO copied, computed as in the script.
fn weight_of(entry: &Value) -> usize {
    let Value::Array(parts) = entry else { return 0 };
    let Some(Value::Array(texts)) = parts.get(1) else {
        return 0;
    };
    let size = |text: &Value| {
        if let Value::BulkString(text) = text {
            text.len() + 128
        } else {
            0
        }
    };
    texts.iter().map(size).sum()
}

/// Returns the id of an entry, or nil if there is no entry.
fn id_of(entry: Value) -> Value {
    match entry {
        Value::Array(parts) => parts.into_iter().next().unwrap_or(Value::Nil),
        other => other,
    }
}
