//! Cluster discovery: keeps the slot table and the nodes up to date.
//!
//! The gateway asks a few nodes for CLUSTER NODES about every second, and at once after a redirect
//! or an error that a failover would explain. It merges the answers (`topology.rs`).
//!
//! A server of a `redis://` URL is asked once per connection whether it belongs to a cluster.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use deadpool_redis::redis::{Cmd, ConnectionAddr};
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::redis::cluster::nodes::Nodes;
use crate::redis::cluster::redirect::NodeAddress;
use crate::redis::cluster::slot::SLOTS;
use crate::redis::cluster::table::{Node, SlotTable};
use crate::redis::cluster::topology::{MasterView, masters, merge};
use crate::redis::conn::health::RedisHealth;
use crate::redis::conn::send_options::{RetryPolicy, SendOptions};
use crate::redis::decode::text;
use crate::redis::error::StoreError;

/// Interval of looks at the topology, before jitter of a fifth.
const LOOK_EVERY: Duration = Duration::from_millis(800);
/// Shortest interval between looks, however many redirects there are.
const LOOK_PAUSE: Duration = Duration::from_millis(50);
/// Number of nodes asked in one look.
const ASKED: usize = 3;
/// Timeout for the answer of a node.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// A node under supervision.
struct Supervised {
    node: Node,
    /// Whether the node was last logged as unreachable.
    down: bool,
}

impl Supervised {
    /// Logs when the node becomes unreachable or reachable again.
    fn log(&mut self) {
        let address = self.node.address().map(|address| address.to_string());
        let health = self.node.health();
        let cause = health.borrow().cause().map(str::to_owned);
        match cause {
            Some(cause) if !self.down => {
                tracing::warn!(
                    node = address,
                    "cannot reach a Redis node: {cause}; retrying"
                );
                self.down = true;
            }
            None if self.down && self.node.is_up() => {
                tracing::info!(node = address, "reached the Redis node again");
                self.down = false;
            }
            _ => {}
        }
    }
}

