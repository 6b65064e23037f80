//! Time of publishing for another client while thousands of subscribers get entries: the gateway
//! must not let requests wait until all of them have theirs. The same with the subscribers on a
//! second gateway shows what the machine, which both share, costs by itself.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::Run;
use super::crowd::{Crowd, Verdict};
use super::histogram::Histogram;
use super::publish::{Publisher, Publishing};
use super::report::goal;
use super::servers::Server;

/// Entries per second for the subscribers.
const RATE: f64 = 20.0;
/// Pause of the other client after each answer.
const PAUSE: Duration = Duration::from_millis(2);

pub fn publish(run: &Run, subscribers: usize) {
    let rate = run.rate.unwrap_or(RATE);
    println!(
        "\nbeside: {subscribers} subscribers of one stream, {rate} entries/s of {} bytes; another client publishes \
         to another stream, {} rounds of {:?}",
        run.size, run.rounds, run.time
    );
    let kinds = [
        ("alone", None),
        ("beside another gateway", Some(false)),
        ("beside its subscribers", Some(true)),
    ];
    let mut times = kinds.map(|_| Histogram::default());
    let mut verdict = Verdict::default();
    for _ in 0..run.rounds {
        for ((_, same), times) in kinds.iter().zip(&mut times) {
            let found = round(run, *same, (subscribers, rate), times);
            verdict.lost += found.lost;
            verdict.twice += found.twice;
        }
    }
    println!(
        "{:<24}{:>10}{:>10}{:>10}{:>10}{:>10}",
        "", "entries", "p50 ms", "p99 ms", "p99.9 ms", "max ms"
    );
    for ((name, _), times) in kinds.iter().zip(&times) {
        let [p50, p99, p999] = [50.0, 99.0, 99.9].map(|percent| times.percentile_ms(percent));
        println!(
            "{name:<24}{:>10}{p50:>10.2}{p99:>10.2}{p999:>10.2}{:>10.2}",
            times.count(),
            times.max_ms()
        );
    }
    let [_, other, own] = times.map(|times| times.percentile_ms(99.9));
    goal("p99.9 ms of publishing beside subscribers", own, "<= 3");
    goal("the same, to that beside another gateway", own / other, "");
    goal("lost or twice", (verdict.lost + verdict.twice) as f64, "0");
}

/// Publishes through a gateway for some time. `same` tells whether the subscribers are its own;
/// without it there are none.
fn round(
    run: &Run,
    same: Option<bool>,
    (subscribers, rate): (usize, f64),
    times: &mut Histogram,
) -> Verdict {
    let redis = Server::redis();
    let server = Server::streamgate(&redis, &[]);
    let Some(same) = same else {
        let publishing = begin(server.port, run.time);
        times.merge(&publishing.1.join().unwrap());
        return Verdict::default();
    };
    let second = (!same).then(|| Server::streamgate(&redis, &[]));
    let port = second.as_ref().map_or(server.port, |second| second.port);
    let mut crowd = Crowd::new(port, run.clock);
    for _ in 0..subscribers {
        crowd.join("/v1/streams/s0/events", 0, 1, false);
    }
    crowd.until_open();
    let mut publishing = Publishing::new(run.clock, run.size, 1);
    publishing.pace(Publisher::redis(&redis), rate);
    crowd.run(Duration::from_secs(1), &publishing.shared);
    let (stop, client) = begin(server.port, Duration::MAX);
    crowd.run(run.time, &publishing.shared);
    stop.store(true, Relaxed);
    crowd.run_out(&mut publishing);
    times.merge(&client.join().unwrap());
    crowd.verdict(&publishing.shared)
}

/// Starts a client that publishes one entry after the other, until it is stopped or for some time.
fn begin(port: u16, time: Duration) -> (Arc<AtomicBool>, JoinHandle<Histogram>) {
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let client = thread::spawn(move || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        let request = "POST /v1/streams/beside/entries HTTP/1.1\r\nHost: localhost\r\n\
            Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 3\r\n\r\nn=1";
        let (mut times, mut buffer) = (Histogram::default(), [0; 4096]);
        let began = Instant::now();
        while !stopped.load(Relaxed) && began.elapsed() < time {
            let sent = Instant::now();
            stream.write_all(request.as_bytes()).unwrap();
            let mut answer = Vec::new();
            // The body is one line, and no other answer follows.
            while !answer.ends_with(b"}\n") {
                let count = stream.read(&mut buffer).unwrap();
                assert!(count > 0, "the gateway closed the connection");
                answer.extend_from_slice(&buffer[..count]);
            }
            assert!(answer.starts_with(b"HTTP/1.1 201"), "{answer:?}");
            times.add(u64::try_from(sent.elapsed().as_micros()).unwrap());
            thread::sleep(PAUSE);
        }
        times
    });
    (stop, client)
}
