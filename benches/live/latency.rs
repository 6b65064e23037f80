//! Latency from publishing to one subscriber on an idle machine, compared with the wake-up of a
//! plain Redis client.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use deadpool_redis::redis::{self, Connection, Value};

use super::Run;
use super::crowd::Crowd;
use super::feed::Mark;
use super::histogram::Histogram;
use super::publish::{Clock, Publisher, Publishing};
use super::report::goal;
use super::servers::Server;

/// Entries per second, every other one for the plain client.
const RATE: f64 = 100.0;

pub fn one(run: &Run, _: usize) {
    let time = run.time * u32::try_from(run.rounds).unwrap();
    println!(
        "\nlatency: one subscriber, an entry of {} bytes every 20 ms, {time:?}",
        run.size
    );
    let redis = Server::redis();
    let server = Server::streamgate(&redis, &[]);
    let mut crowd = Crowd::new(server.port, run.clock);
    crowd.join("/v1/streams/s0/events", 0, 1, false);
    crowd.until_open();
    let mut publishing = Publishing::new(run.clock, run.size, 2);
    publishing.pace(Publisher::redis(&redis), run.rate.unwrap_or(RATE));
    crowd.run(Duration::from_secs(1), &publishing.shared);
    crowd.take_latency();
    let stop = Arc::new(AtomicBool::new(false));
    let plain = follow(redis.connect(), run.clock, stop.clone());
    crowd.run(time, &publishing.shared);
    let ours = crowd.take_latency();
    crowd.run_out(&mut publishing);
    stop.store(true, Relaxed);
    let verdict = crowd.verdict(&publishing.shared);
    let plain = plain.join().unwrap();
    println!(
        "{:<22}{:>10}{:>10}{:>10}{:>10}",
        "", "entries", "p50 ms", "p99 ms", "max ms"
    );
    for (name, times) in [("streamgate", &ours), ("XADD to XREAD", &plain)] {
        let (p50, p99) = (times.percentile_ms(50.0), times.percentile_ms(99.0));
        println!(
            "{name:<22}{:>10}{p50:>10.3}{p99:>10.3}{:>10.3}",
            times.count(),
            times.max_ms()
        );
    }
    goal("p50 ms", ours.percentile_ms(50.0), "<= 0.4");
    goal("p99 ms", ours.percentile_ms(99.0), "<= 2");
    goal("lost or twice", (verdict.lost + verdict.twice) as f64, "0");
}

/// The id of an entry, and its names and values.
type Entry = (String, Vec<Vec<u8>>);

/// Reads `s1` like an ordinary client.
fn follow(
    mut connection: Connection,
    clock: Clock,
    stop: Arc<AtomicBool>,
) -> JoinHandle<Histogram> {
    thread::spawn(move || {
        let mut times = Histogram::default();
        let mut after = "$".to_owned();
        while !stop.load(Relaxed) {
            let mut read = redis::cmd("XREAD");
            read.arg("BLOCK")
                .arg(200)
                .arg("STREAMS")
                .arg("s1")
                .arg(&after);
            let answer: Value = read.query(&mut connection).unwrap();
            let now = clock.micros();
            let Value::Array(streams) = answer else {
                continue;
            };
            let entries: Vec<(String, Vec<Entry>)> =
                redis::from_redis_value(Value::Array(streams)).unwrap();
            for (id, fields) in entries.into_iter().flat_map(|(_, entries)| entries) {
                let mark = fields.iter().find_map(|value| Mark::find(value));
                times.add(now.saturating_sub(mark.unwrap().micros));
                after = id;
            }
        }
        times
    })
}
