//! Redis, the gateways, and what disturbs them.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fastrand::Rng;
use parking_lot::Mutex;
use serde_json::Value;
use streamgate::model::name::{GroupName, StreamName};
use streamgate::model::receipt::Receipt;
use tokio_util::sync::CancellationToken;

use super::ledger::Ledger;
use super::worker::LEASE_MS;
use crate::support::app::client;
use crate::support::elapse;
use crate::support::gateway::Gateway;
use crate::support::redis::{Server, json};

const STREAM: &str = "model";
const GATEWAYS: usize = 3;

/// The size of a run.
#[derive(Clone, Copy)]
pub struct Scale {
    pub keys: usize,
    pub entries: usize,
    pub workers: usize,
    pub disturbances: usize,
    /// Whether a key waits for its dead letters.
    pub blocks: bool,
    pub patience: Duration,
}

/// Everything that the workers share.
pub struct World {
    server: Server,
    gateways: Vec<Mutex<Gateway>>,
    client: reqwest::Client,
    calm: AtomicBool,
    pub scale: Scale,
    pub ledger: Mutex<Ledger>,
    pub stop: CancellationToken,
}

fn start_gateway(server: &Server) -> Gateway {
    Gateway::start(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--redis-url",
        &server.url(),
    ])
}

/// Returns the end of the lease of a receipt, in microseconds.
pub fn end_of(receipt: &str) -> u64 {
    let (stream, group) = (
        StreamName::new(STREAM).unwrap(),
        GroupName::new("g").unwrap(),
    );
    Receipt::decode(receipt, &stream, &group).unwrap().until_us
}

impl World {
    pub async fn start(seed: u64, scale: Scale) -> Arc<Self> {
        let mut rng = Rng::with_seed(seed);
        let server = Server::start().await;
        let gateways: Vec<_> = (0..GATEWAYS)
            .map(|_| Mutex::new(start_gateway(&server)))
            .collect();
        let mut entries = Vec::with_capacity(scale.entries);
        for number in 1..=scale.entries {
            // A few hot keys.
            let key = match rng.u32(..5) {
                0 => rng.usize(..3.min(scale.keys)),
                _ => rng.usize(..scale.keys),
            };
            entries.push((format!("k{key}"), format!("{number}-0")));
        }
        let mut pipeline = deadpool_redis::redis::pipe();
        for (key, id) in &entries {
            pipeline.cmd("XADD").arg(STREAM).arg(id).arg("k").arg(key);
        }
        let opened = deadpool_redis::redis::Client::open(server.url()).unwrap();
        let mut connection = opened.get_multiplexed_async_connection().await.unwrap();
        let _: Vec<String> = pipeline.query_async(&mut connection).await.unwrap();
        let world = Arc::new(Self {
            server,
            gateways,
            client: client(),
            calm: AtomicBool::new(false),
            scale,
            ledger: Mutex::new(Ledger::new(&entries, scale.blocks)),
            stop: CancellationToken::new(),
        });
        let address = world.gateways[0].lock().address;
        let on_failure = if scale.blocks { "block" } else { "skip" };
        let policy = format!(
            r#"{{"policy":{{"lease":"{LEASE_MS}ms","order_by":"k","on_failure":"{on_failure}"}}}}"#
        );
        let made = world
            .client
            .put(format!("http://{address}/v1/streams/{STREAM}/groups/g"))
            .header("content-type", "application/json")
            .body(policy)
            .send()
            .await
            .unwrap();
        assert_eq!(made.status(), 201);
        world
    }

    /// Calls any gateway. Returns nothing if the gateway, or Redis, failed.
    pub async fn call(&self, rng: &mut Rng, verb: &str, body: &Value) -> Option<Value> {
        let sent = self
            .client
            .post(self.url(rng, verb))
            .header("content-type", "application/json")
            .timeout(Duration::from_secs(10))
            .body(body.to_string());
        let answer = sent.send().await.ok()?;
        let is_done = answer.status() == 200;
        let text = answer.text().await.ok()?;
        is_done.then(|| serde_json::from_str(&text).unwrap())
    }

    fn url(&self, rng: &mut Rng, path: &str) -> String {
        let address = self.gateways[rng.usize(..GATEWAYS)].lock().address;
        format!("http://{address}/v1/streams/{STREAM}/groups/g/{path}")
    }

