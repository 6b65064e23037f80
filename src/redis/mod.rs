//! Redis access: connections, keys, commands, and the interpretation of replies.
//!
//! No other module talks to Redis, and this module knows nothing of HTTP. Public functions return
//! types of `model`, or a [`StoreError`] that says what happened rather than what Redis wrote.
//!
//! In the `# Errors` sections, "an outage of Redis" means an error for which
//! [`StoreError::is_outage`] or [`StoreError::is_outage_for_writes`] is true.

mod capabilities;
mod clock;
mod cluster;
pub mod conn;
mod constants;
mod decode;
mod discarded;
mod error;
mod group;
mod keys;
mod leader_lock;
mod replies;
mod script;
mod shared_secret;
mod stream;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use deadpool_redis::redis::{Cmd, Pipeline, Value};
use parking_lot::RwLock;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::metrics::CommandTimes;
use crate::model::name::StreamName;
pub use crate::redis::capabilities::{Capabilities, Capability, Used};
pub use crate::redis::cluster::nodes::ClusterFigures;
use crate::redis::cluster::nodes::Nodes;
pub use crate::redis::cluster::redirect::{NodeAddress, Redirect};
pub use crate::redis::conn::endpoint::MAX_DURABILITY_WAIT;
use crate::redis::conn::endpoint::PoolKind;
pub use crate::redis::conn::exclusive::{Blocking, BlockingReadResult, Handle};
pub use crate::redis::conn::health::RedisHealth;
use crate::redis::conn::send_options::RetryPolicy;
pub use crate::redis::conn::settings::{AddressMap, PoolSettings, Sentinels};
pub use crate::redis::conn::tracking::{Changes, NodeRef, Reported, TrackingConnection};
use crate::redis::discarded::Discarded;
pub use crate::redis::error::StoreError;
use crate::redis::group::consumer_admission::Admissions;
pub use crate::redis::group::consumers::{AutoClaim, Claim, Claimed, PendingAction};
pub use crate::redis::group::figures::MeasuredGroup;
use crate::redis::group::leases::dead_letter_keys::DeadLetterKeys;
pub use crate::redis::group::leases::{
    AckPublish, AckPublished, ConsumerRead, DeadLetter, DeadLetterCounts, DeadLetters, FirstUse,
    GroupChange, GroupDelivery, GroupStart, Item, KeyName, Lease, LeaseOperation, LeaseOutcome,
    OrderState, OrderedKey, OrderedKeys, Redrive, Redriven, StreamDelivery, SweepParts,
    SweepPosition, SweepResult, WakeMessages, WakeSubscriber,
};
pub use crate::redis::group::pending::{Pending, PendingEntry, PendingQuery, PendingSummary};
pub use crate::redis::group::plain::{ConsumerInfo, Delivery, GroupInfo, GroupRead};
use crate::redis::group::singleflight::Looks;
pub use crate::redis::leader_lock::LeaderLock;
pub use crate::redis::replies::{Effects, Lasts, REPLIES, Reply};
pub use crate::redis::stream::append::{
    Append, AppendConditions, AppendOutcome, AppendRejection, Appended, IdempotencyKey, MAX_FIELDS,
    NewEntry,
};
pub use crate::redis::stream::change::StreamChange;
pub use crate::redis::stream::counters::Counters;
pub use crate::redis::stream::deletion::{Deletion, ReferencePolicy};
use crate::redis::stream::durability::DurableShares;
pub use crate::redis::stream::durability::{Durability, DurableConnection, Reached};
pub use crate::redis::stream::entries::{IdRangePage, RangePage};
pub use crate::redis::stream::facts::PositionCheck;
pub use crate::redis::stream::info::{Idmp, StreamInfo};
pub use crate::redis::stream::info_full::{FullConsumer, FullGroup, FullPending, FullStream};
pub use crate::redis::stream::listing::{ListPosition, StreamsPage};
use crate::redis::stream::read_budget::ReadBudget;
pub use crate::redis::stream::read_budget::ReadPermit;
pub use crate::redis::stream::retention::{BlockedBy, Retained};
pub use crate::redis::stream::scheduled::{DueStream, Moved, Scheduled};
pub use crate::redis::stream::trim::{Trim, Trimming};
use crate::shares::Bound;

