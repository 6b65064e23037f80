//! Redis clusters for tests: masters with all slots between them, their replicas, and moves of slots.

use deadpool_redis::redis::{RedisError, Value};

use super::eventually;
use super::redis::{Server, free_port, json};

/// Number of slots of a cluster.
pub const SLOTS: u16 = 16_384;

/// Node timeout in milliseconds, after which nodes take another one for failed. Tests in which a
/// node fails set [`SOON`]; in others a machine under load must not look like a failure.
const NEVER: &str = "60000";

/// Settings with which nodes notice a failed node soon.
pub const SOON: &[&str] = &["--cluster-node-timeout", "2000"];

/// A cluster of real servers.
pub struct Cluster {
    /// The masters at the start, in the order of their slots, then one replica of each.
    pub nodes: Vec<Server>,
    masters: usize,
    /// Replicas at the start.
    replicas: usize,
    settings: Vec<String>,
}

impl Cluster {
    /// Starts so many masters, each with a replica if `replicas`.
    pub async fn start(masters: usize, replicas: bool) -> Self {
        Self::start_with(masters, replicas, &[]).await
    }

    /// Starts a cluster with further settings of every node.
    pub async fn start_with(masters: usize, replicas: bool, settings: &[&str]) -> Self {
        let mut all = vec![
            "--cluster-enabled",
            "yes",
            "--cluster-node-timeout",
            NEVER,
            "--cluster-allow-replica-migration",
            "no",
            "--repl-diskless-sync-delay",
            "0",
        ];
        all.extend(settings);
        let mut cluster = Self {
            nodes: Vec::new(),
            masters,
            replicas: if replicas { masters } else { 0 },
            settings: all.into_iter().map(str::to_owned).collect(),
        };
        let count = if replicas { 2 * masters } else { masters };
        for _ in 0..count {
            cluster.add_node().await;
        }
        for (index, (from, to)) in ranges(masters).enumerate() {
            let (from, to) = (from.to_string(), to.to_string());
            let node = &cluster.nodes[index];
            node.command(&["CLUSTER", "ADDSLOTSRANGE", &from, &to])
                .await;
            // Without distinct epochs, nodes disagree about moved slots until they notice.
            let epoch = (index + 1).to_string();
            node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch]).await;
        }
        for node in &cluster.nodes[1..] {
            cluster.meet(node).await;
        }
        cluster.wait_until_ok().await;
        for (replica, master) in cluster.nodes[masters..].iter().zip(&cluster.nodes) {
            let id = id_of(master).await;
            eventually("the replica knows its master", async || {
                replica
                    .try_command(&["CLUSTER", "REPLICATE", &id])
                    .await
                    .is_ok()
            })
            .await;
            eventually("the replica follows", async || {
                info(replica, "replication")
                    .await
                    .contains("master_link_status:up")
            })
            .await;
        }
        cluster.wait_until_ok().await;
        cluster
    }

    /// Starts a node that knows no other yet.
    pub async fn add_node(&mut self) -> &Server {
        let node = Server::on(free_port()).in_cluster();
        let bus = free_port().to_string();
        let mut settings: Vec<&str> = self.settings.iter().map(String::as_str).collect();
        settings.extend(["--cluster-port", &bus]);
        node.start_again_with(&settings).await;
        self.nodes.push(node);
        self.nodes.last().unwrap()
    }

    /// Introduces a node to the first one.
    pub async fn meet(&self, node: &Server) {
        let first = &self.nodes[0];
        let (port, bus) = (first.port.to_string(), bus_port(first).await);
        node.command(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus])
            .await;
    }

    /// Waits until all nodes know each other and all slots are served.
    pub async fn wait_until_ok(&self) {
        let known = format!("cluster_known_nodes:{}", self.nodes.len());
        for node in &self.nodes {
            eventually("the cluster is complete", async || {
                let info = node.try_command(&["CLUSTER", "INFO"]).await;
                let info = info.map(|info| text(&info)).unwrap_or_default();
                info.contains("cluster_state:ok") && info.contains(&known)
            })
            .await;
        }
    }

    /// Returns the URL for the gateway, with all masters at the start.
    pub fn url(&self) -> String {
        let nodes = self.nodes[..self.masters].iter();
        let nodes: Vec<_> = nodes
            .map(|node| format!("127.0.0.1:{}", node.port))
            .collect();
        format!("redis-cluster://{}", nodes.join(","))
    }

    /// Returns the masters at the start, and the nodes that were added later.
    fn all_masters(&self) -> impl Iterator<Item = &Server> {
        let (first, others) = self.nodes.split_at(self.masters);
        first.iter().chain(&others[self.replicas..])
    }

    /// Moves slots of one owner to another master, many at a time. Slots with keys are moved like
    /// any other; the others only change their owner.
    pub async fn move_slots(&self, slots: &[u16], from: &Server, to: &Server) {
        let (from_id, to_id) = (id_of(from).await, id_of(to).await);
        for some in slots.chunks(256) {
            let each = |words: &[&str]| -> Vec<Vec<String>> {
                let of_slot = |slot: &u16| {
                    let slot = slot.to_string();
                    let words = ["CLUSTER"].iter().chain(words);
                    let words = words.map(|word| if *word == "SLOT" { &slot } else { *word });
                    words.map(str::to_owned).collect()
                };
                some.iter().map(of_slot).collect()
            };
            let importing = each(&["SETSLOT", "SLOT", "IMPORTING", &from_id]);
            to.pipeline(&importing).await.unwrap();
            let migrating = each(&["SETSLOT", "SLOT", "MIGRATING", &to_id]);
            from.pipeline(&migrating).await.unwrap();
            let counts = from.pipeline(&each(&["COUNTKEYSINSLOT", "SLOT"])).await;
            for (slot, count) in some.iter().zip(counts.unwrap()) {
                if json(&count) != 0 {
                    self.move_keys(*slot, from, to).await;
                }
            }
            let node = each(&["SETSLOT", "SLOT", "NODE", &to_id]);
            let others = self.all_masters();
            let others = others.filter(|node| node.port != to.port && node.port != from.port);
            for told in [to, from].into_iter().chain(others) {
                if told.pipeline(&node).await.is_ok() {
                    continue;
                }
                for words in &node {
                    let words: Vec<_> = words.iter().map(String::as_str).collect();
                    retry(told, &words).await;
                }
            }
        }
    }

    /// Returns whether the servers move whole ranges of slots in one step (Valkey 9, Redis 8.4).
    pub async fn migrates_atomically(&self) -> bool {
        let Value::Array(help) = self.nodes[0].command(&["CLUSTER", "HELP"]).await else {
            return false;
        };
        let is_known = |line: &Value| {
            let line = text(line);
            line.starts_with("MIGRATESLOTS") || line.starts_with("MIGRATION")
        };
        help.iter().any(is_known)
    }

    /// Moves a range of slots with their keys to another master in one step.
    pub async fn migrate(&self, (first, last): (u16, u16), from: &Server, to: &Server) {
        let (first, last, id) = (first.to_string(), last.to_string(), id_of(to).await);
        let of_valkey = [
            "CLUSTER",
            "MIGRATESLOTS",
            "SLOTSRANGE",
            &first,
            &last,
            "NODE",
            &id,
        ];
        if from.try_command(&of_valkey).await.is_err() {
            retry(to, &["CLUSTER", "MIGRATION", "IMPORT", &first, &last]).await;
        }
        eventually("the slots have moved", async || {
            let slots = self.slots_of(to).await;
            let first = first.parse().unwrap();
            slots.contains(&first) && !self.slots_of(from).await.contains(&first)
        })
        .await;
    }

    /// Returns the slots of a master, as it sees them.
    pub async fn slots_of(&self, node: &Server) -> Vec<u16> {
        let ranges = json(&node.command(&["CLUSTER", "SLOTS"]).await);
        let own = |range: &&serde_json::Value| range[2][1] == node.port;
        let slots = ranges
            .as_array()
            .unwrap()
            .iter()
            .filter(own)
            .flat_map(|range| {
                let bound = |index: usize| u16::try_from(range[index].as_u64().unwrap()).unwrap();
                bound(0)..=bound(1)
            });
        slots.collect()
    }

    /// Removes a master without slots: all others forget it, and it ends.
    pub async fn remove_node(&self, node: &Server) {
        let id = id_of(node).await;
        for other in self.all_masters().filter(|other| other.port != node.port) {
            retry(other, &["CLUSTER", "FORGET", &id]).await;
        }
        node.kill();
    }

    /// Returns a master at the start other than this node.
    pub fn another(&self, than: &Server) -> &Server {
        let mut masters = self.nodes[..self.masters].iter();
        masters.find(|node| node.port != than.port).unwrap()
    }

    /// Returns the node on this port.
    pub fn on_port(&self, port: u16) -> &Server {
        self.nodes.iter().find(|node| node.port == port).unwrap()
    }

    /// Returns the master of a key, as the first node that answers sees it.
    pub async fn master_of(&self, key: &str) -> &Server {
        let slot = slot_of(&self.nodes[0], key).await;
        self.owner(slot).await
    }

    /// Returns the master of a slot, as the first node that answers sees it.
    pub async fn owner(&self, slot: u16) -> &Server {
        for node in &self.nodes {
            let Ok(slots) = node.try_command(&["CLUSTER", "SLOTS"]).await else {
                continue;
            };
            let slots = json(&slots);
            let range = slots.as_array().unwrap().iter().find(|range| {
                (range[0].as_u64().unwrap()..=range[1].as_u64().unwrap()).contains(&slot.into())
            });
            let port = range.unwrap()[2][1].as_u64().unwrap();
            return self.on_port(u16::try_from(port).unwrap());
        }
        panic!("no node answers");
    }

    /// Moves a slot with its keys to another master by SETSLOT and MIGRATE. Errors are retried, as
    /// nodes may disagree for a moment.
    pub async fn move_slot(&self, slot: u16, to: &Server) {
        let from = self.owner(slot).await;
        if from.port == to.port {
            return;
        }
        self.begin_move(slot, from, to).await;
        self.move_keys(slot, from, to).await;
        self.end_move(slot, from, to).await;
    }

    /// Marks a slot as being moved.
    pub async fn begin_move(&self, slot: u16, from: &Server, to: &Server) {
        let (text, from_id, to_id) = (slot.to_string(), id_of(from).await, id_of(to).await);
        retry(to, &["CLUSTER", "SETSLOT", &text, "IMPORTING", &from_id]).await;
        retry(from, &["CLUSTER", "SETSLOT", &text, "MIGRATING", &to_id]).await;
    }

    /// Moves the keys of a slot that is being moved.
    pub async fn move_keys(&self, slot: u16, from: &Server, to: &Server) {
        let (slot, port) = (slot.to_string(), to.port.to_string());
        loop {
            let keys = from
                .command(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"])
                .await;
            let Value::Array(keys) = keys else {
                panic!("no list")
            };
            if keys.is_empty() {
                return;
            }
            let keys: Vec<_> = keys.iter().map(text).collect();
            let mut migrate = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
            migrate.extend(keys.iter().map(String::as_str));
            let _ = from.try_command(&migrate).await;
        }
    }

    /// Makes the target of a move the owner of the slot. Tells all masters, as the others would
    /// otherwise spread their old view if the slot moves back soon.
    pub async fn end_move(&self, slot: u16, from: &Server, to: &Server) {
        let (slot, id) = (slot.to_string(), id_of(to).await);
        let words = ["CLUSTER", "SETSLOT", &slot, "NODE", &id];
        retry(to, &words).await;
        retry(from, &words).await;
        for other in self.all_masters() {
            if other.port != to.port && other.port != from.port {
                retry(other, &words).await;
            }
        }
    }
}

