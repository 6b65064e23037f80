//! Environment of the model: one Redis server, two gateways, and proxies between them and clients.

use std::net::SocketAddr;
use std::time::Duration;

use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::{Client, Cmd, Value, from_redis_value};

use super::ledger::Id;
use crate::support::TestApp;
use crate::support::gateway::Gateway;
use crate::support::proxy::Proxy;
use crate::support::redis::{Server, free_port};

/// State of a proxied connection.
#[derive(Clone, Copy, Debug)]
pub enum Way {
    Open,
    Cut,
    Stalled,
}

/// A gateway. `Here` runs in this process, shuts down gracefully and checks its streams often.
/// `Process` is the real binary, which is killed.
enum Running {
    Here(TestApp),
    Process(Gateway),
    Nothing,
}

pub struct World {
    pub redis: Server,
    /// Proxies between gateways and Redis.
    lines: [Proxy; 2],
    /// Proxies between clients and gateways.
    doors: [Proxy; 2],
    ports: [u16; 2],
    gateways: [Running; 2],
    direct: Option<MultiplexedConnection>,
    http: reqwest::Client,
}

impl World {
    pub async fn start() -> Self {
        let redis = Server::start().await;
        keep_all(&redis).await;
        let ports = [free_port(), free_port()];
        let lines = [Proxy::to(redis.port).await, Proxy::to(redis.port).await];
        let doors = [Proxy::to(ports[0]).await, Proxy::to(ports[1]).await];
        let http = reqwest::Client::builder()
            .no_proxy()
            .pool_max_idle_per_host(0)
            .timeout(Duration::from_secs(15))
            .build()
            .unwrap();
        let gateways = [Running::Nothing, Running::Nothing];
        let mut world = Self {
            redis,
            lines,
            doors,
            ports,
            gateways,
            direct: None,
            http,
        };
        world.start_gateway(0).await;
        world.start_gateway(1).await;
        world
    }

    /// Returns the addresses of both gateways: direct, and through a proxy.
    pub fn routes(&self) -> Vec<SocketAddr> {
        let straight = self
            .ports
            .map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        vec![
            straight[0],
            straight[1],
            self.doors[0].address,
            self.doors[1].address,
        ]
    }

    async fn start_gateway(&mut self, which: usize) {
        let (port, url) = (self.ports[which], self.lines[which].url());
        self.gateways[which] = if which == 0 {
            let change = |settings: &mut streamgate::config::Settings| {
                settings.server.listen = ([127, 0, 0, 1], port).into();
                // With small limits, subscribers fall behind and catch up often.
                settings.live.stream_memory = 24 << 10;
                settings.live.page_bytes = 8 << 10;
            };
            Running::Here(TestApp::on(&url, change).await)
        } else {
            let listen = format!("127.0.0.1:{port}");
            Running::Process(Gateway::start(&[
                "serve",
                "--listen",
                &listen,
                "--redis-url",
                &url,
            ]))
        };
    }

    pub async fn restart_gateway(&mut self, which: usize) {
        match std::mem::replace(&mut self.gateways[which], Running::Nothing) {
            Running::Here(app) => app.stop().await,
            Running::Process(gateway) => drop(gateway),
            Running::Nothing => {}
        }
        self.start_gateway(which).await;
    }

    /// Kills Redis and starts it again, either with its data or empty.
    pub async fn restart_redis(&mut self, empty: bool, away: Duration) {
        self.direct = None;
        self.redis.kill();
        tokio::time::sleep(away).await;
        if empty {
            self.redis.start_empty().await;
        } else {
            self.redis.start_again().await;
        }
        keep_all(&self.redis).await;
    }

    pub fn line(&self, which: usize, way: Way) {
        set(&self.lines[which], way);
    }

    pub fn door(&self, which: usize, way: Way) {
        set(&self.doors[which], way);
    }

    pub fn open_all(&self) {
        for proxy in self.lines.iter().chain(&self.doors) {
            proxy.restore();
        }
    }

    /// Sends a command directly to Redis.
    pub async fn redis<T: deadpool_redis::redis::FromRedisValue>(&mut self, words: &[&str]) -> T {
        let mut command = Cmd::new();
        command.arg(words);
        if self.direct.is_none() {
            let client = Client::open(self.redis.url()).unwrap();
            self.direct = Some(client.get_multiplexed_async_connection().await.unwrap());
        }
        let reply = command
            .query_async::<Value>(self.direct.as_mut().unwrap())
            .await
            .unwrap();
        from_redis_value(reply).unwrap()
    }

    /// Returns ids and values of the entries above an id.
    pub async fn above(&mut self, stream: &str, id: Id) -> Vec<(Id, u64)> {
        let from = format!("({id}");
        let found: Vec<(String, Vec<String>)> = self.redis(&["XRANGE", stream, &from, "+"]).await;
        let one =
            |(id, fields): (String, Vec<String>)| (id.parse().unwrap(), fields[1].parse().unwrap());
        found.into_iter().map(one).collect()
    }

    /// Returns the id of the oldest entry and the number of entries.
    pub async fn kept(&mut self, stream: &str) -> (Option<Id>, usize) {
        let oldest: Vec<(String, Vec<String>)> = self
            .redis(&["XRANGE", stream, "-", "+", "COUNT", "1"])
            .await;
        let oldest = oldest.first().map(|(id, _)| id.parse().unwrap());
        (oldest, self.redis(&["XLEN", stream]).await)
    }

    /// Sends a request to a gateway. The caller finds its effect in Redis.
    pub async fn ask(&self, which: usize, method: &str, path: &str, body: String) -> Option<u16> {
        let url = format!("http://127.0.0.1:{}{path}", self.ports[which]);
        let request = self.http.request(method.parse().unwrap(), url).body(body);
        let answer = request
            .header("content-type", "application/json")
            .send()
            .await;
        answer.ok().map(|answer| answer.status().as_u16())
    }
}

/// Makes every answered command survive a kill of the Redis process. By default Redis delays writes
/// while the disk is busy, and what it then loses would look like the gateway's loss.
async fn keep_all(redis: &Server) {
    redis.command(&["CONFIG", "SET", "appendfsync", "no"]).await;
}

fn set(proxy: &Proxy, way: Way) {
    match way {
        Way::Open => proxy.restore(),
        Way::Cut => proxy.cut(),
        Way::Stalled => proxy.stall(),
    }
}
