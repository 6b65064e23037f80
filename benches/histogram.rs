//! Histogram of times in µs, with a precision of 1 %.
#![allow(dead_code, reason = "each benchmark uses a part")]

/// Values below this limit have a count each. Above it, each power of two has half as many counts.
const FINE: u64 = 256;

#[derive(Clone, Default)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

impl Histogram {
    pub fn add(&mut self, micros: u64) {
        let shift = u64::from((micros / FINE).checked_ilog2().map_or(0, |bits| bits + 1));
        let index = usize::try_from(shift * FINE / 2 + (micros >> shift)).unwrap();
        if self.counts.len() <= index {
            self.counts.resize(index + 1, 0);
        }
        self.counts[index] += 1;
        self.total += 1;
        self.max = self.max.max(micros);
    }

    /// Adds the counts of another histogram.
    pub fn merge(&mut self, other: &Self) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
        self.max = self.max.max(other.max);
    }

    pub fn count(&self) -> u64 {
        self.total
    }

    pub fn max_ms(&self) -> f64 {
        self.max as f64 / 1000.0
    }

    /// Returns a percentile in milliseconds; 0 if nothing was counted.
    pub fn percentile_ms(&self, percent: f64) -> f64 {
        let wanted = (self.total as f64 * percent / 100.0).ceil().max(1.0);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen as f64 >= wanted {
                let index = index as u64;
                let shift = (index / (FINE / 2)).saturating_sub(1);
                return ((index - shift * FINE / 2) << shift) as f64 / 1000.0;
            }
        }
        0.0
    }
}
