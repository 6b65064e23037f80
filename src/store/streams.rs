//! Streams as a whole: listing, looking at, deleting.

use deadpool_redis::redis::{Cmd, Pipeline, Value};

use super::decode::{Properties, bytes, int, list, text, tuple, unsigned};
use super::{Store, StoreError, facts};
use crate::model::entry::Entry;
use crate::model::history::Facts;
use crate::model::name::StreamName;

/// SCAN rounds for one page: bounds the work a page of a keyspace without streams can cause.
const ROUNDS: usize = 16;
/// Keys Redis looks at per round.
const KEYS_PER_ROUND: usize = 1000;

/// Deletes a key only while it is a stream: 1 done, 0 there was none.
const DELETE: &str = "\
local kind = redis.call('TYPE', KEYS[1]).ok
if kind == 'none' then return 0 end
if kind ~= 'stream' then return redis.error_reply('WRONGTYPE the key holds no stream') end
return redis.call('DEL', KEYS[1])";

/// A page of stream names.
#[derive(Clone, Debug)]
pub struct StreamsPage {
    /// In no order; SCAN may name one twice over several pages.
    pub streams: Vec<StreamName>,
    /// Where to go on; `None` at the end.
    pub next: Option<u64>,
}

/// A stream as XINFO STREAM shows it.
#[derive(Clone, Debug)]
pub struct StreamInfo {
    /// Its counters.
    pub facts: Facts,
    /// How many consumer groups it has.
    pub groups: u64,
    /// The oldest entry retained.
    pub first_entry: Option<Entry>,
    /// The newest entry retained.
    pub last_entry: Option<Entry>,
}

impl Store {
    /// Names of streams matching a glob that the caller has made safe. About `limit` of them: a
    /// page may be short, even empty, while there is a next one.
    ///
    /// # Errors
    /// That Redis is away.
    /// # Cancel safety
    /// Reads only.
    pub async fn streams(
        &self,
        glob: &str,
        cursor: u64,
        limit: usize,
    ) -> Result<StreamsPage, StoreError> {
        let mut page = StreamsPage { streams: Vec::new(), next: Some(cursor) };
        for _ in 0..ROUNDS {
            let mut command = Cmd::new();
            command.arg("SCAN").arg(page.next.unwrap_or(0)).arg("MATCH").arg(glob);
            command.arg("COUNT").arg(limit.min(KEYS_PER_ROUND)).arg("TYPE").arg("stream");
            let [next, keys] = tuple(self.read(&command).await?)?;
            let next = text(next)?.parse::<u64>().ok().filter(|next| *next != 0);
            for key in list(keys)? {
                // Keys that are no names (not UTF-8, our own) cannot be asked for either.
                let name = String::from_utf8(bytes(key)?).ok();
                page.streams.extend(name.and_then(|name| StreamName::new(&name).ok()));
            }
            page.next = next;
            if next.is_none() || page.streams.len() >= limit {
                break;
            }
        }
        Ok(page)
    }

    /// What there is to know of a stream; `None` if there is none.
    ///
    /// # Errors
    /// [`StoreError::NotAStream`], or that Redis is away.
    /// # Cancel safety
    /// Reads only.
    pub async fn stream(&self, stream: &StreamName) -> Result<Option<StreamInfo>, StoreError> {
        let mut info = Cmd::new();
        info.arg("XINFO").arg("STREAM").arg(stream.as_str());
        let mut pipeline = Pipeline::new();
        pipeline.atomic().add_command(info).add_command(facts::command(stream));
        let reply = self.read_pipeline(&super::Lane::Shared, &pipeline).await;
        let mut replies = match reply {
            Err(StoreError::StreamNotFound) => return Ok(None),
            reply => reply?.into_iter(),
        };
        let mut info = Properties::new(replies.next().unwrap_or_default())?;
        let facts = self.decode_facts(replies.next().unwrap_or_default())?;
        let mut entry = |name| match info.take(name) {
            Value::Nil => Ok(None),
            present => super::decode::entries(Value::Array(vec![present])).map(|mut one| one.pop()),
        };
        let (first_entry, last_entry) = (entry("first-entry")?, entry("last-entry")?);
        Ok(Some(StreamInfo {
            facts,
            groups: unsigned(&info.take("groups"))?,
            first_entry,
            last_entry,
        }))
    }

    /// Deletes a stream with its groups; false if there was none.
    ///
    /// # Errors
    /// [`StoreError::NotAStream`] for any other key, which stays, or that Redis is away.
    /// # Cancel safety
    /// Dropped after it was sent, the stream may be gone all the same.
    pub async fn delete_stream(&self, stream: &StreamName) -> Result<bool, StoreError> {
        let mut command = Cmd::new();
        command.arg("EVAL").arg(DELETE).arg(1).arg(stream.as_str());
        Ok(int(&self.write(&command).await?)? == 1)
    }
}
