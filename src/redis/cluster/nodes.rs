//! The servers of this gateway, and the path of a command to the right one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use deadpool_redis::redis::ConnectionAddr;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, watch};

use crate::metrics::CommandTimes;
use crate::redis::cluster::redirect::NodeAddress;
use crate::redis::cluster::slot::slot_of;
use crate::redis::cluster::table::{Node, SlotTable};
use crate::redis::conn::endpoint::PoolKind;
use crate::redis::conn::exclusive::Blocking;
use crate::redis::conn::health::RedisHealth;
use crate::redis::conn::pool::{Connections, ServerWatches};
use crate::redis::conn::sentinel::beside;
use crate::redis::conn::settings::PoolSettings;
use crate::redis::error::StoreError;

/// Figures of a cluster.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClusterFigures {
    /// Number of masters; 1 for a single server.
    pub nodes: usize,
    /// Number of slots without a reachable master.
    pub slots_down: usize,
    /// Number of redirects since the last call.
    pub redirects: u64,
    /// Number of changes of the slot table since the last call.
    pub changes: u64,
}

/// All servers of this gateway.
pub(in crate::redis) struct Nodes {
    pub(in crate::redis) settings: PoolSettings,
    /// Written by `replace`, which also changes `version`.
    table: RwLock<Arc<SlotTable>>,
    version: watch::Sender<u64>,
    /// Every node in use by address, also targets of a move that serve no slot yet.
    known: Mutex<HashMap<NodeAddress, Node>>,
    /// Health of the only server, or of the cluster as a whole.
    pub(super) health: watch::Sender<RedisHealth>,
    /// Number of shared connections opened to any node so far.
    pub(super) connected: watch::Sender<u64>,
    /// Times of commands, of all nodes together.
    pub(in crate::redis) times: CommandTimes,
    /// Requests a look at the cluster's topology.
    pub(super) refresh: Notify,
    pub(super) redirects: AtomicU64,
    /// Number of times the table changed.
    pub(super) changes: AtomicU64,
}

impl Nodes {
    /// Creates the pools without connecting yet.
    ///
    /// # Errors
    /// [`StoreError::Unexpected`] when no pool can be built from the settings.
    pub fn new(settings: &PoolSettings) -> Result<Self, StoreError> {
        let (health, connected) = (
            watch::Sender::new(RedisHealth::Never(None)),
            watch::Sender::new(0),
        );
        let times = CommandTimes::default();
        let table = match settings.seeds.is_empty() {
            true => {
                let signals = ServerWatches {
                    health: health.clone(),
                    connected: connected.clone(),
                    times: times.clone(),
                };
                SlotTable::single(Arc::new(Connections::new(settings, signals)?))
            }
            false => SlotTable::cluster(),
        };
        Ok(Self {
            settings: settings.clone(),
            table: RwLock::new(Arc::new(table)),
            version: watch::Sender::new(0),
            known: Mutex::default(),
            health,
            connected,
            times,
            refresh: Notify::new(),
            redirects: AtomicU64::new(0),
            changes: AtomicU64::new(0),
        })
    }

    /// Returns a watch on the health of the only server, or of the cluster as a whole.
    pub fn health(&self) -> watch::Receiver<RedisHealth> {
        self.health.subscribe()
    }

    /// Returns a watch on the number of shared connections opened so far.
    pub fn connected(&self) -> watch::Receiver<u64> {
        self.connected.subscribe()
    }

    /// Returns the current table.
    pub fn table(&self) -> Arc<SlotTable> {
        self.table.read().clone()
    }

