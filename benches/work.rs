//! Benchmarks of consumer groups, compared with a client that does the same on the same Redis
//! without a gateway. `make bench-work` installs the dependencies.
//!
//! Everything runs on one machine, including the load generator, so only the ratios mean anything.
//! Rounds alternate, and each figure is the median of its rounds.
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on fails")]
#![expect(clippy::cast_precision_loss, reason = "figures are rounded anyway")]

mod histogram;
#[path = "work/ordered.rs"]
mod ordered;
mod process;
#[path = "work/waiting.rs"]
mod waiting;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use deadpool_redis::redis::{Client, Cmd, Connection, Pipeline, Value};

use process::Process;

const ENTRIES: usize = 200_000;
const BATCHES: usize = 8;
const SINGLES: usize = 64;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let at = args.iter().position(|arg| arg == "--rounds");
    let rounds = at
        .and_then(|at| args.get(at + 1))
        .map_or(3, |text| text.parse().unwrap());
    let cores = thread::available_parallelism().map_or(0, std::num::NonZero::get);
    println!("on {cores} cores; {ENTRIES} entries, read and acknowledged, {rounds} rounds");
    println!(
        "{:<36}{:>12}{:>14}{:>16}",
        "", "entries/s", "CPU µs/entry", "Redis µs/entry"
    );
    let only = |name: &str| args.iter().any(|arg| arg == name);
    if only("ordered") || only("waiting") {
        if only("ordered") {
            ordered::compare(rounds, ENTRIES, BATCHES);
        }
        if only("waiting") {
            waiting::compare(rounds);
        }
        return;
    }
    let mut all = [const { Vec::new() }; 5];
    for _ in 0..rounds {
        let bench = Bench::start();
        all[0].push(bench.run("null", ENTRIES, BATCHES, |bench| bench.client(100)));
        all[1].push(bench.run("null", ENTRIES, BATCHES, |bench| bench.worker(100, "ids")));
        all[2].push(bench.run("{}", ENTRIES, BATCHES, |bench| {
            bench.worker(100, "receipts")
        }));
        all[3].push(bench.run("null", ENTRIES / 4, SINGLES, |bench| bench.worker(1, "ids")));
        all[4].push(bench.run("{}", ENTRIES / 4, SINGLES, |bench| {
            bench.worker(1, "receipts")
        }));
    }
    let names = [
        "a client, batches of 100",
        "plain ids, batches of 100",
        "leases, batches of 100",
        "plain ids, one at a time",
        "leases, one at a time",
    ];
    let medians = all.map(|rounds| Figures::median(&rounds));
    for (name, figures) in names.iter().zip(&medians) {
        figures.print(name);
    }
    let [client, plain, leased, single, _] = &medians;
    wanted(
        "plain ids, gateway : client",
        plain.rate / client.rate,
        ">= 0.5",
    );
    wanted("leases, entries/s", leased.rate, ">= 60000");
    wanted("leases, Redis µs/entry", leased.redis, "<= 8");
    wanted(
        "one at a time, entries/s for a core of the gateway",
        1e6 / single.cpu,
        ">= 30000",
    );
    waiting::compare(rounds);
    ordered::compare(rounds, ENTRIES, BATCHES);
}

fn wanted(what: &str, value: f64, wanted: &str) {
    println!("  {what:<52}{value:>10.2}   wanted {wanted}");
}

struct Figures {
    rate: f64,
    cpu: f64,
    redis: f64,
}

impl Figures {
    fn print(&self, name: &str) {
        println!(
            "{name:<36}{:>12.0}{:>14.1}{:>16.1}",
            self.rate, self.cpu, self.redis
        );
    }

    fn median(rounds: &[Self]) -> Self {
        let of = |value: fn(&Self) -> f64| {
            let mut all: Vec<f64> = rounds.iter().map(value).collect();
            all.sort_by(f64::total_cmp);
            all[all.len() / 2]
        };
        Self {
            rate: of(|f| f.rate),
            cpu: of(|f| f.cpu),
            redis: of(|f| f.redis),
        }
    }
}

struct Bench {
    redis: Process,
    gateway: Process,
}

impl Bench {
    fn start() -> Self {
        let redis = Process::start("redis-server", |command, port| {
            command.args([
                "--port",
                port,
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
            ]);
        });
        let url = format!("redis://127.0.0.1:{}/", redis.port);
        let gateway = Process::start(&process::gateway(), |command, port| {
            command.args(["serve", "--redis-url", &url, "--listen"]);
            command.arg(format!("127.0.0.1:{port}"));
        });
        Self { redis, gateway }
    }

    fn connection(&self) -> Connection {
        let client = Client::open(format!("redis://127.0.0.1:{}/", self.redis.port)).unwrap();
        client.get_connection().unwrap()
    }

    fn redis(&self, words: &[&str]) -> Value {
        let mut command = Cmd::new();
        command.arg(words);
        command.query(&mut self.connection()).unwrap()
    }

