//! Entries spread over thousands of followed streams, compared with the same number of entries of
//! one stream, and with Redis alone.

use std::time::{Duration, Instant};

use super::Run;
use super::crowd::Crowd;
use super::publish::{Publisher, Publishing};
use super::report::{Figures, goal};
use super::servers::Server;

/// Entries per second to all streams together, in all cases.
const ENTRIES: f64 = 1000.0;

/// Time after the last entry, before the idle gateway is measured.
const CALM: Duration = Duration::from_secs(3);

pub fn many(run: &Run, streams: usize) {
    let rate = run.rate.unwrap_or(ENTRIES);
    println!(
        "\nmany-streams: {streams} streams with a subscriber each, {rate} entries/s of {} bytes, {} rounds of {:?}",
        run.size, run.rounds, run.time
    );
    let (mut one, mut spread, mut alone, mut idle) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..run.rounds {
        alone.push(redis_alone(run, streams, rate));
        one.push(case(run, 1, rate).0);
        let (figures, percent) = case(run, streams, rate);
        spread.push(figures);
        idle.push(percent);
    }
    let (one, spread) = (Figures::median(&one), Figures::median(&spread));
    let (alone, idle) = (median(&mut alone), median(&mut idle));
    Figures::head();
    one.print("one stream");
    spread.print(&format!("{streams} streams"));
    goal("Redis' µs per XADD without subscribers", alone, "");
    goal(
        "Redis' CPU per entry, many streams : XADD alone",
        spread.redis / alone,
        "<= 2",
    );
    goal(
        "CPU per delivery, many streams : one",
        spread.cpu / one.cpu,
        "<= 1.3",
    );
    goal("p50 in ms, many streams", spread.p50_ms, "<= 1");
    goal("p99 in ms, many streams", spread.p99_ms, "<= 6");
    goal("idle, % of a core with Redis", idle, "<= 1");
    let verdicts = [one.verdict, spread.verdict];
    goal(
        "lost or twice",
        verdicts.iter().map(|v| v.lost + v.twice).sum::<u64>() as f64,
        "0",
    );
}

fn median(all: &mut [f64]) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// Returns the CPU time of Redis per entry, in µs, without a gateway.
fn redis_alone(run: &Run, streams: usize, rate: f64) -> f64 {
    let redis = Server::redis();
    let mut publishing = Publishing::new(run.clock, run.size, streams);
    publishing.pace(Publisher::redis_one_by_one(&redis), rate);
    std::thread::sleep(Duration::from_secs(1));
    let (before, sent) = (redis.cpu(), publishing.shared.sent());
    std::thread::sleep(run.time);
    let cpu = redis.cpu().saturating_sub(before).as_secs_f64();
    let entries = publishing.shared.sent() - sent;
    publishing.stop();
    cpu * 1e6 / entries as f64
}

/// Returns the figures, and the share of a core that the idle gateway and Redis use, in percent.
fn case(run: &Run, streams: usize, rate: f64) -> (Figures, f64) {
    let redis = Server::redis();
    let server = Server::streamgate(&redis, &[]);
    let mut crowd = Crowd::new(server.port, run.clock);
    for stream in 0..streams {
        crowd.join(&format!("/v1/streams/s{stream}/events"), stream, 1, false);
    }
    crowd.until_open();
    let mut publishing = Publishing::new(run.clock, run.size, streams);
    publishing.pace(Publisher::redis_one_by_one(&redis), rate);
    crowd.run(Duration::from_secs(2), &publishing.shared);
    let mut figures = Figures::measure(&mut crowd, &publishing.shared, run.time, &server, &redis);
    crowd.run_out(&mut publishing);
    figures.verdict = crowd.verdict(&publishing.shared);
    crowd.run(CALM, &publishing.shared);
    let (began, before) = (Instant::now(), server.cpu() + redis.cpu());
    crowd.run(run.time, &publishing.shared);
    let used = (server.cpu() + redis.cpu()).saturating_sub(before);
    (
        figures,
        used.as_secs_f64() / began.elapsed().as_secs_f64() * 100.0,
    )
}