/// Returns the ranges of slots of so many masters.
fn ranges(masters: usize) -> impl Iterator<Item = (usize, usize)> {
    let all = usize::from(SLOTS);
    (0..masters).map(move |index| (index * all / masters, (index + 1) * all / masters - 1))
}

/// Runs a command until it succeeds.
async fn retry(node: &Server, words: &[&str]) {
    eventually(&words.join(" "), async || {
        node.try_command(words).await.is_ok()
    })
    .await;
}

/// Returns the id of a node.
pub async fn id_of(node: &Server) -> String {
    text(&node.command(&["CLUSTER", "MYID"]).await)
}

/// Returns the slot of a key.
pub async fn slot_of(node: &Server, key: &str) -> u16 {
    let slot = node.command(&["CLUSTER", "KEYSLOT", key]).await;
    u16::try_from(json(&slot).as_u64().unwrap()).unwrap()
}

/// Returns a section of INFO.
pub async fn info(node: &Server, section: &str) -> String {
    text(&node.command(&["INFO", section]).await)
}

async fn bus_port(node: &Server) -> String {
    let reply: Result<Value, RedisError> =
        node.try_command(&["CONFIG", "GET", "cluster-port"]).await;
    json(&reply.unwrap())[1].as_str().unwrap().to_owned()
}

fn text(reply: &Value) -> String {
    match reply {
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => text.clone(),
        other => panic!("no text: {other:?}"),
    }
}