    /// Deletes something. Returns false if it is not known to be deleted.
    pub async fn delete(&self, rng: &mut Rng, path: &str) -> bool {
        let sent = self.client.delete(self.url(rng, path));
        let answer = sent.timeout(Duration::from_secs(10)).send().await;
        answer.is_ok_and(|answer| answer.status() == 204)
    }

    /// Returns some dead letters: the key, the id of the entry, and that of the letter.
    pub async fn letters(&self, rng: &mut Rng) -> Vec<(String, String, String)> {
        let listed = self.client.get(self.url(rng, "dead-letters?limit=20"));
        let listed = listed.timeout(Duration::from_secs(10)).send();
        let Some(answer) = listed.await.ok().filter(|answer| answer.status() == 200) else {
            return Vec::new();
        };
        let Ok(text) = answer.text().await else {
            return Vec::new();
        };
        let page: Value = serde_json::from_str(&text).unwrap();
        let letters = page["dead_letters"].as_array().unwrap().iter();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let parts = |letter: &Value| {
            let key = text(&letter["fields"]["k"]);
            (key, text(&letter["entry"]), text(&letter["id"]))
        };
        letters.map(parts).collect()
    }

    /// Returns the ids of all entries that are dead letters.
    pub async fn dead(&self) -> HashSet<String> {
        let dead = format!("{{{STREAM}}}.dead");
        let letters = self.server.command(&["XRANGE", &dead, "-", "+"]).await;
        let letters = json(&letters);
        let fields = |letter: &Value| letter[1].as_array().unwrap().clone();
        let original = |fields: Vec<Value>| {
            let at = fields.iter().position(|name| name == "streamgate-id");
            fields[at.unwrap() + 1].as_str().unwrap().to_owned()
        };
        letters
            .as_array()
            .unwrap()
            .iter()
            .map(fields)
            .map(original)
            .collect()
    }

    pub fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    /// Kills gateways and restarts Redis.
    pub async fn disturb(&self, seed: u64) {
        let mut rng = Rng::with_seed(seed ^ 1);
        for _ in 0..self.scale.disturbances {
            elapse(rng.u64(300..900), "the workers go on").await;
            match rng.u32(..6) {
                0..3 => {
                    let gateway = &self.gateways[rng.usize(..GATEWAYS)];
                    gateway.lock().signal("KILL");
                    let started = start_gateway(&self.server);
                    *gateway.lock() = started;
                }
                3 => drop(self.server.command(&["SCRIPT", "FLUSH"]).await),
                4 => {
                    self.server.kill();
                    self.server.start_again().await;
                }
                // Keys do not wait for their dead letters any more when the order is built again.
                _ if self.scale.blocks => {}
                _ => {
                    let length = STREAM.len();
                    let order = format!("streamgate:{{{STREAM}}}:order:{length}:{STREAM}:g");
                    let turns = order.replace(":order:", ":turns:");
                    self.server.command(&["DEL", &order, &turns]).await;
                }
            }
        }
        self.calm.store(true, Ordering::Relaxed);
    }

    /// Returns the ids that are pending or were not read.
    pub async fn pending(&self) -> HashSet<String> {
        let last = self.server.command(&["XINFO", "GROUPS", STREAM]).await;
        let last = json(&last)[0].to_string();
        let last = last
            .split("last-delivered-id\",\"")
            .nth(1)
            .unwrap_or("0-0")
            .to_owned();
        let last = last.split('"').next().unwrap_or("0-0").to_owned();
        let unread = self
            .server
            .command(&["XRANGE", STREAM, &format!("({last}"), "+"])
            .await;
        let held = self
            .server
            .command(&["XPENDING", STREAM, "g", "-", "+", "1000000"])
            .await;
        let both = [json(&unread), json(&held)];
        let ids = both.iter().filter_map(Value::as_array).flatten();
        ids.map(|one| one[0].as_str().unwrap().to_owned()).collect()
    }

    /// Returns the state of the group, for a failure.
    pub async fn shown(&self) -> String {
        let address = self.gateways[0].lock().address;
        let get = self
            .client
            .get(format!("http://{address}/v1/streams/{STREAM}/groups/g"));
        match get.send().await {
            Ok(answer) => answer.text().await.unwrap_or_default(),
            Err(error) => error.to_string(),
        }
    }
}
