//! Benchmarks of live delivery, compared with nchan through the same Redis and with the floor: one
//! `write` for each delivery. `make bench-live` installs the dependencies.
//!
//! Everything runs on one machine, including the subscribers, so only the ratios mean anything.
//! Rounds alternate between the servers, and each figure is the median of its rounds. Every
//! subscriber checks that it receives every entry once and in order. A lost entry shows up in the
//! table.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark that cannot go on fails"
)]
#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures are rounded anyway"
)]

#[path = "live/beside.rs"]
mod beside;
#[path = "live/crowd.rs"]
mod crowd;
#[path = "live/fanout.rs"]
mod fanout;
#[path = "live/feed.rs"]
mod feed;
#[path = "live/floor.rs"]
mod floor;
mod histogram;
#[path = "live/idle.rs"]
mod idle;
#[path = "live/latency.rs"]
mod latency;
mod process;
#[path = "live/publish.rs"]
mod publish;
#[path = "live/reconnect.rs"]
mod reconnect;
#[path = "live/report.rs"]
mod report;
#[path = "live/servers.rs"]
mod servers;
#[path = "live/sockets.rs"]
mod sockets;
#[path = "live/streams.rs"]
mod streams;
#[path = "live/waiters.rs"]
mod waiters;
#[path = "live/ways.rs"]
mod ways;

use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use publish::Clock;

/// The scenarios by name, with the number of subscribers or waiting reads of each.
type Scenario = fn(&Run, usize);
const SCENARIOS: [(&str, Scenario, usize); 10] = [
    ("paced", fanout::paced, 1000),
    ("saturated", fanout::saturated, 1000),
    ("beside", beside::publish, 5000),
    ("idle-memory", idle::memory, 10_000),
    ("idle-ways", idle::ways, 10_000),
    ("come-and-go", idle::come_and_go, 9500),
    ("many-streams", streams::many, 10_000),
    ("waiters", waiters::wait, 5000),
    ("reconnect", reconnect::all_at_once, 5000),
    ("latency", latency::one, 1),
];

/// The options that take a number; see `Run`.
const OPTIONS: [&str; 7] = [
    "--seconds",
    "--rounds",
    "--subscribers",
    "--rate",
    "--size",
    "--lanes",
    "--ahead",
];

/// The options of a run, besides the names of scenarios.
struct Run {
    clock: Clock,
    /// Duration of each measurement.
    time: Duration,
    rounds: usize,
    /// Entries per second, instead of the default of the scenario.
    rate: Option<f64>,
    /// Size of an entry, in bytes.
    size: usize,
    /// Number of concurrent publishing connections to nchan in the saturated scenario.
    lanes: usize,
    /// Maximum lead of the publishers over the slowest subscriber in that scenario, in entries.
    ahead: u64,
}

fn main() {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| arg != "--bench")
        .collect();
    let value = |name: &str| {
        let at = args.iter().position(|arg| arg == name)?;
        Some(
            args.get(at + 1)
                .unwrap_or_else(|| panic!("{name} needs a value"))
                .as_str(),
        )
    };
    if let Some(port) = value("--floor") {
        return floor::serve(port);
    }
    let number = |name: &str| -> Option<f64> {
        Some(
            value(name)?
                .parse()
                .unwrap_or_else(|_| panic!("{name} needs a number")),
        )
    };
    let mut names = Vec::new();
    let mut rest = args.iter().map(String::as_str);
    while let Some(arg) = rest.next() {
        if OPTIONS.contains(&arg) {
            rest.next();
        } else if SCENARIOS.iter().any(|(known, ..)| *known == arg) {
            names.push(arg);
        } else {
            let known = SCENARIOS.map(|(name, ..)| name).join(", ");
            panic!(
                "{arg}: neither a scenario ({known}) nor an option ({})",
                OPTIONS.join(", ")
            );
        }
    }
    streamgate::net::tls::install_provider();
    let most = number("--subscribers").unwrap_or(10_000.0) as usize;
    raise_limits(most + 1000);
    let run = Run {
        clock: Clock::start(),
        time: Duration::from_secs_f64(number("--seconds").unwrap_or(5.0)),
        rounds: number("--rounds").map_or(3, |rounds| rounds as usize),
        rate: number("--rate"),
        size: number("--size").map_or(200, |size| size as usize),
        ahead: number("--ahead").map_or(fanout::AHEAD, |ahead| ahead as u64),
        lanes: number("--lanes").map_or(fanout::LANES, |lanes| lanes as usize),
    };
    for program in ["redis-server", "nginx"] {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&path).any(|dir| dir.join(program).is_file());
        assert!(found, "{program} is not installed: run `make bench-live`");
    }
    report::machine();
    for (name, scenario, subscribers) in SCENARIOS {
        if names.is_empty() || names.contains(&name) {
            let subscribers = number("--subscribers").map_or(subscribers, |count| count as usize);
            scenario(&run, subscribers);
        }
    }
}

/// Restarts the process with the maximum number of open files if the current limit is too low.
fn raise_limits(needed: usize) {
    if servers::open_files() >= needed {
        return;
    }
    let again = "limit=$(ulimit -Hn); if [ \"$(ulimit -Sn)\" = \"$limit\" ]; then \
        echo \"not enough open files are allowed: $limit\" >&2; exit 1; fi; \
        ulimit -n \"$limit\"; exec \"$0\" \"$@\"";
    let own = std::env::current_exe().unwrap();
    let mut command = Command::new("sh");
    let error = command
        .arg("-c")
        .arg(again)
        .arg(own)
        .args(std::env::args_os().skip(1))
        .exec();
    panic!("more than {needed} open files are needed: {error}");
}
