//! Guards that raise a gauge while they live.

use prometheus_client::metrics::gauge::Gauge;

/// A guard that lowers its gauge by one when dropped.
pub struct GaugeGuard(pub(super) Gauge);

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A guard that lowers its gauge by the bytes it holds when dropped.
pub struct GaugeBytesGuard {
    pub(super) gauge: Gauge,
    pub(super) bytes: i64,
}

impl GaugeBytesGuard {
    /// Changes the held amount to `bytes`. Returns false, and changes nothing, if the amount grows
    /// and the gauge would exceed `limit`.
    #[must_use]
    pub fn resize(&mut self, bytes: u64, limit: usize) -> bool {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let more = bytes - self.bytes;
        let after = self.gauge.inc_by(more).saturating_add(more);
        if more > 0 && usize::try_from(after).is_ok_and(|after| after > limit) {
            self.gauge.dec_by(more);
            return false;
        }
        self.bytes = bytes;
        true
    }
}

impl Drop for GaugeBytesGuard {
    fn drop(&mut self) {
        self.gauge.dec_by(self.bytes);
    }
}
