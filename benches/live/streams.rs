//! Entries spread over thousands of streams, compared with the same number of deliveries from one.

use std::time::Duration;

use super::Run;
use super::crowd::Crowd;
use super::publish::{Publisher, Publishing};
use super::report::{Figures, goal};
use super::servers::Server;

/// Subscribers of each stream.
const EACH: usize = 2;

/// Deliveries per second to all subscribers together, in both cases.
const DELIVERIES: f64 = 10_000.0;

pub fn many(run: &Run, subscribers: usize) {
    let streams = (subscribers / EACH).max(1);
    let subscribers = streams * EACH;
    let deliveries = run.rate.unwrap_or(DELIVERIES);
    println!(
        "\nmany-streams: {subscribers} subscribers and {deliveries} deliveries/s of {} bytes, {} rounds of {:?}",
        run.size, run.rounds, run.time
    );
    let (mut one, mut spread, mut tailing) = (Vec::new(), Vec::new(), 0);
    for _ in 0..run.rounds {
        one.push(case(run, 1, subscribers, deliveries).0);
        let (figures, connections) = case(run, streams, EACH, deliveries);
        spread.push(figures);
        tailing = tailing.max(connections);
    }
    let (one, spread) = (Figures::median(&one), Figures::median(&spread));
    Figures::head();
    one.print("one stream");
    spread.print(&format!("{streams} streams"));
    goal(
        "CPU per delivery, many streams : one",
        spread.cpu / one.cpu,
        "<= 2.5",
    );
    goal(
        "Redis connections that wait for entries",
        tailing as f64,
        "<= 16",
    );
    let verdicts = [one.verdict, spread.verdict];
    goal(
        "lost or twice",
        verdicts.iter().map(|v| v.lost + v.twice).sum::<u64>() as f64,
        "0",
    );
}

/// Returns the figures, and the number of connections that wait for entries.
fn case(run: &Run, streams: usize, each: usize, deliveries: f64) -> (Figures, usize) {
    let redis = Server::redis();
    let server = Server::streamgate(&redis, &[]);
    let mut crowd = Crowd::new(server.port, run.clock);
    for stream in 0..streams {
        let path = format!("/v1/streams/s{stream}/events");
        for _ in 0..each {
            crowd.join(&path, stream, 1, false);
        }
    }
    crowd.until_open();
    let mut publishing = Publishing::new(run.clock, run.size, streams);
    publishing.pace(Publisher::redis(&redis), deliveries / each as f64);
    crowd.run(Duration::from_secs(2), &publishing.shared);
    let mut figures = Figures::measure(&mut crowd, &publishing.shared, run.time, &server, &redis);
    let tailing = redis.waiting_connections(|| {
        crowd.run(Duration::from_millis(50), &publishing.shared);
    });
    crowd.run_out(&mut publishing);
    figures.verdict = crowd.verdict(&publishing.shared);
    (figures, tailing)
}
