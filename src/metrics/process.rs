//! Figures of the process, under the names that all Prometheus clients use. Only for Linux.

use std::fmt::Write as _;
use std::fs;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// Returns the metrics of this process as OpenMetrics text, without an end. Empty if the system
/// hides them.
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

/// Returns the figures, or `None` if `/proc` is hidden.
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
            started(field(22)? / ticks),
        ),
    ])
}

/// Returns the Unix time of the start of the process, which was this long after the boot. Computed
/// once, so that a changed clock does not look like a restart. Not from `/proc/stat`, which a service
/// with `ProcSubset=pid` does not see.
fn started(after_boot: f64) -> f64 {
    static START: OnceLock<f64> = OnceLock::new();
    *START.get_or_init(|| {
        let up = clock_gettime(ClockId::Boottime);
        let up = Duration::try_from(up).unwrap_or_default();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let boot = now.unwrap_or_default().saturating_sub(up);
        (boot.as_secs_f64() + after_boot).round()
    })
}
