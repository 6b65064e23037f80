//! Times at which subscriptions do something by themselves.

use std::sync::LazyLock;
use std::time::Duration;

use tokio::time::Instant;

/// Distance between the times at which heartbeats are sent, in milliseconds. Those of one thread that
/// are due about the same time go out together, so that thousands of idle subscriptions wake their
/// thread twenty times a second at most. A wake-up costs several times as much as a heartbeat.
const GRID_MS: u64 = 50;

/// Randomizes a duration by ±20 %, so that subscriptions opened together do not stay in step.
pub(super) fn spread(duration: Duration) -> Duration {
    duration.mul_f64(0.8 + 0.4 * fastrand::f64())
}

/// Returns the next time for a heartbeat that is due at `due`.
pub(super) fn on_grid(due: Instant) -> Instant {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let since = due.saturating_duration_since(*START).as_millis();
    // Intervals are bounded, so this is far from the end of time.
    let since = u64::try_from(since).unwrap_or(u64::MAX / 2);
    *START + Duration::from_millis((since / GRID_MS + 1) * GRID_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heartbeats_that_are_due_about_the_same_time_go_out_together() {
        let now = Instant::now();
        let at = |ms: u64| on_grid(now + Duration::from_millis(ms));
        let mut times: Vec<_> = (0..1000).map(at).collect();
        for (ms, time) in (0..).zip(&times) {
            let late = *time - (now + Duration::from_millis(ms));
            assert!(late <= Duration::from_millis(51), "{late:?}");
        }
        times.dedup();
        assert!((20..=22).contains(&times.len()), "{} times", times.len());
    }
}
