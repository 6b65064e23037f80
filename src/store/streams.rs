//! Streams as a whole: listing, looking at, deleting.

use deadpool_redis::redis::{Cmd, Value};

use super::decode::{
    Properties, bytes, id, int, list, optional, optional_id, text, tuple, unsigned,
};
use super::{Store, StoreError, leases, retention};
use crate::model::entry::Entry;
use crate::model::id::EntryId;
use crate::model::name::{InvalidName, OWN_PREFIX, RawName, StreamName};

/// SCAN rounds for one page: bounds the work a page of a keyspace without streams can cause.
const ROUNDS: usize = 16;
/// Keys Redis looks at per round.
const KEYS_PER_ROUND: usize = 1000;

/// Deletes a key only while it is a stream: 1 done, 0 there was none.
const DELETE: &str = "\
local kind = redis.call('TYPE', KEYS[1]).ok
if kind == 'none' then return 0 end
if kind ~= 'stream' then return redis.error_reply('WRONGTYPE the key holds no stream') end
for _, group in ipairs(redis.call('HKEYS', KEYS[4])) do redis.call('DEL', ARGV[1] .. group) end
redis.call('DEL', unpack(KEYS, 2))
return redis.call('DEL', KEYS[1])";

/// Whether each key is a stream.
const ARE_STREAMS: &str = "\
local are = {}
for i, key in ipairs(KEYS) do are[i] = redis.call('TYPE', key).ok == 'stream' and 1 or 0 end
return are";

/// A page of stream names.
#[derive(Clone, Debug)]
pub struct StreamsPage {
    /// In no order; SCAN may name one twice over several pages.
    pub streams: Vec<StreamName>,
    /// Streams that other clients made under names that could not be given here.
    pub foreign: Vec<RawName>,
    /// Where to go on; `None` at the end.
    pub next: Option<u64>,
}

/// A stream as XINFO STREAM shows it.
#[derive(Clone, Debug)]
pub struct StreamInfo {
    /// Entries retained.
    pub length: u64,
    /// Entries ever added; `None` on servers that do not count them.
    pub entries_added: Option<u64>,
    /// The id last generated.
    pub last_id: EntryId,
    /// The greatest id ever removed by XDEL.
    pub max_deleted: EntryId,
    /// The lowest id Redis has noted as retained, `0-0` of an empty stream; unknown before 7.0.
    pub recorded_first: Option<EntryId>,
    /// Keys of the radix tree it lies in.
    pub radix_tree_keys: u64,
    /// Nodes of that tree.
    pub radix_tree_nodes: u64,
    /// What Redis itself remembers of idempotent producers; unknown before 8.6.
    pub idmp: Option<Idmp>,
    /// How many consumer groups it has.
    pub groups: u64,
    /// The oldest entry retained.
    pub first_entry: Option<Entry>,
    /// The newest entry retained.
    pub last_entry: Option<Entry>,
}

/// The idempotency of XADD itself (IDMP), as XINFO STREAM shows it.
#[derive(Clone, Copy, Debug)]
pub struct Idmp {
    /// Seconds an id is remembered.
    pub duration_s: u64,
    /// Ids remembered of one producer.
    pub max_size: u64,
    /// Producers known now.
    pub producers: u64,
    /// Ids remembered now.
    pub ids: u64,
    /// Entries ever added with an id.
    pub added: u64,
    /// Repetitions that added nothing.
    pub duplicates: u64,
}

impl Store {
    /// Whether each of these streams exists, all seen in one step.
    ///
    /// # Errors
    /// An outage of Redis.
    /// # Cancel safety
    /// Cancel safe: only reads.
    pub async fn are_streams(&self, streams: &[StreamName]) -> Result<Vec<bool>, StoreError> {
        let mut command = Cmd::new();
        command.arg("EVAL").arg(ARE_STREAMS).arg(streams.len());
        for stream in streams {
            command.arg(stream.as_str());
        }
        let are = list(self.read(&command).await?)?;
        are.iter().map(|is| Ok(int(is)? == 1)).collect()
    }

