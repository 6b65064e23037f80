//! The only room that knows Redis: connections, keys, commands and what their replies mean.
//!
//! It knows nothing of HTTP. Every public function answers in terms of `model`, or fails with a
//! [`StoreError`] that says what happened rather than what Redis wrote.

/// Lua: whether one id lies below another. Compared as text with their lengths, since Lua's numbers
/// are too small.
macro_rules! lua_below {
    () => {
        "\
local function below(a, b)
  local am, as = a:match('^(%d+)-(%d+)$')
  local bm, bs = b:match('^(%d+)-(%d+)$')
  if am ~= bm then return #am < #bm or (#am == #bm and am < bm) end
  return #as < #bs or (#as == #bs and as < bs)
end\n"
    };
}

/// Lua: the groups of a stream, each as a table of what XINFO says of it; none of a key that is not
/// there.
macro_rules! lua_groups {
    () => {
        "\
local function groups_of(key)
  local groups = {}
  if redis.call('EXISTS', key) == 0 then return groups end
  for _, flat in ipairs(redis.call('XINFO', 'GROUPS', key)) do
    local group = {}
    for i = 1, #flat, 2 do group[flat[i]] = flat[i + 1] end
    groups[#groups + 1] = group
  end
  return groups
end\n"
    };
}

mod ack;
mod address;
mod append;
mod append_script;
mod blocking;
mod capabilities;
mod clock;
mod consumer_admission;
mod consumer_looks;
mod consumers;
mod contact;
mod counters;
mod decode;
mod deletion;
mod dial;
mod discarded;
mod durability;
mod duty;
mod entries;
mod error;
mod facts;
mod full;
mod groups;
mod idempotency;
mod lag;
mod large;
mod leases;
mod link;
mod pending;
mod pool;
pub mod private;
mod replies;
mod retention;
mod scheduled;
mod scheduled_look;
mod secret;
mod sentinel;
mod site;
mod slot;
mod stream_change;
mod stream_life;
mod streams;
mod transaction;
mod trim;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use deadpool_redis::redis::{Cmd, Pipeline, Value};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use append::{Append, Appended, Key, MAX_FIELDS, NewEntry, Placed, Refusal};
pub use blocking::{Blocking, Handle, Woken};
pub use capabilities::{Capabilities, Capability, Used};
use consumer_admission::Admissions;
use consumer_looks::Looks;
pub use consumers::{AutoClaim, Claim, Claimed, PendingFate};
pub use contact::Contact;
pub use counters::Counters;
pub use deletion::{Deletion, References};
use discarded::Discarded;
pub use durability::{Durability, Durable, Reached};
pub use duty::Duty;
pub use entries::{Between, Stretch};
pub use error::StoreError;
pub use facts::StreamCheck;
pub use full::{FullConsumer, FullGroup, FullPending, FullStream};
pub use groups::{ConsumerInfo, Delivery, GroupInfo, GroupRead};
use large::LargeReads;
pub use large::Room;
pub use leases::{
    Calls, DeadLetter, DeadLetters, Ear, GroupChange, GroupStart, Handed, HandedOut, Item, Lease,
    Redrive, Redriven, Settled, Settlement, SweepAt, SweepParts, Swept, WorkRead,
};
pub use pending::{Pending, PendingEntry, PendingQuery, PendingSummary};
use pool::{Connections, Repeat};
pub use replies::{Effects, Lasts, REPLIES, Reply};
pub use retention::{BlockedBy, Retained};
pub use scheduled::{DueStream, Moved, Scheduled};
use site::Kind;
pub use site::{MAX_DURABILITY_WAIT, PoolSettings, Sentinels};
pub use stream_change::StreamChange;
pub use streams::{Idmp, StreamInfo, StreamsPage};
pub use trim::{Trim, Trimming};

/// The streams of one Redis. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    connections: Arc<Connections>,
    large: Arc<LargeReads>,
    looks: Arc<Looks>,
    admissions: Arc<Admissions>,
    discarded: Arc<Discarded>,
    /// Which of the connections for writes is used.
    writer: usize,
    /// Written by `probe`: whether this server can leave holes that its counters do not show.
    untraced_holes: Arc<AtomicBool>,
    /// Written by `probe`; `None` until that has once gone through.
    capabilities: Arc<RwLock<Option<Arc<Capabilities>>>>,
}

/// How soon the server is asked again what it can do, when that may tell more.
const PROBE_AGAIN: Duration = Duration::from_secs(5);