impl Nodes {
    /// Keeps the connections of all nodes alive, and the slot table up to date, until `stop` is
    /// cancelled.
    pub async fn supervise(&self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.supervise_nodes() => {}
            () = self.discover() => {}
        }
    }

    /// Supervises each node, from when it becomes known until it is retired.
    async fn supervise_nodes(&self) {
        let mut version = self.version();
        let mut supervised: Vec<Supervised> = Vec::new();
        let mut running = FuturesUnordered::<Pin<Box<dyn Future<Output = ()> + Send>>>::new();
        loop {
            version.borrow_and_update();
            supervised.retain(|of| !of.node.is_retired());
            for node in self.all() {
                if !supervised.iter().any(|of| Arc::ptr_eq(&of.node, &node)) {
                    supervised.push(Supervised {
                        node: node.clone(),
                        down: false,
                    });
                    running.push(Box::pin(async move { node.supervise().await }));
                }
            }
            // Each node reports its own health; together they are the health of the cluster.
            let changed = supervised.iter().map(|of| {
                let mut health = of.node.health();
                async move { health.changed().await }.boxed()
            });
            let changed: Vec<_> = match self.table().is_cluster() {
                true => changed.collect(),
                false => Vec::new(),
            };
            let health = async {
                match changed.is_empty() {
                    true => std::future::pending().await,
                    false => drop(futures_util::future::select_all(changed).await),
                }
            };
            tokio::select! {
                _ = version.changed() => {}
                Some(()) = running.next() => {}
                () = health => {}
            }
            self.record_health(None);
            if self.table().is_cluster() {
                supervised.iter_mut().for_each(Supervised::log);
            }
        }
    }

    /// Updates the health of the cluster: it is up while at least one master is.
    fn record_health(&self, cause: Option<String>) {
        let table = self.table();
        if !table.is_cluster() {
            return;
        }
        let health: Vec<_> = table
            .nodes()
            .iter()
            .map(|node| node.health().borrow().clone())
            .collect();
        let down = health
            .iter()
            .find_map(|health| health.cause().map(str::to_owned));
        if health.contains(&RedisHealth::Up) {
            self.health.send_if_modified(|health| health.record(None));
        } else if let Some(cause) = down.or(cause) {
            self.health
                .send_if_modified(|health| health.record(Some(cause)));
        }
    }

    /// Looks at the topology again and again.
    async fn discover(&self) {
        let mut connected = self.connected.subscribe();
        loop {
            if !self.table().is_cluster() {
                // A new connection may lead to a node of a cluster.
                tokio::select! {
                    () = self.refresh.notified() => {}
                    _ = connected.changed() => {}
                }
                if self.settings.sentinels.is_some() || !self.is_cluster_node().await {
                    tokio::time::sleep(LOOK_PAUSE).await;
                    continue;
                }
            }
            self.look().await;
            tokio::time::sleep(LOOK_PAUSE).await;
            let interval = LOOK_EVERY.mul_f64(0.8 + fastrand::f64() * 0.4);
            let _ = timeout(interval, self.refresh.notified()).await;
        }
    }

    /// Returns whether the only server is a node of a cluster with several masters.
    async fn is_cluster_node(&self) -> bool {
        let table = self.table();
        let Some(node) = table.any() else {
            return false;
        };
        let mut command = Cmd::new();
        command.arg("INFO").arg("cluster");
        let info = node
            .command(&command, SendOptions::maintenance(RetryPolicy::Safe))
            .await;
        let enabled = info
            .and_then(text)
            .is_ok_and(|info| info.contains("cluster_enabled:1"));
        let with_slots = |masters: Vec<MasterView>| {
            let with_slots = masters.iter().filter(|master| !master.slots.is_empty());
            with_slots.count() > 1
        };
        enabled && ask(node).await.is_ok_and(with_slots)
    }

    /// Asks some nodes for the topology, and updates the table.
    async fn look(&self) {
        let mut asked = self.table().nodes().to_vec();
        fastrand::shuffle(&mut asked);
        // Those that answered last are asked first.
        asked.sort_by_key(|node| !node.is_up());
        asked.truncate(ASKED);
        let (mut views, mut cause) = self.views(asked).await;
        if views.is_empty() {
            let seeds: Vec<_> = self
                .settings
                .seeds
                .iter()
                .filter_map(|seed| self.node_at(seed, None).ok())
                .collect();
            (views, cause) = self.views(seeds).await;
        }
        if views.is_empty() {
            let cause = cause.unwrap_or_else(|| "no node of the cluster answers".to_owned());
            return self.record_health(Some(cause));
        }
        self.apply(&merge(&views));
    }

    /// Returns the views of these nodes, with addresses at which the gateway reaches them, and the
    /// cause of a failure.
    async fn views(&self, nodes: Vec<Node>) -> (Vec<MasterView>, Option<String>) {
        let answers = join_all(nodes.iter().map(ask)).await;
        let (mut views, mut cause) = (Vec::new(), None);
        for (node, answer) in nodes.iter().zip(answers) {
            match answer {
                Ok(masters) => views.extend(masters.into_iter().map(|mut view| {
                    if let (true, Some(host)) = (view.address.host.is_empty(), host_of(node)) {
                        view.address.host = host;
                    }
                    view
                })),
                Err(error) => cause = Some(error.cause()),
            }
        }
        (views, cause)
    }

    /// Updates the table to these owners.
    fn apply(&self, owners: &HashMap<NodeAddress, Vec<usize>>) {
        let before = self.table();
        let mut next = SlotTable::cluster();
        for (address, slots) in owners {
            match self.node_at(address, None) {
                Ok(node) => next = next.with_owner(slots.iter().copied(), &node),
                Err(error) => tracing::error!(%error, %address, "cannot use a cluster node"),
            }
        }
        let differences = match before.is_cluster() {
            true => before.differences(&next),
            false => SLOTS,
        };
        if differences > 0 {
            let masters = next.nodes().len();
            if before.is_cluster() && !before.nodes().is_empty() {
                tracing::debug!(slots = differences, masters, "slots of the cluster moved");
            } else {
                tracing::info!(masters, "found a Redis cluster");
            }
            self.changes.fetch_add(1, Ordering::Relaxed);
            self.replace(|_| next);
        }
        if !before.is_cluster() {
            // Its node has connections of its own by now.
            before.nodes().iter().for_each(|node| node.retire());
        }
        self.forget_idle();
        self.record_health(None);
    }
}

fn host_of(node: &Node) -> Option<String> {
    match node.address()? {
        ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => Some(host),
        _ => None,
    }
}

/// Asks a node for its view of the cluster.
async fn ask(node: &Node) -> Result<Vec<MasterView>, StoreError> {
    let mut command = Cmd::new();
    command.arg("CLUSTER").arg("NODES");
    let asked = node.command(&command, SendOptions::maintenance(RetryPolicy::Safe));
    let reply = timeout(ANSWER_WITHIN, asked)
        .await
        .unwrap_or(Err(StoreError::Timeout))?;
    let masters = masters(&text(reply)?);
    match masters.iter().all(|master| master.slots.is_empty()) {
        true => Err(StoreError::NotServing(
            "the cluster has no slots".to_owned(),
        )),
        false => Ok(masters),
    }
}