/// A client for the streams of one Redis server or cluster. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    nodes: Arc<Nodes>,
    large: Arc<ReadBudget>,
    looks: Arc<Looks>,
    admissions: Arc<Admissions>,
    discarded: Arc<Discarded>,
    dead_letter_keys: Arc<DeadLetterKeys>,
    durable_shares: Arc<DurableShares>,
    /// Index of the shared connection used for writes.
    writer: usize,
    /// Whether this server can delete entries without a trace in the stream's counters. Set by
    /// `probe`.
    untraced_holes: Arc<AtomicBool>,
    /// Set by `probe`; `None` until `probe` has succeeded once.
    capabilities: Arc<RwLock<Option<Arc<Capabilities>>>>,
}

/// Delay before the server's capabilities are probed again after an incomplete probe.
const PROBE_AGAIN: Duration = Duration::from_secs(5);

impl Store {
    /// Creates the connection pools without connecting yet.
    ///
    /// # Errors
    /// [`StoreError::Unexpected`] when no pool can be built from the settings.
    pub fn new(settings: &PoolSettings) -> Result<Self, StoreError> {
        let nodes = Arc::new(Nodes::new(settings)?);
        let large = Arc::new(ReadBudget::new(
            settings.large_reads,
            settings.response_timeout,
        ));
        // The safe default until `probe` has run: it only makes positions less precise.
        let untraced_holes = Arc::new(AtomicBool::new(true));
        Ok(Self {
            nodes,
            large,
            looks: Arc::default(),
            admissions: Arc::default(),
            discarded: Arc::default(),
            dead_letter_keys: Arc::default(),
            durable_shares: Arc::new(DurableShares::new(settings)),
            writer: 0,
            untraced_holes,
            capabilities: Arc::default(),
        })
    }

    /// Returns a handle to the same store for worker thread `worker`, with that worker's own
    /// connection for writes.
    #[must_use]
    pub fn on_worker(&self, worker: usize) -> Self {
        Self {
            writer: worker + 1,
            ..self.clone()
        }
    }