    /// Leaves only an empty group.
    fn reset(&self, policy: &str) {
        self.redis(&["FLUSHALL"]);
        let body = format!(r#"{{"policy":{policy}}}"#);
        let mut http = Http::connect(self.gateway.port);
        assert!(
            http.call("PUT", "", "application/json", &body)
                .contains("\"pending\":0")
        );
    }

    /// Adds entries in pipelines of at most 1000.
    fn add(&self, count: usize) {
        let mut redis = self.connection();
        for first in (0..count).step_by(1000) {
            let mut pipeline = Pipeline::new();
            for number in first..count.min(first + 1000) {
                let add = pipeline.cmd("XADD").arg("bench").arg("*");
                add.arg("user")
                    .arg(format!("alice{}", number % 5000))
                    .arg("total")
                    .arg("9.50")
                    .ignore();
            }
            pipeline.query::<()>(&mut redis).unwrap();
        }
    }

    /// Returns the figures of a run that has just ended.
    fn figures(&self, count: usize, took: Duration, before: (Duration, Duration)) -> Figures {
        let after = (self.gateway.cpu(), self.redis.cpu());
        let each = |before: Duration, after: Duration| {
            after.saturating_sub(before).as_secs_f64() * 1e6 / count as f64
        };
        Figures {
            rate: count as f64 / took.as_secs_f64(),
            cpu: each(before.0, after.0),
            redis: each(before.1, after.1),
        }
    }

    /// Processes `count` entries with several concurrent workers.
    fn run(
        &self,
        policy: &str,
        count: usize,
        workers: usize,
        work: impl Fn(&Self) -> usize + Sync,
    ) -> Figures {
        self.run_beside(policy, count, workers, |_| (), work)
    }

    /// Processes `count` entries after `prepare`, which works on the group before they are added.
    fn run_beside(
        &self,
        policy: &str,
        count: usize,
        workers: usize,
        prepare: impl Fn(&Self),
        work: impl Fn(&Self) -> usize + Sync,
    ) -> Figures {
        self.reset(policy);
        prepare(self);
        self.add(count);
        let before = (self.gateway.cpu(), self.redis.cpu());
        let began = Instant::now();
        let done: usize = thread::scope(|scope| {
            let threads: Vec<_> = (0..workers).map(|_| scope.spawn(|| work(self))).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .sum()
        });
        assert_eq!(done, count, "each entry once");
        self.figures(count, began.elapsed(), before)
    }

    /// Runs a worker that uses Redis directly.
    fn client(&self, count: usize) -> usize {
        let mut redis = self.connection();
        let mut done = 0;
        loop {
            let mut read = Cmd::new();
            read.arg("XREADGROUP")
                .arg("GROUP")
                .arg("g")
                .arg("w")
                .arg("COUNT")
                .arg(count);
            read.arg("STREAMS").arg("bench").arg(">");
            let Value::Array(streams) = read.query(&mut redis).unwrap() else {
                return done;
            };
            let Value::Array(stream) = &streams[0] else {
                panic!("{streams:?}")
            };
            let Value::Array(entries) = &stream[1] else {
                panic!("{streams:?}")
            };
            // The client computes an outcome for each entry, as the gateway does in its response.
            let mut pipeline = Pipeline::new();
            for entry in entries {
                let Value::Array(entry) = entry else {
                    panic!("{entry:?}")
                };
                let Value::BulkString(id) = &entry[0] else {
                    panic!("{entry:?}")
                };
                pipeline
                    .cmd("XACK")
                    .arg("bench")
                    .arg("g")
                    .arg(id.as_slice());
            }
            let acked: Vec<usize> = pipeline.query(&mut redis).unwrap();
            done += acked.iter().sum::<usize>();
        }
    }

    /// Runs a worker that uses the gateway.
    fn worker(&self, count: usize, by: &str) -> usize {
        let mut http = Http::connect(self.gateway.port);
        let form = "application/x-www-form-urlencoded";
        let (member, mut done) = (
            if by == "ids" {
                "\"id\":\""
            } else {
                "\"receipt\":\""
            },
            0,
        );
        loop {
            let read = http.call("POST", "/read", form, &format!("consumer=w&count={count}"));
            let mut ack = String::new();
            for part in read.split(member).skip(1) {
                let end = part.find('"').unwrap();
                ack.push_str(if ack.is_empty() { "" } else { "&" });
                ack.push_str(by);
                ack.push('=');
                ack.push_str(&part[..end]);
            }
            if ack.is_empty() {
                return done;
            }
            let acked = http.call("POST", "/ack", form, &ack);
            let (_, acked) = acked.rsplit_once("\"acknowledged\":").unwrap();
            done += acked
                .trim_end()
                .trim_end_matches('}')
                .parse::<usize>()
                .unwrap();
        }
    }
}

/// A connection to the gateway.
struct Http(BufReader<TcpStream>);

impl Http {
    fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(BufReader::new(stream))
    }

    fn call(&mut self, method: &str, path: &str, media_type: &str, body: &str) -> String {
        let path = format!("/v1/streams/bench/groups/g{path}");
        self.call_at(method, &path, media_type, body)
    }

    fn call_at(&mut self, method: &str, path: &str, media_type: &str, body: &str) -> String {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\n\
             content-type: {media_type}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.0.get_mut().write_all(request.as_bytes()).unwrap();
        let (mut line, mut length) = (String::new(), 0);
        loop {
            line.clear();
            self.0.read_line(&mut line).unwrap();
            if line == "\r\n" {
                break;
            }
            if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = text.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        String::from_utf8(body).unwrap()
    }
}