impl Store {
    /// Prepares the connections; connects to nothing yet.
    ///
    /// # Errors
    /// [`StoreError::Unexpected`] when the settings cannot make a pool.
    pub fn new(settings: &PoolSettings) -> Result<Self, StoreError> {
        let connections = Arc::new(Connections::new(settings)?);
        let large = Arc::new(LargeReads::new(
            settings.large_reads,
            settings.response_timeout,
        ));
        // Assumed until the server says otherwise: it only makes positions say less.
        let untraced_holes = Arc::new(AtomicBool::new(true));
        Ok(Self {
            connections,
            large,
            looks: Arc::default(),
            admissions: Arc::default(),
            discarded: Arc::default(),
            writer: 0,
            untraced_holes,
            capabilities: Arc::default(),
        })
    }

    /// The same store, for the thread of this number that serves connections.
    #[must_use]
    pub fn on_worker(&self, worker: usize) -> Self {
        Self {
            writer: worker + 1,
            ..self.clone()
        }
    }

    /// What is known of Redis.
    #[must_use]
    pub fn contact(&self) -> watch::Receiver<Contact> {
        self.connections.contact()
    }

    /// Why the server takes no writes, if it was seen to refuse them.
    #[must_use]
    pub fn refuses_writes(&self) -> Option<String> {
        self.connections.writes.refused()
    }

    /// Connections open now, by kind.
    #[must_use]
    pub fn open_connections(&self) -> [(&'static str, usize); 3] {
        self.connections.open()
    }

    /// Bytes of large reads that are under way.
    #[must_use]
    pub fn large_read_bytes(&self) -> usize {
        self.large.bytes()
    }

    /// Large reads for which there was no room in time, since this was last asked.
    #[must_use]
    pub fn take_refused_reads(&self) -> u64 {
        self.large.take_refused()
    }

    /// Settings that were discarded since this was last asked, by kind, because their stream or group
    /// was replaced by another client.
    #[must_use]
    pub fn take_discarded(&self) -> [(&'static str, u64); 3] {
        self.discarded.take()
    }

    /// An exclusive connection for blocking reads.
    ///
    /// # Errors
    /// [`StoreError::Exhausted`] when all are in use, [`StoreError::Unreachable`] otherwise.
    pub async fn blocking(&self) -> Result<Blocking, StoreError> {
        self.connections.exclusive(Kind::Blocking).await
    }

    /// Keeps connections alive and knowledge of the server fresh, until `stop`.
    pub async fn supervise(&self, stop: CancellationToken) {
        let probing = async {
            let (mut connected, mut seen, mut settled) = (self.connections.connected(), 0, true);
            loop {
                // There may be another server behind every new connection.
                tokio::select! {
                    made = connected.wait_for(|made| *made != seen) => match made {
                        Ok(made) => seen = *made,
                        Err(_) => return,
                    },
                    () = tokio::time::sleep(PROBE_AGAIN), if !settled => {}
                }
                settled = self.probe().await;
            }
        };
        tokio::select! {
            () = self.connections.supervise(stop) => {}
            () = self.connections.follow_master() => {}
            () = self.connections.follow_address() => {}
            () = self.report_contact() => {}
            () = probing => {}
        }
    }

    /// Whether this server can leave holes that its counters do not show, for the scripts.
    fn holes(&self) -> u8 {
        u8::from(
            self.untraced_holes
                .load(std::sync::atomic::Ordering::Relaxed),
        )
    }

    async fn read(&self, command: &Cmd) -> Result<Value, StoreError> {
        self.connections
            .command(command, Repeat::Safe, self.writer)
            .await
    }

    async fn write(&self, command: &Cmd) -> Result<Value, StoreError> {
        self.connections
            .command(command, Repeat::Unsafe, self.writer)
            .await
    }

    async fn write_pipeline(&self, pipeline: &Pipeline) -> Result<Vec<Value>, StoreError> {
        self.connections
            .pipeline(pipeline, Repeat::Unsafe, self.writer)
            .await
    }
}

/// Which connection commands go over.
#[derive(Clone)]
pub enum Lane {
    /// The shared ones.
    Shared,
    /// An exclusive one.
    Own(Handle),
}

impl Store {
    async fn read_pipeline(
        &self,
        lane: &Lane,
        pipeline: &Pipeline,
    ) -> Result<Vec<Value>, StoreError> {
        match lane {
            Lane::Shared => {
                self.connections
                    .pipeline(pipeline, Repeat::Safe, self.writer)
                    .await
            }
            Lane::Own(handle) => self.connections.heed(handle.pipeline(pipeline).await),
        }
    }

    async fn write_on(&self, lane: &Lane, command: &Cmd) -> Result<Value, StoreError> {
        match lane {
            Lane::Shared => self.write(command).await,
            Lane::Own(handle) => self.connections.heed(handle.command(command).await),
        }
    }

    async fn write_pipeline_on(
        &self,
        lane: &Lane,
        pipeline: &Pipeline,
    ) -> Result<Vec<Value>, StoreError> {
        match lane {
            Lane::Shared => self.write_pipeline(pipeline).await,
            Lane::Own(handle) => self.connections.heed(handle.pipeline(pipeline).await),
        }
    }
}