    /// Returns a watch on the health of the connection to Redis.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<RedisHealth> {
        self.nodes.health()
    }

    /// Returns why the server rejects writes, if it has rejected one.
    #[must_use]
    pub fn refuses_writes(&self) -> Option<String> {
        self.nodes.refuses_writes()
    }

    /// Returns the histograms of the times of commands.
    #[must_use]
    pub fn command_times(&self) -> CommandTimes {
        self.nodes.times.clone()
    }

    /// Returns the number of open connections, by kind.
    #[must_use]
    pub fn open_connections(&self) -> [(&'static str, usize); 3] {
        self.nodes.open()
    }

    /// Returns the bytes reserved by large reads in progress.
    #[must_use]
    pub fn large_read_bytes(&self) -> usize {
        self.large.bytes()
    }

    /// Returns the number of calls since the last call of this that were refused because their
    /// callers use their shares, by limit.
    #[must_use]
    pub fn take_refused_shares(&self) -> [(Bound, u64); 2] {
        [
            (Bound::Reads, self.large.take_refused_shares()),
            (
                Bound::DurableConnections,
                self.durable_shares.take_refused(),
            ),
        ]
    }

    /// Returns the number of large reads refused for lack of budget since the last call.
    #[must_use]
    pub fn take_refused_reads(&self) -> u64 {
        self.large.take_refused()
    }

    /// Returns how many settings were discarded since the last call, by kind. Settings are
    /// discarded when another client has replaced their stream or group.
    #[must_use]
    pub fn take_discarded(&self) -> [(&'static str, u64); 3] {
        self.discarded.take()
    }

    /// Returns an exclusive connection for blocking reads.
    ///
    /// # Errors
    /// [`StoreError::Exhausted`] when all such connections are in use, [`StoreError::Unreachable`]
    /// otherwise.
    pub async fn blocking(&self) -> Result<Blocking, StoreError> {
        self.nodes.exclusive(PoolKind::Blocking, None).await
    }

    /// Returns whether the streams are spread over the nodes of a cluster.
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        self.nodes.table().is_cluster()
    }

    /// Returns figures of the cluster, with the events since the last call.
    #[must_use]
    pub fn take_cluster_figures(&self) -> ClusterFigures {
        self.nodes.figures()
    }

    /// Returns the number of slots of a cluster without a reachable master.
    #[must_use]
    pub fn slots_down(&self) -> usize {
        self.nodes.table().slots_down()
    }

    /// Returns a watch that changes whenever another node may serve a stream.
    #[must_use]
    pub fn topology(&self) -> watch::Receiver<u64> {
        self.nodes.version()
    }

    /// Returns the node that serves a stream, or `None` if none does now.
    #[must_use]
    pub fn node_of(&self, stream: &StreamName) -> Option<NodeRef> {
        let node = self.nodes.node(Some(stream.redis_key().as_bytes()));
        node.ok().map(NodeRef)
    }

    /// Returns the node to which a redirect of `from` leads, and whether ASKING must precede each
    /// call there. Returns `None` if the same call must be sent again later.
    #[must_use]
    pub fn redirected(&self, from: &NodeRef, redirect: &Redirect) -> Option<(NodeRef, bool)> {
        if *redirect == Redirect::TryAgain {
            return None;
        }
        let (node, asking) = self.nodes.target(redirect, &from.0, None).ok()?;
        Some((NodeRef(node), asking))
    }

    /// Reports that a node does not answer, so that a failover is noticed soon.
    pub fn suspect(&self, error: &StoreError) {
        self.nodes.suspect(error);
    }

    /// Keeps connections alive and the server's capabilities up to date until `stop` is cancelled.
    pub async fn supervise(&self, stop: CancellationToken) {
        let probing = async {
            let (mut connected, mut seen, mut settled) = (self.nodes.connected(), 0, true);
            loop {
                // Every new connection may lead to a different server.
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
            () = self.nodes.supervise(stop) => {}
            () = self.report_contact() => {}
            () = probing => {}
        }
    }

    /// Returns `untraced_holes` as a script argument: 1 or 0.
    fn untraced_holes_flag(&self) -> u8 {
        u8::from(
            self.untraced_holes
                .load(std::sync::atomic::Ordering::Relaxed),
        )
    }

    async fn read(&self, command: &Cmd) -> Result<Value, StoreError> {
        self.nodes
            .call(command, RetryPolicy::Safe, self.writer)
            .await
    }

    async fn write(&self, command: &Cmd) -> Result<Value, StoreError> {
        self.nodes
            .call(command, RetryPolicy::Unsafe, self.writer)
            .await
    }

    async fn write_pipeline(&self, pipeline: &Pipeline) -> Result<Vec<Value>, StoreError> {
        self.nodes
            .pipeline(pipeline, RetryPolicy::Unsafe, self.writer)
            .await
    }
}

/// The connection on which commands are sent.
#[derive(Clone)]
pub enum Lane {
    /// The shared connections.
    Shared,
    /// An exclusive connection.
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
                self.nodes
                    .pipeline(pipeline, RetryPolicy::Safe, self.writer)
                    .await
            }
            Lane::Own(handle) => handle.pipeline(pipeline).await,
        }
    }

    async fn write_on(&self, lane: &Lane, command: &Cmd) -> Result<Value, StoreError> {
        match lane {
            Lane::Shared => self.write(command).await,
            Lane::Own(handle) => self.learn(handle, handle.command(command).await),
        }
    }

    async fn write_pipeline_on(
        &self,
        lane: &Lane,
        pipeline: &Pipeline,
    ) -> Result<Vec<Value>, StoreError> {
        match lane {
            Lane::Shared => self.write_pipeline(pipeline).await,
            Lane::Own(handle) => self.learn(handle, handle.pipeline(pipeline).await),
        }
    }

    /// Records a redirect of an exclusive connection. The call is not repeated, because what it
    /// belongs to is bound to the connection.
    fn learn<T>(&self, handle: &Handle, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(StoreError::Elsewhere(redirect)) = &result {
            // The next call for the stream takes a connection to the right node.
            let _ = self.nodes.target(redirect, handle.node(), None);
        }
        result
    }

    /// Returns a page of an index, a set, and the next cursor. Cursor 0 is the start and the end.
    async fn index_page(&self, key: &str, cursor: u64) -> Result<(Vec<Vec<u8>>, u64), StoreError> {
        let mut command = Cmd::new();
        command.arg("SSCAN").arg(key).arg(cursor);
        command.arg("COUNT").arg(100);
        let [next, members] = decode::tuple(self.read(&command).await?)?;
        let next = decode::text(next)?.parse();
        let next = next.map_err(|_| StoreError::Unexpected("an invalid cursor".to_owned()))?;
        let members = decode::list(members)?.into_iter().map(decode::bytes);
        Ok((members.collect::<Result<_, _>>()?, next))
    }
}
