//! Simultaneous loss of all connections while entries continue: the time until all subscribers have
//! resumed, and the number of lost entries.

use std::time::{Duration, Instant};

use super::Run;
use super::crowd::Crowd;
use super::histogram::Histogram;
use super::publish::{Publisher, Publishing};
use super::report::goal;
use super::servers::Server;

/// Time limit within which all subscribers must resume.
const PATIENCE: Duration = Duration::from_secs(60);

/// The stage of a subscriber after its connection was cut.
enum Stage {
    /// Waiting to reconnect at this time.
    Away(Instant),
    /// Reconnecting since this time, when this number of entries had been sent.
    Asked(Instant, u64),
    Resumed,
}

pub fn all_at_once(run: &Run, subscribers: usize) {
    let rate = run.rate.unwrap_or(10.0);
    println!(
        "\nreconnect: {subscribers} subscribers cut at once, {rate} entries/s of {} bytes go on",
        run.size
    );
    let redis = Server::redis();
    let server = Server::streamgate(&redis, &[]);
    let mut crowd = Crowd::new(server.port, run.clock);
    for _ in 0..subscribers {
        crowd.join("/v1/streams/s0/events", 0, 1, true);
    }
    crowd.until_open();
    let mut publishing = Publishing::new(run.clock, run.size, 1);
    publishing.pace(Publisher::redis(&redis), rate);
    crowd.run(Duration::from_secs(1), &publishing.shared);
    let before = server.cpu();
    crowd.cut();
    let (cut, mut times) = (Instant::now(), Histogram::default());
    let due = |retry: Duration| {
        assert!(!retry.is_zero(), "`$open` had no `retry:`");
        Stage::Away(cut + retry)
    };
    let mut stages: Vec<_> = crowd.subscribers.iter().map(|one| due(one.retry)).collect();
    let mut resumed = 0;
    while resumed < subscribers && cut.elapsed() < PATIENCE {
        let now = Instant::now();
        let sent = publishing.shared.sent();
        for (index, stage) in stages.iter_mut().enumerate() {
            match *stage {
                Stage::Away(due) if now >= due => {
                    crowd.connect(index);
                    *stage = Stage::Asked(due, sent);
                }
                Stage::Asked(due, sent) => {
                    let subscriber = &crowd.subscribers[index];
                    if subscriber.open && subscriber.next[0] >= sent {
                        times.add(u64::try_from((now - due).as_micros()).unwrap());
                        *stage = Stage::Resumed;
                        resumed += 1;
                    }
                }
                Stage::Away(_) | Stage::Resumed => {}
            }
        }
        crowd.run(Duration::from_millis(2), &publishing.shared);
    }
    let (all_after, cpu) = (cut.elapsed(), server.cpu().saturating_sub(before));
    crowd.run(Duration::from_secs(1), &publishing.shared);
    crowd.run_out(&mut publishing);
    let verdict = crowd.verdict(&publishing.shared);
    println!(
        "  {resumed} resumed within {all_after:.2?} of the cut; the gateway took {cpu:.2?} of CPU for it, deliveries included"
    );
    goal(
        "seconds from its `retry:` until resumed, median",
        times.percentile_ms(50.0) / 1e3,
        "",
    );
    goal("p99", times.percentile_ms(99.0) / 1e3, "");
    goal("the last one", times.max_ms() / 1e3, "<= 3");
    goal("not resumed", (subscribers - resumed) as f64, "0");
    goal("lost", verdict.lost as f64, "0");
    goal("twice", verdict.twice as f64, "0");
}
