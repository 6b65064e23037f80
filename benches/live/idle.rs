//! Memory of idle subscribers.

use std::time::{Duration, Instant};

use super::Run;
use super::crowd::Crowd;
use super::publish::{Publisher, Publishing};
use super::report::goal;
use super::servers::Server;
use super::ways;

/// Entries per second in the second part, which fill all buffers.
const RATE: f64 = 1.0;

/// Measures resident memory above that of the empty server, before any entry and after a few
/// entries.
pub fn memory(run: &Run, subscribers: usize) {
    println!(
        "\nidle-memory: {subscribers} subscribers of one stream, HTTP/1.1, KB of 1024 bytes each"
    );
    println!(
        "{:<22}{:>14}{:>16}{:>25}",
        "", "empty, MiB", "held, KB each", "after entries, KB each"
    );
    let redis = Server::redis();
    let streamgate = Server::streamgate(&redis, &[]);
    let publisher = Publisher::redis(&redis);
    let ours = hold(
        run,
        "streamgate",
        &streamgate,
        "/v1/streams/s0/events",
        publisher,
        subscribers,
    );
    drop(streamgate);
    let nchan = Server::nchan(&redis, 1);
    let publisher = Publisher::nchan(&nchan);
    let theirs = hold(
        run,
        "nchan, workers: 1",
        &nchan,
        "/sub?id=s0",
        publisher,
        subscribers,
    );
    goal("KB per idle subscriber, streamgate", ours, "<= 4");
    goal(
        "KB per idle subscriber, streamgate : nchan",
        ours / theirs,
        "",
    );
}

/// Measures the same over TLS and HTTP/2, before any entry and after three entries.
pub fn ways(_: &Run, subscribers: usize) {
    println!("\nidle-ways: {subscribers} subscribers of one stream, KB of 1024 bytes each");
    println!(
        "{:<22}{:>14}{:>16}{:>25}",
        "", "empty, MiB", "held, KB each", "after entries, KB each"
    );
    for way in ways::WAYS {
        ways::hold(way, subscribers);
    }
}

/// Seconds after the last subscriber of a round has left, at which memory is measured.
const AFTER: [u64; 3] = [1, 10, 30];

/// Measures resident memory while and after subscribers connect and disconnect three times.
pub fn come_and_go(run: &Run, subscribers: usize) {
    println!("\ncome-and-go: {subscribers} subscribers of one stream come and go three times, MiB");
    print!("{:<10}{:>10}{:>10}", "", "at start", "held");
    for after in AFTER {
        print!("{:>14}", format!("{after} s after"));
    }
    println!();
    let redis = Server::redis();
    let server = Server::streamgate(&redis, &[]);
    let mib = || server.memory() as f64 / 1024.0;
    // Memory for first-time initialization does not count as memory of a subscriber.
    let mut first = Crowd::new(server.port, run.clock);
    first.join("/v1/streams/s0/events", 0, 1, false);
    first.until_open();
    first.cut();
    std::thread::sleep(Duration::from_millis(500));
    let start = mib();
    let (mut peak, mut last) = (start, start);
    for round in 1..=3 {
        let mut crowd = Crowd::new(server.port, run.clock);
        for _ in 0..subscribers {
            crowd.join("/v1/streams/s0/events", 0, 1, false);
        }
        crowd.until_open();
        let mut publishing = Publishing::new(run.clock, run.size, 1);
        publishing.pace(Publisher::redis(&redis), RATE);
        crowd.run(run.time, &publishing.shared);
        crowd.run_out(&mut publishing);
        let held = mib();
        peak = held.max(peak);
        crowd.cut();
        print!("round {round:<4}{start:>10.1}{held:>10.1}");
        let left = Instant::now();
        for after in AFTER {
            let at = left + Duration::from_secs(after);
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
            last = mib();
            print!("{last:>14.1}");
        }
        println!();
    }
    goal(
        "share of the memory of the subscribers kept 30 s after the last of them",
        (last - start) / (peak - start),
        "",
    );
}

fn hold(
    run: &Run,
    name: &str,
    server: &Server,
    path: &str,
    publisher: Publisher,
    subscribers: usize,
) -> f64 {
    // Memory for first-time initialization does not count as memory of a subscriber.
    let mut first = Crowd::new(server.port, run.clock);
    first.join(path, 0, 1, false);
    first.until_open();
    first.cut();
    std::thread::sleep(Duration::from_millis(500));
    let empty = server.memory();
    let mut crowd = Crowd::new(server.port, run.clock);
    for _ in 0..subscribers {
        crowd.join(path, 0, 1, false);
    }
    crowd.until_open();
    let mut publishing = Publishing::new(run.clock, run.size, 1);
    crowd.run(run.time / 2, &publishing.shared);
    let each = |memory: u64| memory.saturating_sub(empty) as f64 / subscribers as f64;
    let held = each(server.memory());
    publishing.pace(publisher, RATE);
    crowd.run(run.time, &publishing.shared);
    crowd.run_out(&mut publishing);
    let verdict = crowd.verdict(&publishing.shared);
    let used = each(server.memory());
    println!(
        "{name:<22}{:>14.1}{held:>16.2}{used:>25.2}",
        empty as f64 / 1024.0
    );
    assert!(
        verdict.lost + verdict.twice == 0,
        "{name}: entries were lost or duplicated"
    );
    held
}