    /// Names of streams matching a glob that the caller has made safe. About `limit` of them: a
    /// page may be short, even empty, while there is a next one.
    ///
    /// # Errors
    /// An outage of Redis.
    /// # Cancel safety
    /// Cancel safe: only reads.
    pub async fn streams(
        &self,
        glob: &str,
        cursor: u64,
        limit: usize,
    ) -> Result<StreamsPage, StoreError> {
        let (streams, foreign) = (Vec::new(), Vec::new());
        let mut page = StreamsPage {
            streams,
            foreign,
            next: Some(cursor),
        };
        for _ in 0..ROUNDS {
            let mut command = Cmd::new();
            command
                .arg("SCAN")
                .arg(page.next.unwrap_or(0))
                .arg("MATCH")
                .arg(glob);
            command
                .arg("COUNT")
                .arg(limit.min(KEYS_PER_ROUND))
                .arg("TYPE")
                .arg("stream");
            let [next, keys] = tuple(self.read(&command).await?)?;
            let next = text(next)?.parse::<u64>().ok().filter(|next| *next != 0);
            for key in list(keys)? {
                let key = bytes(key)?;
                match std::str::from_utf8(&key).ok().map(StreamName::new) {
                    Some(Ok(stream)) => page.streams.push(stream),
                    Some(Err(InvalidName::Reserved)) => {}
                    _ if key.starts_with(OWN_PREFIX.as_bytes()) => {}
                    _ => page.foreign.push(key.into()),
                }
            }
            page.next = next;
            if next.is_none() || page.streams.len() + page.foreign.len() >= limit {
                break;
            }
        }
        Ok(page)
    }

    /// Whether a key holds a stream.
    ///
    /// # Errors
    /// An outage of Redis.
    /// # Cancel safety
    /// Cancel safe: only reads.
    pub async fn is_stream(&self, stream: &StreamName) -> Result<bool, StoreError> {
        let mut command = Cmd::new();
        command.arg("TYPE").arg(stream.as_str());
        Ok(text(self.read(&command).await?)? == "stream")
    }

    /// What there is to know of a stream; `None` if there is none.
    ///
    /// # Errors
    /// [`StoreError::NotAStream`], or an outage of Redis.
    /// # Cancel safety
    /// Cancel safe: only reads.
    pub async fn stream(&self, stream: &StreamName) -> Result<Option<StreamInfo>, StoreError> {
        let _room = self.large.room(2 * self.weigh(stream).await?).await?;
        let mut info = Cmd::new();
        info.arg("XINFO").arg("STREAM").arg(stream.as_str());
        match self.read(&info).await {
            Err(StoreError::StreamNotFound) => Ok(None),
            reply => stream_info(reply?).map(Some),
        }
    }

    /// Deletes a stream with its groups and what is remembered beside it; false if there was none.
    ///
    /// # Errors
    /// [`StoreError::NotAStream`] for any other key, which stays, or an outage of Redis.
    /// # Cancel safety
    /// If dropped after the command was sent, the stream may still be gone.
    pub async fn delete_stream(&self, stream: &StreamName) -> Result<bool, StoreError> {
        let mut command = Cmd::new();
        let [known, ends] = super::idempotency::keys(stream);
        command
            .arg("EVAL")
            .arg(DELETE)
            .arg(7)
            .arg(stream.as_str())
            .arg(known)
            .arg(ends);
        command
            .arg(leases::policies(stream))
            .arg(retention::key(stream));
        let [due, scheduled] = super::scheduled::keys(stream);
        command.arg(due).arg(scheduled);
        command.arg(leases::leases_prefix(stream));
        Ok(int(&self.write(&command).await?)? == 1)
    }
}

/// What XINFO STREAM answers.
pub(super) fn stream_info(reply: Value) -> Result<StreamInfo, StoreError> {
    let mut info = Properties::new(reply)?;
    let mut entry = |name| match info.take(name) {
        Value::Nil => Ok(None),
        present => super::decode::entries(Value::Array(vec![present])).map(|mut one| one.pop()),
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
