//! Workers that wait for entries, one at a time: behind a backlog, and ahead of the producers.

use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use deadpool_redis::redis::Cmd;

use super::histogram::Histogram;
use super::{Bench, Figures, Http, SINGLES, wanted};

/// Number of entries of a backlog.
const BACKLOG: usize = 50_000;
/// Number of entries that come one by one, and how many in a second.
const LATER: usize = 6_000;
const RATE: u32 = 2_000;

const FORM: &str = "application/x-www-form-urlencoded";
const READ: &str = "consumer=w&count=1&wait=20s";

/// Runs all comparisons and prints them.
pub fn compare(rounds: usize) {
    let mut all = [const { Vec::new() }; 3];
    let mut times = Histogram::default();
    for _ in 0..rounds {
        let bench = Bench::start();
        let backlog = |bench: &Bench| bench.add(BACKLOG);
        all[0].push(bench.run("null", BACKLOG, SINGLES, |bench| bench.worker(1, "ids")));
        // The workers wait before the first entry comes, so all of them are in the queue.
        all[1].push(bench.run_waiting(BACKLOG, &mut Histogram::default(), backlog));
        all[2].push(bench.run_waiting(LATER, &mut times, Bench::trickle));
    }
    let [at_once, backlog, later] = all.map(|rounds| Figures::median(&rounds));
    at_once.print("without wait, one at a time");
    backlog.print("wait=20s, a backlog comes at once");
    later.print(&format!("wait=20s, {RATE} entries/s"));
    wanted(
        "with wait : without, CPU per entry",
        backlog.cpu / at_once.cpu,
        "<= 1.2",
    );
    let milliseconds = times.percentile_ms(50.0);
    wanted(
        "from XADD to a waiting worker, p50 ms",
        milliseconds,
        "<= 1",
    );
    let milliseconds = times.percentile_ms(99.0);
    wanted(
        "from XADD to a waiting worker, p99 ms",
        milliseconds,
        "<= 5",
    );
}

fn now_us() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(now.as_micros()).unwrap()
}

impl Bench {
    /// Adds entries one by one, at a steady rate.
    fn trickle(&self) {
        let mut redis = self.connection();
        let began = Instant::now();
        for number in 0..LATER {
            let due = began + Duration::from_secs(1) * u32::try_from(number).unwrap() / RATE;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let mut add = Cmd::new();
            add.arg("XADD")
                .arg("bench")
                .arg("*")
                .arg("at")
                .arg(now_us());
            add.query::<()>(&mut redis).unwrap();
        }
    }

    /// Runs workers that wait, and `add`, which adds `count` entries once they do.
    fn run_waiting(
        &self,
        count: usize,
        times: &mut Histogram,
        add: impl Fn(&Self) + Sync,
    ) -> Figures {
        self.reset("null");
        let left = AtomicI64::new(i64::try_from(count).unwrap());
        let (began, before, ended) = thread::scope(|scope| {
            let workers: Vec<_> = (0..SINGLES)
                .map(|_| scope.spawn(|| self.waiting_worker(&left)))
                .collect();
            thread::sleep(Duration::from_millis(500));
            let (began, before) = (Instant::now(), (self.gateway.cpu(), self.redis.cpu()));
            add(self);
            let mut ended = began;
            for worker in workers {
                let (last, found) = worker.join().unwrap();
                ended = ended.max(last);
                times.merge(&found);
            }
            (began, before, ended)
        });
        self.figures(count, ended - began, before)
    }

    /// Reads and acknowledges until all entries are acknowledged. Returns the time of its last one,
    /// and the times from XADD.
    fn waiting_worker(&self, left: &AtomicI64) -> (Instant, Histogram) {
        let mut http = Http::connect(self.gateway.port);
        let (mut last, mut times) = (Instant::now(), Histogram::default());
        while left.load(Ordering::Relaxed) > 0 {
            let read = http.call("POST", "/read", FORM, READ);
            let Some(id) = text_after(&read, "\"id\":\"") else {
                continue;
            };
            if let Some(at) = text_after(&read, "\"at\":\"") {
                times.add(now_us().saturating_sub(at.parse().unwrap()));
            }
            let acked = http.call("POST", "/ack", FORM, &format!("ids={id}"));
            assert!(acked.contains("\"acknowledged\":1"), "{acked}");
            match left.fetch_sub(1, Ordering::Relaxed) {
                1 => {
                    last = Instant::now();
                    // The others wait for entries that would not come.
                    self.add(SINGLES);
                }
                2.. => last = Instant::now(),
                _ => {}
            }
        }
        (last, times)
    }
}

fn text_after<'a>(text: &'a str, start: &str) -> Option<&'a str> {
    text.split_once(start)?.1.split('"').next()
}
