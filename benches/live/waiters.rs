//! Thousands of waiting reads, half of them group reads and half long polls: the CPU time while no
//! entries arrive, and the latency until an entry reaches the waiting read.

use std::time::{Duration, Instant};

use deadpool_redis::redis;
use memchr::memmem;

use super::Run;
use super::feed::{self, HEADROOM, Mark};
use super::histogram::Histogram;
use super::publish::Publisher;
use super::report::goal;
use super::servers::Server;
use super::sockets::{Happened, Sockets};
use crate::process::own_cpu;

/// Number of connections opened at the same time.
const AT_ONCE: usize = 100;

/// Entries published one after the other, per second of the measurement.
const ENTRIES: f64 = 200.0;

/// The waiting reads of stream `s<index / 2>`. Reads with an even index are group reads.
struct Reads {
    sockets: Sockets,
    /// The received part of each response.
    answers: Vec<Vec<u8>>,
    /// Responses received since the last query, with the marks of their entries.
    came: Vec<(usize, Option<Mark>)>,
}

pub fn wait(run: &Run, readers: usize) {
    let streams = (readers / 2).max(1);
    let readers = streams * 2;
    println!("\nwaiters: {streams} group readers and {streams} long polls, of {streams} streams");
    let redis = Server::redis();
    let server = Server::streamgate(&redis, &[]);
    let mut groups = redis::pipe();
    for stream in 0..streams {
        let create = groups.cmd("XGROUP").arg("CREATE").arg(format!("s{stream}"));
        create.arg("g").arg("0").arg("MKSTREAM").ignore();
    }
    groups.exec(&mut redis.connect()).unwrap();
    let mut reads = Reads {
        sockets: Sockets::new(server.port),
        answers: vec![Vec::new(); readers],
        came: Vec::new(),
    };
    for index in 0..readers {
        reads.sockets.connect(index, request(index, "$"));
        if index % AT_ONCE == AT_ONCE - 1 {
            reads.run(Duration::from_millis(10), run);
        }
    }
    let deadline = Instant::now() + Duration::from_secs(30);
    while waiting(server.port) < readers {
        assert!(Instant::now() < deadline, "not all reads wait");
        reads.run(Duration::from_millis(100), run);
    }
    reads.run(Duration::from_secs(1), run);
    let time = run.time * 2;
    let (began, before, redis_before) = (Instant::now(), server.cpu(), redis.cpu());
    reads.run(time, run);
    let percent = |cpu: Duration| cpu.as_secs_f64() / began.elapsed().as_secs_f64() * 100.0;
    let idle = percent(server.cpu().saturating_sub(before));
    let redis_idle = percent(redis.cpu().saturating_sub(redis_before));
    let connections = redis.connections();
    goal(
        "Redis connections of the gateway, all",
        connections as f64,
        "<= 16",
    );
    goal("CPU while nothing comes, % of a core", idle, "<= 2");
    goal("Redis' CPU meanwhile, % of a core", redis_idle, "");
    reads.answer_all(run, &redis, streams, &server);
}

impl Reads {
    /// Publishes entries to random streams, each after both waiting reads received the previous
    /// one.
    fn answer_all(&mut self, run: &Run, redis: &Server, streams: usize, server: &Server) {
        let mut publisher = Publisher::redis(redis);
        let mut times = [const { Vec::new() }; 2].map(|_: Vec<u64>| Histogram::default());
        self.came.clear();
        let before = (server.cpu(), own_cpu());
        let entries = (run.time.as_secs_f64() * ENTRIES) as u64;
        for number in 0..entries {
            let stream = fastrand::usize(..streams);
            let mark = Mark {
                lane: 0,
                number,
                micros: run.clock.micros(),
            };
            publisher.send(&[(format!("s{stream}"), feed::value(run.size, mark))]);
            let (mut left, deadline) = (2, Instant::now() + Duration::from_secs(10));
            while left > 0 {
                assert!(
                    Instant::now() < deadline,
                    "an entry of s{stream} reached {} of 2",
                    2 - left
                );
                self.run(Duration::from_millis(1), run);
                let now_came = std::mem::take(&mut self.came);
                for (index, micros) in now_came.into_iter().filter_map(|(index, mark)| {
                    let came = mark.filter(|mark| mark.number == number)?;
                    Some((index, came.micros))
                }) {
                    assert_eq!(index / 2, stream, "an answer to another read");
                    times[index % 2].add(micros);
                    left -= 1;
                }
            }
            // The reads that received a response are waiting again by then.
            self.run(Duration::from_millis(5), run);
        }
        let cpu = (server.cpu().saturating_sub(before.0)).as_secs_f64() * 1e6 / entries as f64;
        for (name, times) in ["group readers", "long polls"].iter().zip(&times) {
            println!(
                "  an entry at a time, {name}: p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
                times.percentile_ms(50.0),
                times.percentile_ms(99.0),
                times.max_ms()
            );
            goal(
                &format!("p99 ms until {name} have it"),
                times.percentile_ms(99.0),
                "<= 10",
            );
        }
        goal("µs of CPU for each entry, to both", cpu, "");
    }

    /// Receives responses for `time`. Reads that received a response are sent again.
    fn run(&mut self, time: Duration, run: &Run) {
        let end = Instant::now() + time;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || !self.came.is_empty() {
                return;
            }
            let (answers, came) = (&mut self.answers, &mut self.came);
            let mut again = Vec::new();
            self.sockets.turn(left, |index, happened| match happened {
                Happened::Closed => panic!("a waiting read was closed"),
                Happened::Read(buffer) => {
                    let answer = &mut answers[index];
                    answer.extend_from_slice(&buffer[HEADROOM..]);
                    if let Some(body) = complete(answer) {
                        let mark = Mark::find(body).map(|mark| Mark {
                            micros: run.clock.micros().saturating_sub(mark.micros),
                            ..mark
                        });
                        came.push((index, mark));
                        again.push((index, request(index, &next_of(body))));
                        answer.clear();
                    }
                }
            });
            for (index, request) in again {
                self.sockets.send(index, &request);
            }
        }
    }
}

fn request(index: usize, after: &str) -> Vec<u8> {
    let stream = index / 2;
    if index.is_multiple_of(2) {
        let body = r#"{"consumer":"c","wait":"60s"}"#;
        format!(
            "POST /v1/streams/s{stream}/groups/g/read HTTP/1.1\r\nHost: localhost\r\n\
            Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    } else {
        format!(
            "GET /v1/streams/s{stream}/entries?after={after}&wait=60s HTTP/1.1\r\nHost: localhost\r\n\r\n"
        )
    }
    .into_bytes()
}

/// Returns the body of a complete response.
fn complete(answer: &[u8]) -> Option<&[u8]> {
    let end = memmem::find(answer, b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    assert!(
        head.starts_with("http/1.1 200"),
        "{}",
        String::from_utf8_lossy(answer)
    );
    let length = head
        .split("content-length: ")
        .nth(1)
        .expect("an answer has a length");
    let length: usize = length.lines().next().unwrap().parse().unwrap();
    answer.get(end + 4..end + 4 + length)
}

/// Returns the position for the next long poll.
fn next_of(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let next = text
        .split("\"next\":\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next());
    next.unwrap_or("$").to_owned()
}

/// Returns the number of waiting reads from the metrics of the gateway.
fn waiting(port: u16) -> usize {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("streamgate_waiting_reads "));
    line.expect("the metric of waiting reads").parse().unwrap()
}
