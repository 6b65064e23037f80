//! Inspection and deletion of streams.

use deadpool_redis::redis::{Cmd, Value};
use futures_util::future::try_join_all;

use crate::model::entry::Entry;
use crate::model::id::EntryId;
use crate::model::name::StreamName;
use crate::redis::conn::send_options::RetryPolicy;
use crate::redis::decode::{
    Properties, bytes, id, int, list, optional, optional_id, text, unsigned,
};
use crate::redis::keys;
use crate::redis::script::{LuaScript, lua};
use crate::redis::{Store, StoreError};

/// Number of attempts to delete a stream whose groups change meanwhile.
const DELETE_TRIES: usize = 5;

/// Deletes a key only if it is a stream. Returns 1 if deleted, 0 if the key did not exist.
static DELETE: LuaScript = LuaScript::new(lua!["stream_delete"]);

/// Returns for each key whether it is a stream.
static ARE_STREAMS: LuaScript = LuaScript::new(lua!["streams_exist"]);

/// A stream as XINFO STREAM reports it.
#[derive(Clone, Debug)]
pub struct StreamInfo {
    /// Number of entries in the stream.
    pub length: u64,
    /// Number of entries ever added; `None` on servers that do not count them.
    pub entries_added: Option<u64>,
    /// Last generated id.
    pub last_id: EntryId,
    /// Greatest id ever removed by XDEL.
    pub max_deleted: EntryId,
    /// Lowest id that Redis has recorded as retained, `0-0` for an empty stream; unknown before
    /// Redis 7.0.
    pub recorded_first: Option<EntryId>,
    /// Number of keys in the radix tree of the stream.
    pub radix_tree_keys: u64,
    /// Number of nodes in the radix tree of the stream.
    pub radix_tree_nodes: u64,
    /// Redis' own state of idempotent producers; unknown before Redis 8.6.
    pub idmp: Option<Idmp>,
    /// Number of consumer groups.
    pub groups: u64,
    /// Oldest entry of the stream.
    pub first_entry: Option<Entry>,
    /// Newest entry of the stream.
    pub last_entry: Option<Entry>,
}

/// The state of idempotent XADD (IDMP), as XINFO STREAM reports it.
#[derive(Clone, Copy, Debug)]
pub struct Idmp {
    /// Lifetime of an idempotency id, in seconds.
    pub duration_s: u64,
    /// Maximum number of idempotency ids remembered per producer.
    pub max_size: u64,
    /// Number of producers known now.
    pub producers: u64,
    /// Number of idempotency ids remembered now.
    pub ids: u64,
    /// Number of entries ever added with an idempotency id.
    pub added: u64,
    /// Number of duplicates, which added nothing.
    pub duplicates: u64,
}

impl Store {
    /// Returns for each of these streams whether it exists, checked atomically for those of one
    /// slot.
    ///
    /// # Errors
    /// An outage of Redis.
    /// # Cancel safety
    /// Cancel safe: only reads.
    pub async fn are_streams(&self, streams: &[StreamName]) -> Result<Vec<bool>, StoreError> {
        let mut are = vec![false; streams.len()];
        let of_slot = async |places: Vec<usize>| {
            let reply = self.run_script(&ARE_STREAMS, RetryPolicy::Safe, |command| {
                command.arg(places.len());
                for place in &places {
                    command.arg(streams[*place].redis_key());
                }
            });
            let reply = list(reply.await?)?;
            Ok::<_, StoreError>((places, reply))
        };
        let groups = self
            .nodes
            .by_slot(streams.iter().map(StreamName::redis_key));
        for (places, reply) in try_join_all(groups.into_iter().map(of_slot)).await? {
            for (place, is) in places.into_iter().zip(reply) {
                are[place] = int(&is)? == 1;
            }
        }
        Ok(are)
    }

    /// Returns whether a key holds a stream.
    ///
    /// # Errors
    /// An outage of Redis.
    /// # Cancel safety
    /// Cancel safe: only reads.
    pub async fn is_stream(&self, stream: &StreamName) -> Result<bool, StoreError> {
        let mut command = Cmd::new();
        command.arg("TYPE").arg(stream.redis_key());
        Ok(text(self.read(&command).await?)? == "stream")
    }

