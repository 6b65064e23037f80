//! Listing of streams: pages of SCAN over all nodes.
//!
//! A page lists the keys of a range of slots with one owner. A cursor of SCAN is valid only in the
//! process that returned it, so a position names the process. If another process serves the range
//! by now, after a failover, a restart or a move of slots, the range is scanned again from its
//! start: streams may be repeated, but are never skipped.

use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::str::FromStr;
use std::sync::Arc;

use deadpool_redis::redis::{Cmd, Pipeline, Value};

use crate::model::name::{InvalidName, OWN_PREFIX, RawName, StreamName};
use crate::redis::cluster::call::Call as _;
use crate::redis::cluster::slot::{SLOTS, slot_of};
use crate::redis::cluster::table::{Node, SlotTable};
use crate::redis::conn::send_options::{RetryPolicy, SendOptions};
use crate::redis::decode::{bytes, list, text, tuple};
use crate::redis::{Store, StoreError};

/// Maximum SCAN rounds per page; limits the work for a keyspace without streams.
const ROUNDS: usize = 16;
/// Number of keys that Redis examines per round.
const KEYS_PER_ROUND: usize = 1000;

/// A page of stream names.
#[derive(Clone, Debug)]
pub struct StreamsPage {
    /// Streams in no particular order. A stream may be listed twice, on different pages.
    pub streams: Vec<StreamName>,
    /// Streams of other clients, with names that the gateway does not allow.
    pub foreign: Vec<RawName>,
    /// Position of the next page; `None` at the end.
    pub next: Option<ListPosition>,
}

/// A position in the list of all streams. As text: `<first slot>.<last slot>.<process>.<cursor>`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListPosition {
    /// First slot that is not listed yet.
    from: usize,
    /// Last slot of the range that is being scanned.
    to: usize,
    /// Hash of the run id of the process that returned the cursor.
    process: u32,
    /// Cursor of SCAN; 0 at the start of a range.
    cursor: u64,
}

impl fmt::Display for ListPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            from,
            to,
            process,
            cursor,
        } = self;
        write!(f, "{from}.{to}.{process:x}.{cursor}")
    }
}

/// The error for an invalid position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a position in a list of streams")]
pub struct InvalidPosition;

impl FromStr for ListPosition {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, InvalidPosition> {
        let parts: Vec<_> = text.split('.').collect();
        let [from, to, process, cursor] = parts[..] else {
            return Err(InvalidPosition);
        };
        let slot = |text: &str| text.parse().ok().filter(|slot| *slot < SLOTS);
        let parse = || {
            Some(Self {
                from: slot(from)?,
                to: slot(to)?,
                process: u32::from_str_radix(process, 16).ok()?,
                cursor: cursor.parse().ok()?,
            })
        };
        parse().filter(|at| at.from <= at.to).ok_or(InvalidPosition)
    }
}

/// Returns the node of a slot, with the last slot of its range. Slots without a node are not
/// skipped: their streams would be missing from the list.
fn range_at(table: &SlotTable, from: usize) -> Option<(Node, usize)> {
    let node = table.owner(from)?;
    let same = |slot: &usize| {
        table
            .owner(*slot)
            .is_some_and(|owner| Arc::ptr_eq(owner, node))
    };
    let to = (from..SLOTS).take_while(same).last()?;
    Some((node.clone(), to))
}

impl Store {
    /// Returns a page of about `limit` streams that match a glob, which the caller must have
    /// escaped. A page may be short or empty although there is a next page.
    ///
    /// # Errors
    /// [`StoreError::NotServing`] when no node serves the next slots, or an outage of Redis.
    /// # Cancel safety
    /// Cancel safe: only reads.
    pub async fn streams(
        &self,
        glob: &str,
        mut at: ListPosition,
        limit: usize,
    ) -> Result<StreamsPage, StoreError> {
        let mut page = StreamsPage {
            streams: Vec::new(),
            foreign: Vec::new(),
            next: None,
        };
        for _ in 0..ROUNDS {
            let table = self.nodes.table();
            let range = range_at(&table, at.from);
            let (node, to) = range.ok_or_else(|| self.nodes.not_serving(at.from))?;
            if at.cursor == 0 || to < at.to {
                (at.to, at.process, at.cursor) = (to, 0, 0);
            }
            let (process, reply) = self.scan(&node, glob, at.cursor, limit).await?;
            if at.cursor != 0 && process != at.process {
                at.cursor = 0;
                continue;
            }
            let [next, keys] = tuple(reply)?;
            let whole = !table.is_cluster();
            for key in list(keys)? {
                let key = bytes(key)?;
                if whole || (at.from..=at.to).contains(&slot_of(&key)) {
                    page.add(key);
                }
            }
            (at.process, at.cursor) = (process, text(next)?.parse().unwrap_or(0));
            if at.cursor == 0 {
                at.from = at.to + 1;
                if at.from >= SLOTS {
                    return Ok(page);
                }
                at.to = at.from;
            }
            if page.streams.len() + page.foreign.len() >= limit {
                break;
            }
        }
        page.next = Some(at);
        Ok(page)
    }

    /// Runs SCAN on a node. Returns the hash of its run id, or 0 if the gateway may not read it, and
    /// the reply of SCAN.
    async fn scan(
        &self,
        node: &Node,
        glob: &str,
        cursor: u64,
        limit: usize,
    ) -> Result<(u32, Value), StoreError> {
        let mut scan = Cmd::new();
        scan.arg("SCAN").arg(cursor).arg("MATCH").arg(glob);
        scan.arg("COUNT").arg(limit.min(KEYS_PER_ROUND));
        scan.arg("TYPE").arg("stream");
        let how = SendOptions::maintenance(RetryPolicy::Safe);
        let mut both = Pipeline::with_capacity(2);
        both.cmd("INFO").arg("server");
        both.add_command(scan.clone());
        let replies = both.send_to(node, how).await;
        match replies {
            Err(StoreError::Denied(_)) => Ok((0, scan.send_to(node, how).await?)),
            Err(error) => {
                self.nodes.suspect(&error);
                Err(error)
            }
            Ok(replies) => {
                let [info, page] = tuple(Value::Array(replies))?;
                Ok((process_of(&text(info)?), page))
            }
        }
    }
}

/// Returns the hash of the run id in a reply of INFO.
fn process_of(info: &str) -> u32 {
    let run = info.lines().find_map(|line| line.strip_prefix("run_id:"));
    let mut hasher = DefaultHasher::new();
    run.unwrap_or_default().trim().hash(&mut hasher);
    let [.., a, b, c, d] = hasher.finish().to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

impl StreamsPage {
    fn add(&mut self, key: Vec<u8>) {
        match std::str::from_utf8(&key).ok().map(StreamName::new) {
            Some(Ok(stream)) => self.streams.push(stream),
            Some(Err(InvalidName::Reserved)) => {}
            _ if key.starts_with(OWN_PREFIX.as_bytes()) => {}
            _ => self.foreign.push(key.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read_back_and_others_are_refused() {
        let at = ListPosition {
            from: 5461,
            to: 10922,
            process: 0xbeef,
            cursor: u64::MAX,
        };
        assert_eq!(at.to_string().parse(), Ok(at));
        for text in [
            "",
            "17",
            "1.2.3",
            "2.1.0.0",
            "0.16384.0.0",
            "0.1.x.0",
            "0.1.0.0.0",
        ] {
            assert_eq!(text.parse::<ListPosition>(), Err(InvalidPosition), "{text}");
        }
    }
}
