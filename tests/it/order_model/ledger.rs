//! A ledger of the entries of a run: which are finished, and which a worker may get.

use std::collections::HashMap;

/// The knowledge about an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// Not finished.
    Open,
    /// Possibly finished: a call was sent, and its answer is not known.
    Maybe,
    /// Finished.
    Done,
}

#[derive(Debug)]
struct Line {
    id: String,
    known: Known,
    /// Number of calls that may have finished the entry.
    attempts: usize,
    /// End of the last lease that a worker got, in microseconds; 0 once it may have been handed back.
    until_us: u64,
}

/// The ledger of a run.
pub struct Ledger {
    /// The entries of each key, in stream order.
    keys: HashMap<String, Vec<Line>>,
    pub violations: Vec<String>,
    pub received: usize,
    pub acked: usize,
    pub nacked: usize,
    pub rejected: usize,
    pub lost: usize,
}

impl Ledger {
    pub fn new(entries: &[(String, String)]) -> Self {
        let mut keys: HashMap<String, Vec<Line>> = HashMap::new();
        for (key, id) in entries {
            keys.entry(key.clone()).or_default().push(Line {
                id: id.clone(),
                known: Known::Open,
                attempts: 0,
                until_us: 0,
            });
        }
        Self {
            keys,
            violations: Vec::new(),
            received: 0,
            acked: 0,
            nacked: 0,
            rejected: 0,
            lost: 0,
        }
    }

    fn line(&mut self, key: &str, id: &str) -> &mut Line {
        let lines = self.keys.get_mut(key).unwrap();
        lines.iter_mut().find(|line| line.id == id).unwrap()
    }

    /// A worker received an entry with a lease from `from_us` to `until_us`.
    pub fn receive(&mut self, key: &str, id: &str, from_us: u64, until_us: u64) {
        self.received += 1;
        let lines = &self.keys[key];
        let at = lines.iter().position(|line| line.id == id).unwrap();
        let open = lines[..at].iter().find(|line| line.known == Known::Open);
        let mut found = Vec::new();
        if let Some(open) = open {
            found.push(format!("{key}: {id} came while {} is open", open.id));
        }
        let line = &lines[at];
        if line.known == Known::Done {
            found.push(format!("{key}: {id} came after it was finished"));
        }
        // Times are shown in milliseconds.
        if line.until_us > from_us + 2000 {
            found.push(format!("{key}: {id} was lent twice"));
        }
        self.violations.extend(found);
        self.line(key, id).until_us = until_us;
    }

    /// A worker sends a call that ends its lease, or finishes the entry.
    pub fn attempt(&mut self, key: &str, id: &str, finishes: bool) {
        let line = self.line(key, id);
        line.until_us = 0;
        if finishes {
            line.attempts += 1;
        }
        if finishes && line.known == Known::Open {
            line.known = Known::Maybe;
        }
    }

    /// The call was answered. A lost lease says nothing of a call of another worker, which may have
    /// finished the entry before, and whose answer is still to come.
    pub fn settle(&mut self, key: &str, id: &str, finishes: bool, outcome: &str) {
        let line = self.line(key, id);
        if finishes && outcome == "lease-lost" {
            line.attempts -= 1;
        }
        match outcome {
            "acknowledged" | "dead-lettered" | "not-pending" => line.known = Known::Done,
            "lease-lost" if line.known == Known::Maybe && line.attempts == 0 => {
                line.known = Known::Open;
            }
            _ => {}
        }
        match outcome {
            "acknowledged" => self.acked += 1,
            "dead-lettered" => self.rejected += 1,
            "released" => self.nacked += 1,
            "lease-lost" => self.lost += 1,
            _ => {}
        }
    }

    /// An entry that a call may have finished is in the stream and not pending, so it is.
    pub fn is_finished(&self) -> bool {
        self.keys
            .values()
            .flatten()
            .all(|line| line.known == Known::Done)
    }

    /// Entries that are not known to be finished.
    pub fn open(&self) -> Vec<String> {
        let lines = self
            .keys
            .iter()
            .flat_map(|(key, lines)| lines.iter().map(move |line| (key, line)));
        let open = lines.filter(|(_, line)| line.known != Known::Done);
        open.take(20)
            .map(|(key, line)| format!("{key} {} {:?}", line.id, line.known))
            .collect()
    }

    /// Marks entries as finished that a call may have finished, unless they are pending.
    pub fn resolve(&mut self, pending: &std::collections::HashSet<String>) {
        for line in self.keys.values_mut().flatten() {
            if line.known == Known::Maybe && !pending.contains(&line.id) {
                line.known = Known::Done;
            }
        }
    }

    pub fn summary(&self) -> String {
        format!(
            "{} received, {} acked, {} nacked, {} rejected, {} leases lost",
            self.received, self.acked, self.nacked, self.rejected, self.lost
        )
    }
}
