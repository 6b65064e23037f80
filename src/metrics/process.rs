//! Figures of the process, under the names that all Prometheus clients use. Only Linux has them.

use std::fmt::Write as _;
use std::fs;

use rustix::process::{Resource, getrlimit};

/// Returns the metrics of this process as OpenMetrics text, without an end. Empty where the system
/// does not tell.
pub(super) fn text() -> String {
    let mut text = String::new();
    for (name, kind, help, value) in figures().into_iter().flatten() {
        let (series, unit) = match kind {
            "counter" => (format!("{name}_total"), "seconds"),
            _ => (name.to_owned(), ""),
        };
        // Writing into a `String` cannot fail.
        let _ = writeln!(text, "# HELP {name} {help}.\n# TYPE {name} {kind}");
        if !unit.is_empty() {
            let _ = writeln!(text, "# UNIT {name} {unit}");
        }
        let _ = writeln!(text, "{series} {value}");
    }
    text
}

type Figure = (&'static str, &'static str, &'static str, f64);

/// Returns the figures, or `None` on a system without `/proc`.
#[expect(clippy::cast_precision_loss, reason = "all figures are far below 2^53")]
fn figures() -> Option<[Figure; 6]> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program, in parentheses, may contain spaces.
    let (_, fields) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let page = rustix::param::page_size() as f64;
    let descriptors = fs::read_dir("/proc/self/fd").ok()?.count() as f64;
    let most = getrlimit(Resource::Nofile).current;
    let since_boot = fs::read_to_string("/proc/stat").ok()?;
    let boot = since_boot
        .lines()
        .find_map(|line| line.strip_prefix("btime ")?.trim().parse::<f64>().ok())?;
    Some([
        (
            "process_cpu_seconds",
            "counter",
            "Processor time of the process",
            (field(14)? + field(15)?) / ticks,
        ),
        (
            "process_resident_memory_bytes",
            "gauge",
            "Resident memory of the process",
            field(24)? * page,
        ),
        (
            "process_virtual_memory_bytes",
            "gauge",
            "Virtual memory of the process",
            field(23)?,
        ),
        (
            "process_open_fds",
            "gauge",
            "Open file descriptors",
            descriptors,
        ),
        (
            "process_max_fds",
            "gauge",
            "Maximum number of open file descriptors",
            most.map_or(f64::INFINITY, |most| most as f64),
        ),
        (
            "process_start_time_seconds",
            "gauge",
            "Start of the process, in Unix seconds",
            boot + field(22)? / ticks,
        ),
    ])
}
