//! Measurements over a time window, and the output of figures.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use super::crowd::{Crowd, Verdict};
use super::histogram::Histogram;
use super::publish::Shared;
use super::servers::Server;
use crate::process::own_cpu;

/// The figures of one window, or the median of several windows.
#[derive(Clone, Default)]
pub struct Figures {
    /// Deliveries per second.
    pub rate: f64,
    /// µs of CPU for each delivery: of the server, of Redis and of the subscribers.
    pub cpu: f64,
    pub redis: f64,
    pub own: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub verdict: Verdict,
}

impl Figures {
    /// Measures `server` and `redis` for some time while they serve the crowd.
    pub fn measure(
        crowd: &mut Crowd,
        shared: &Shared,
        time: Duration,
        server: &Server,
        redis: &Server,
    ) -> Self {
        let cpu = || [server.cpu(), redis.cpu(), own_cpu()];
        crowd.take_latency();
        let (began, before, had) = (Instant::now(), cpu(), crowd.deliveries());
        crowd.run(time, shared);
        let (after, seconds) = (cpu(), began.elapsed().as_secs_f64());
        let deliveries = (crowd.deliveries() - had) as f64;
        assert!(deliveries > 0.0, "nothing was delivered");
        let each = |index: usize| {
            after[index].saturating_sub(before[index]).as_secs_f64() * 1e6 / deliveries
        };
        let latency: Histogram = crowd.take_latency();
        Self {
            rate: deliveries / seconds,
            cpu: each(0),
            redis: each(1),
            own: each(2),
            p50_ms: latency.percentile_ms(50.0),
            p99_ms: latency.percentile_ms(99.0),
            verdict: Verdict::default(),
        }
    }

    /// Returns the median of each figure. Lost and duplicated entries of all rounds count.
    pub fn median(rounds: &[Self]) -> Self {
        let of = |value: fn(&Self) -> f64| {
            let mut all: Vec<f64> = rounds.iter().map(value).collect();
            all.sort_by(f64::total_cmp);
            all[all.len() / 2]
        };
        Self {
            rate: of(|f| f.rate),
            cpu: of(|f| f.cpu),
            redis: of(|f| f.redis),
            own: of(|f| f.own),
            p50_ms: of(|f| f.p50_ms),
            p99_ms: of(|f| f.p99_ms),
            verdict: Verdict {
                lost: rounds.iter().map(|f| f.verdict.lost).sum(),
                twice: rounds.iter().map(|f| f.verdict.twice).sum(),
            },
        }
    }

    pub fn head() {
        println!(
            "{:<22}{:>14}{:>13}{:>12}{:>17}{:>9}{:>9}{:>7}{:>7}",
            "",
            "deliveries/s",
            "CPU µs each",
            "Redis' µs",
            "subscriber's µs",
            "p50 ms",
            "p99 ms",
            "lost",
            "twice"
        );
    }

    pub fn print(&self, name: &str) {
        println!(
            "{name:<22}{:>14.0}{:>13.2}{:>12.3}{:>17.2}{:>9.2}{:>9.2}{:>7}{:>7}",
            self.rate,
            self.cpu,
            self.redis,
            self.own,
            self.p50_ms,
            self.p99_ms,
            self.verdict.lost,
            self.verdict.twice
        );
    }
}

/// Prints a result and its goal, which is empty for results without one.
pub fn goal(what: &str, value: f64, wanted: &str) {
    let wanted = if wanted.is_empty() {
        String::new()
    } else {
        format!("wanted {wanted}")
    };
    println!("  {what:<58}{value:>9.2}   {wanted}");
}

/// Prints the machine and the versions of the servers.
pub fn machine() {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("", |model| model.trim_start_matches([' ', '\t', ':']));
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    println!("on {cores} cores of {model}, Linux {}", kernel.trim());
    for (program, arg) in [("redis-server", "--version"), ("nginx", "-v")] {
        let output = Command::new(program).arg(arg).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        println!("  {}", String::from_utf8_lossy(&text).trim());
    }
    let nchan = Command::new("dpkg-query")
        .args(["-W", "libnginx-mod-nchan"])
        .output();
    if let Ok(nchan) = nchan {
        println!("  {}", String::from_utf8_lossy(&nchan.stdout).trim());
    }
}