    /// Returns a watch that changes with the table.
    pub fn version(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Returns figures of the cluster, with the events since the last call.
    pub fn figures(&self) -> ClusterFigures {
        let table = self.table();
        ClusterFigures {
            nodes: table.nodes().len(),
            slots_down: table.slots_down(),
            redirects: self.redirects.swap(0, Ordering::Relaxed),
            changes: self.changes.swap(0, Ordering::Relaxed),
        }
    }

    /// Replaces the table by a changed copy.
    pub(super) fn replace(&self, change: impl FnOnce(&SlotTable) -> SlotTable) {
        let mut table = self.table.write();
        *table = Arc::new(change(&table));
        drop(table);
        self.version.send_modify(|version| *version += 1);
    }

    /// Returns the node of a key, or any node for a command without a key.
    ///
    /// # Errors
    /// [`StoreError::NotServing`] when no node serves the slot of the key, and
    /// [`StoreError::Unreachable`] when no node is known yet.
    pub fn node(&self, key: Option<&[u8]>) -> Result<Node, StoreError> {
        self.node_in(&self.table(), key)
    }

    /// Like [`Nodes::node`], by a table that the caller has.
    pub(super) fn node_in(
        &self,
        table: &SlotTable,
        key: Option<&[u8]>,
    ) -> Result<Node, StoreError> {
        let node = match key {
            Some(key) => table.owner_of(key),
            None => table.any(),
        };
        let missing = || self.not_serving(key.map_or(0, slot_of));
        node.cloned().ok_or_else(missing)
    }

    /// Returns the error for a slot without a node.
    pub fn not_serving(&self, slot: usize) -> StoreError {
        if !self.table().nodes().is_empty() {
            return StoreError::NotServing(format!("no node serves slot {slot}"));
        }
        StoreError::Unreachable(match &*self.health.borrow() {
            RedisHealth::Never(Some(cause)) | RedisHealth::Down(cause) => cause.clone(),
            _ => "the cluster has not been queried yet".to_owned(),
        })
    }

    /// Returns the places of keys, in groups that share a slot. A single server is one group.
    pub fn by_slot<'k>(&self, keys: impl Iterator<Item = &'k str>) -> Vec<Vec<usize>> {
        let one = !self.table().is_cluster();
        let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (place, key) in keys.enumerate() {
            let slot = if one { 0 } else { slot_of(key.as_bytes()) };
            groups.entry(slot).or_default().push(place);
        }
        groups.into_values().collect()
    }

    /// Returns the node at an address that the cluster announced. `near` is the node that named the
    /// address.
    ///
    /// # Errors
    /// [`StoreError::Unexpected`] when no pool can be built.
    pub(super) fn node_at(
        &self,
        address: &NodeAddress,
        near: Option<&ConnectionAddr>,
    ) -> Result<Node, StoreError> {
        let address = self.reachable(address, near);
        let mut known = self.known.lock();
        if let Some(node) = known.get(&address) {
            return Ok(node.clone());
        }
        let mut settings = self.settings.clone();
        let at = beside(&settings.connection, address.host.clone(), address.port);
        settings.connection = settings.connection.set_addr(at);
        let signals = ServerWatches {
            health: watch::Sender::new(RedisHealth::Never(None)),
            connected: self.connected.clone(),
            times: self.times.clone(),
        };
        let node = Arc::new(Connections::new(&settings, signals)?);
        known.insert(address, node.clone());
        drop(known);
        // The supervisor learns of the node by the version.
        self.version.send_modify(|version| *version += 1);
        Ok(node)
    }

    /// Returns the address at which the gateway reaches a node.
    fn reachable(&self, announced: &NodeAddress, near: Option<&ConnectionAddr>) -> NodeAddress {
        let mut address = announced.clone();
        if address.host.is_empty()
            && let Some(ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. }) = near
        {
            address.host.clone_from(host);
        }
        self.settings.address_map.apply(address)
    }

    /// Returns all nodes with connections.
    pub(super) fn all(&self) -> Vec<Node> {
        let mut all = self.table().nodes().to_vec();
        for node in self.known.lock().values() {
            if !all.iter().any(|other| Arc::ptr_eq(other, node)) {
                all.push(node.clone());
            }
        }
        all
    }

    /// Forgets the nodes that serve no slot.
    pub(super) fn forget_idle(&self) {
        let table = self.table();
        let serves = |node: &Node| {
            table
                .nodes()
                .iter()
                .any(|serving| Arc::ptr_eq(serving, node))
        };
        self.known.lock().retain(|_, node| {
            if !serves(node) {
                node.retire();
            }
            serves(node)
        });
    }

    /// Returns an exclusive connection to the node of a key. Call [`Blocking::discard`] on it unless
    /// all its commands were answered.
    ///
    /// # Errors
    /// [`StoreError::Exhausted`] when all connections of this kind are in use,
    /// [`StoreError::Unreachable`] otherwise.
    pub async fn exclusive(
        &self,
        kind: PoolKind,
        key: Option<&[u8]>,
    ) -> Result<Blocking, StoreError> {
        let node = self.node(key)?;
        node.exclusive(kind)
            .await
            .inspect_err(|error| self.suspect(error))
    }

    /// Returns the number of open connections, by kind.
    pub fn open(&self) -> [(&'static str, usize); 3] {
        let mut open = PoolKind::ALL.map(|kind| (kind.name(), 0));
        for node in self.all() {
            for (sum, (_, of_node)) in open.iter_mut().zip(node.open()) {
                sum.1 += of_node;
            }
        }
        open
    }

    /// Returns why a server rejects writes, if one does.
    pub fn refuses_writes(&self) -> Option<String> {
        let table = self.table();
        table.nodes().iter().find_map(|node| node.writes.refused())
    }
}