    /// Returns the properties of a stream, or `None` if it does not exist.
    ///
    /// # Errors
    /// [`StoreError::NotAStream`], or an outage of Redis.
    /// # Cancel safety
    /// Cancel safe: only reads.
    pub async fn stream(&self, stream: &StreamName) -> Result<Option<StreamInfo>, StoreError> {
        let _permit = self
            .large
            .permit(2 * self.estimate_entry_size(stream).await?)
            .await?;
        let mut info = Cmd::new();
        info.arg("XINFO").arg("STREAM").arg(stream.redis_key());
        match self.read(&info).await {
            Err(StoreError::StreamNotFound) => Ok(None),
            reply => stream_info(reply?).map(Some),
        }
    }

    /// Deletes a stream with its groups and all data the gateway keeps about it. Returns false if
    /// the stream did not exist.
    ///
    /// # Errors
    /// [`StoreError::NotAStream`] for a key of another type, which is not deleted, or an outage of
    /// Redis.
    /// # Cancel safety
    /// If dropped after the command was sent, the stream may still be deleted.
    pub async fn delete_stream(&self, stream: &StreamName) -> Result<bool, StoreError> {
        let mut tries = DELETE_TRIES;
        loop {
            tries -= 1;
            match self.delete_with_groups(stream).await {
                Err(StoreError::Changed) if tries > 0 => {}
                done => return done,
            }
        }
    }

    /// Deletes a stream with the leases of those groups that have a policy now. Fails if another
    /// group gets a policy meanwhile, because all keys of a script must be known before it runs.
    async fn delete_with_groups(&self, stream: &StreamName) -> Result<bool, StoreError> {
        let mut names = Cmd::new();
        names.arg("HKEYS").arg(keys::policies(stream));
        let groups = list(self.read(&names).await?)?.into_iter().map(bytes);
        let groups = groups.collect::<Result<Vec<_>, _>>()?;
        let [known, ends] = keys::idempotency(stream);
        let [due, scheduled] = keys::scheduled(stream);
        let deleted = self.run_script(&DELETE, RetryPolicy::Unsafe, |command| {
            command.arg(7 + groups.len()).arg(stream.redis_key());
            command.arg(&known).arg(&ends).arg(keys::policies(stream));
            command.arg(keys::retention(stream)).arg(&due);
            command.arg(&scheduled);
            for group in &groups {
                command.arg([keys::leases_prefix(stream).as_bytes(), group].concat());
            }
            command.arg(&groups);
        });
        Ok(int(&deleted.await?)? == 1)
    }
}

/// Decodes the reply of XINFO STREAM.
pub(in crate::redis) fn stream_info(reply: Value) -> Result<StreamInfo, StoreError> {
    let mut info = Properties::new(reply)?;
    let mut entry = |name| match info.take(name) {
        Value::Nil => Ok(None),
        present => {
            crate::redis::decode::entries(Value::Array(vec![present])).map(|mut one| one.pop())
        }
    };
    let (first_entry, last_entry) = (entry("first-entry")?, entry("last-entry")?);
    let idmp = match optional(&info.take("idmp-duration"))? {
        None => None,
        Some(duration_s) => Some(Idmp {
            duration_s,
            max_size: unsigned(&info.take("idmp-maxsize"))?,
            producers: unsigned(&info.take("pids-tracked"))?,
            ids: unsigned(&info.take("iids-tracked"))?,
            added: unsigned(&info.take("iids-added"))?,
            duplicates: unsigned(&info.take("iids-duplicates"))?,
        }),
    };
    Ok(StreamInfo {
        length: unsigned(&info.take("length"))?,
        entries_added: optional(&info.take("entries-added"))?,
        last_id: id(info.take("last-generated-id"))?,
        max_deleted: optional_id(info.take("max-deleted-entry-id"))?.unwrap_or(EntryId::MIN),
        recorded_first: optional_id(info.take("recorded-first-entry-id"))?,
        radix_tree_keys: unsigned(&info.take("radix-tree-keys"))?,
        radix_tree_nodes: unsigned(&info.take("radix-tree-nodes"))?,
        idmp,
        groups: unsigned(&info.take("groups"))?,
        first_entry,
        last_entry,
    })
}
