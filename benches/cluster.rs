//! A cluster of three masters compared with one Redis: publishing, and the latency of
//! subscriptions. `make bench-cluster` installs the dependencies.
//!
//! Everything runs on one machine, so the masters share its cores, and only the ratios mean
//! anything. Rounds alternate between the two, and each figure is the median of its rounds.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark that cannot go on fails"
)]
#![expect(clippy::cast_precision_loss, reason = "figures are rounded anyway")]

mod process;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use deadpool_redis::redis::{Client, Value, cmd};
use process::Process;

/// Number of streams, over all slots.
const STREAMS: usize = 48;
/// Connections of wrk.
const CONNECTIONS: &str = "-c64";
/// Number of followed streams, each with one subscriber.
const FOLLOWED: usize = 6;
/// Interval of the entries whose latency is measured.
const EVERY: Duration = Duration::from_millis(5);
/// Slots of a cluster.
const SLOTS: usize = 16_384;

/// A gateway with its Redis servers.
struct Setup {
    masters: Vec<Process>,
    gateway: Process,
    dirs: Vec<tempfile::TempDir>,
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let number = |name: &str, default: u32| {
        let at = args.iter().position(|arg| arg == name);
        at.map_or(default, |at| args[at + 1].parse().expect("a number"))
    };
    let (seconds, rounds) = (number("--seconds", 5), number("--rounds", 3));
    machine();
    let setups = [Setup::start(1), Setup::start(3)];
    let names = ["one Redis", "3 masters"];
    let mut rates = [Vec::new(), Vec::new()];
    let mut costs = [Vec::new(), Vec::new()];
    let mut latencies = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        for (index, setup) in setups.iter().enumerate() {
            let (rate, cost) = setup.publish(seconds);
            rates[index].push(rate);
            costs[index].push(cost);
            latencies[index].push(setup.latency(seconds));
        }
    }
    let [rates, costs, latencies] = [rates, costs, latencies].map(|of| of.map(median));
    println!("\n{STREAMS} streams, one entry per POST, {rounds} rounds of {seconds} s");
    println!(
        "{:<14}{:>12}{:>16}{:>12}",
        "", "entries/s", "CPU µs/entry", "SSE p50 ms"
    );
    for (index, name) in names.iter().enumerate() {
        println!(
            "{name:<14}{:>12.0}{:>16.2}{:>12.3}",
            rates[index], costs[index], latencies[index]
        );
    }
    let ratio = |what: &str, of: [f64; 2], wanted: &str| {
        println!("  {what:<52}{:>7.2}   wanted {wanted}", of[1] / of[0]);
    };
    ratio("entries/s, cluster : one Redis", rates, ">= 0.85");
    ratio(
        "p50 of subscriptions, cluster : one Redis",
        latencies,
        "<= 1.5",
    );
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

