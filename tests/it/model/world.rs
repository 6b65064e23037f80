//! What the model runs in: a Redis, two gateways, and proxies on every way between.

use std::net::SocketAddr;
use std::time::Duration;

use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::{Client, Cmd, Value, from_redis_value};

use super::ledger::Id;
use crate::support::TestApp;
use crate::support::gateway::Gateway;
use crate::support::proxy::Proxy;
use crate::support::redis::{Server, free_port};

/// What passes through a proxy.
#[derive(Clone, Copy, Debug)]
pub enum Way {
    Open,
    Cut,
    Stalled,
}

/// A gateway in this process, which stops in the orderly way and looks at its streams often, or
/// the real binary, which is killed.
enum Running {
    Here(TestApp),
    Process(Gateway),
    Nothing,
}

pub struct World {
    pub redis: Server,
    /// Between a gateway and Redis.
    lines: [Proxy; 2],
    /// Between clients and a gateway.
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

    /// Ways to both gateways, straight and through a door.
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
                // So that falling behind, and reading on, is nothing rare.
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

    /// Redis dies and comes back with what it had, or with nothing.
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

    /// A command straight to Redis.
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

    /// Ids and values of what lies above an id.
    pub async fn above(&mut self, stream: &str, id: Id) -> Vec<(Id, u64)> {
        let from = format!("({id}");
        let found: Vec<(String, Vec<String>)> = self.redis(&["XRANGE", stream, &from, "+"]).await;
        let one =
            |(id, fields): (String, Vec<String>)| (id.parse().unwrap(), fields[1].parse().unwrap());
        found.into_iter().map(one).collect()
    }

    /// The oldest entry there is, and how many there are.
    pub async fn kept(&mut self, stream: &str) -> (Option<Id>, usize) {
        let oldest: Vec<(String, Vec<String>)> = self
            .redis(&["XRANGE", stream, "-", "+", "COUNT", "1"])
            .await;
        let oldest = oldest.first().map(|(id, _)| id.parse().unwrap());
        (oldest, self.redis(&["XLEN", stream]).await)
    }

    /// A request to a gateway; whatever comes of it is seen in Redis.
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

/// What Redis has answered must outlive its process: by default it puts off writing while the disk
/// is busy, and what it loses then would look like our loss.
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