impl Setup {
    /// Starts so many masters and a gateway.
    fn start(masters: usize) -> Self {
        let dirs: Vec<_> = (0..masters).map(|_| tempfile::tempdir().unwrap()).collect();
        let start = |dir: &tempfile::TempDir| {
            Process::start("redis-server", |command, port| {
                let bind = ["--port", port, "--bind", "127.0.0.1", "--save", ""];
                command.args(bind).args(["--appendonly", "no", "--dir"]);
                command.arg(dir.path());
                if masters > 1 {
                    command.args(["--cluster-enabled", "yes", "--cluster-port"]);
                    command.arg(free_port().to_string());
                }
            })
        };
        let servers: Vec<_> = dirs.iter().map(start).collect();
        if masters > 1 {
            join(&servers);
        }
        let scheme = if masters > 1 {
            "redis-cluster"
        } else {
            "redis"
        };
        let url = format!("{scheme}://127.0.0.1:{}", servers[0].port);
        let gateway = Process::start(&process::gateway(), |command, port| {
            command.args(["serve", "--redis-url", &url, "--listen"]);
            command.arg(format!("127.0.0.1:{port}"));
        });
        let setup = Self {
            masters: servers,
            gateway,
            dirs,
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        while !(0..STREAMS).all(|stream| setup.post(stream, "n=0")) {
            assert!(Instant::now() < deadline, "the gateway is not ready");
            thread::sleep(Duration::from_millis(50));
        }
        setup
    }

    fn post(&self, stream: usize, body: &str) -> bool {
        let mut connection = TcpStream::connect(("127.0.0.1", self.gateway.port)).unwrap();
        write!(connection, "{}", request(stream, body)).unwrap();
        let mut line = String::new();
        BufReader::new(connection).read_line(&mut line).unwrap();
        line.contains(" 201 ")
    }

    /// Returns the entries per second, and the CPU time of the gateway per entry in µs.
    fn publish(&self, seconds: u32) -> (f64, f64) {
        let file = self.dirs[0].path().join("load.lua");
        let script = format!(
            "wrk.headers['Content-Type']='application/x-www-form-urlencoded'
            local i = 0
            request = function()
                i = (i + 1) % {STREAMS}
                return wrk.format('POST', '/v1/streams/s' .. i .. '/entries', nil, 'user=alice&total=9.50')
            end
            function done(summary, latency)
                local wrong = summary.errors
                io.write(string.format('FIGURES %d %d %d\\n', summary.requests, summary.duration,
                    wrong.connect + wrong.read + wrong.write + wrong.status + wrong.timeout))
            end"
        );
        fs::write(&file, script).unwrap();
        let before = self.gateway.cpu();
        let output = Command::new("wrk")
            .args(["-t1", CONNECTIONS, &format!("-d{seconds}s"), "-s"])
            .arg(&file)
            .arg(format!("http://127.0.0.1:{}", self.gateway.port))
            .output()
            .unwrap();
        let cpu = self.gateway.cpu().saturating_sub(before).as_secs_f64();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = text.lines().find_map(|line| line.strip_prefix("FIGURES "));
        let figures = line.unwrap_or_else(|| panic!("{text}")).split(' ');
        let figures: Vec<f64> = figures.map(|of| of.parse().unwrap()).collect();
        let [requests, micros, wrong] = figures[..] else {
            panic!("{text}")
        };
        assert!(wrong == 0.0, "{wrong} requests failed\n{text}");
        for master in &self.masters {
            for stream in 0..STREAMS {
                // Refused by the masters of other slots.
                let _ = command(master, &["XTRIM", &format!("s{stream}"), "MAXLEN", "0"]);
            }
        }
        (requests / (micros / 1e6), cpu * 1e6 / requests)
    }

    /// Returns the median time from a POST to the event at a subscriber, in ms.
    fn latency(&self, seconds: u32) -> f64 {
        let clock = Instant::now();
        let (sender, receiver) = mpsc::channel();
        let mut open = Vec::new();
        for stream in 0..FOLLOWED {
            let mut connection = TcpStream::connect(("127.0.0.1", self.gateway.port)).unwrap();
            let head = format!(
                "GET /v1/streams/s{stream}/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
            );
            connection.write_all(head.as_bytes()).unwrap();
            open.push(connection.try_clone().unwrap());
            let (sender, mut lines) = (sender.clone(), BufReader::new(connection));
            thread::spawn(move || {
                let mut line = String::new();
                while lines.read_line(&mut line).is_ok_and(|length| length > 0) {
                    let sent = line
                        .split("\"sent\":\"")
                        .nth(1)
                        .and_then(|rest| rest.split('"').next()?.parse::<u64>().ok());
                    let event = sent.map(|sent| micros(clock).saturating_sub(sent));
                    if line.contains("$open") || event.is_some() {
                        let _ = sender.send(event);
                    }
                    line.clear();
                }
            });
        }
        for _ in 0..FOLLOWED {
            assert_eq!(receiver.recv().unwrap(), None, "a subscription opens");
        }
        let count = u128::from(seconds) * 1000 / EVERY.as_millis();
        let mut connection = TcpStream::connect(("127.0.0.1", self.gateway.port)).unwrap();
        connection.set_nodelay(true).unwrap();
        let mut answers = BufReader::new(connection.try_clone().unwrap());
        let mut times = Vec::new();
        for n in 0..count {
            let stream = usize::try_from(n).unwrap() % FOLLOWED;
            let body = format!("sent={}", micros(clock));
            write!(connection, "{}", request(stream, &body)).unwrap();
            let time = receiver.recv_timeout(Duration::from_secs(5)).unwrap();
            times.push(time.expect("an entry") as f64 / 1000.0);
            skip_answer(&mut answers);
            thread::sleep(EVERY);
        }
        for connection in open {
            let _ = connection.shutdown(std::net::Shutdown::Both);
        }
        median(times)
    }
}

fn micros(clock: Instant) -> u64 {
    u64::try_from(clock.elapsed().as_micros()).unwrap()
}

fn request(stream: usize, body: &str) -> String {
    format!(
        "POST /v1/streams/s{stream}/entries HTTP/1.1\r\nHost: localhost\r\n\
        Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Reads an answer to its end.
fn skip_answer(answers: &mut BufReader<TcpStream>) {
    let (mut line, mut length) = (String::new(), 0);
    loop {
        line.clear();
        answers.read_line(&mut line).unwrap();
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    std::io::Read::read_exact(answers, &mut body).unwrap();
}

/// Makes servers a cluster that serves all slots.
fn join(servers: &[Process]) {
    for (index, server) in servers.iter().enumerate() {
        let (from, to) = (
            index * SLOTS / servers.len(),
            (index + 1) * SLOTS / servers.len() - 1,
        );
        let slots = [from, to].map(|slot| slot.to_string());
        command(server, &["CLUSTER", "ADDSLOTSRANGE", &slots[0], &slots[1]]).unwrap();
        let epoch = (index + 1).to_string();
        command(server, &["CLUSTER", "SET-CONFIG-EPOCH", &epoch]).unwrap();
    }
    let bus: Vec<String> = cmd("CONFIG")
        .arg("GET")
        .arg("cluster-port")
        .query(&mut connect(&servers[0]))
        .unwrap();
    for server in &servers[1..] {
        let port = servers[0].port.to_string();
        command(server, &["CLUSTER", "MEET", "127.0.0.1", &port, &bus[1]]).unwrap();
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    let ready = |server: &Process| {
        let info: String = cmd("CLUSTER")
            .arg("INFO")
            .query(&mut connect(server))
            .unwrap();
        info.contains("cluster_state:ok")
    };
    while !servers.iter().all(ready) {
        assert!(Instant::now() < deadline, "the cluster is not ready");
        thread::sleep(Duration::from_millis(50));
    }
}

fn connect(server: &Process) -> deadpool_redis::redis::Connection {
    let url = format!("redis://127.0.0.1:{}/", server.port);
    Client::open(url).unwrap().get_connection().unwrap()
}

fn command(server: &Process, words: &[&str]) -> deadpool_redis::redis::RedisResult<Value> {
    let mut command = cmd(words[0]);
    for word in &words[1..] {
        command.arg(*word);
    }
    command.query(&mut connect(server))
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn machine() {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("", |model| model.trim_start_matches([' ', '\t', ':']));
    let cores = thread::available_parallelism().map_or(0, std::num::NonZero::get);
    println!("on {cores} cores of {model}");
    let version = Command::new("redis-server").arg("--version").output();
    println!(
        "  {}",
        String::from_utf8_lossy(&version.unwrap().stdout).trim()
    );
}
