//! A ledger of the entries of a run: which are finished, and which a worker may get.

use std::collections::HashMap;

/// The knowledge about an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// Not finished.
    Open,
    /// Possibly finished: a call was sent, and its answer is not known.
    Maybe,
    /// Dead-lettered, and its key waits for the dead letter.
    Blocking,
    /// Finished.
    Done,
}

#[derive(Debug)]
struct Line {
    id: String,
    known: Known,
    /// Number of calls that may have finished the entry.
    attempts: usize,
    /// Start and end of the last lease that a worker got, in microseconds; 0 once it may have been
    /// handed back.
    lease_us: (u64, u64),
    /// The time by which the entry was finished, in microseconds.
    done_us: u64,
}

impl Line {
    /// Leases that began before may still be reported: their answers took longer.
    fn finish(&mut self) {
        if self.known != Known::Done {
            self.known = Known::Done;
            self.done_us = now_us();
        }
    }
}

/// The gateways and Redis are on this machine, so it is their time, too.
fn now_us() -> u64 {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap();
    u64::try_from(now.as_micros()).unwrap()
}

/// The ledger of a run.
pub struct Ledger {
    /// The entries of each key, in stream order.
    keys: HashMap<String, Vec<Line>>,
    /// Whether a key waits for its dead letters.
    blocks: bool,
    pub violations: Vec<String>,
    pub received: usize,
    pub acked: usize,
    pub nacked: usize,
    pub rejected: usize,
    pub redriven: usize,
    pub lost: usize,
}

impl Ledger {
    pub fn new(entries: &[(String, String)], blocks: bool) -> Self {
        let mut keys: HashMap<String, Vec<Line>> = HashMap::new();
        for (key, id) in entries {
            keys.entry(key.clone()).or_default().push(Line {
                id: id.clone(),
                known: Known::Open,
                attempts: 0,
                lease_us: (0, 0),
                done_us: 0,
            });
        }
        Self {
            keys,
            blocks,
            violations: Vec::new(),
            received: 0,
            acked: 0,
            nacked: 0,
            rejected: 0,
            redriven: 0,
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
        let earlier = lines[..at].iter();
        let mut found: Vec<_> = earlier
            .filter(|line| matches!(line.known, Known::Open | Known::Blocking))
            .map(|line| format!("{key}: {id} came while {} is {:?}", line.id, line.known))
            .collect();
        let line = &lines[at];
        // Times are shown in milliseconds.
        if line.known == Known::Done && from_us > line.done_us + 2000 {
            found.push(format!("{key}: {id} came after it was finished"));
        }
        if line.known == Known::Blocking {
            found.push(format!("{key}: {id} came although it is a dead letter"));
        }
        let (other_from, other_until) = line.lease_us;
        if other_until > from_us + 2000 && until_us > other_from + 2000 {
            found.push(format!("{key}: {id} was lent twice"));
        }
        self.violations.extend(found);
        self.line(key, id).lease_us = (from_us, until_us);
    }

    /// A worker sends a call that ends its lease, or finishes the entry.
    pub fn attempt(&mut self, key: &str, id: &str, finishes: bool) {
        let line = self.line(key, id);
        line.lease_us = (0, 0);
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
        let blocks = self.blocks;
        let line = self.line(key, id);
        if finishes {
            line.attempts -= 1;
        }
        let is_open_question = line.known == Known::Maybe && line.attempts == 0;
        match outcome {
            // The letter may already be deleted or redriven.
            "dead-lettered" if blocks && is_open_question => line.known = Known::Blocking,
            "dead-lettered" | "not-pending" if blocks => {}
            "acknowledged" | "dead-lettered" | "not-pending" => line.finish(),
            "lease-lost" if is_open_question => line.known = Known::Open,
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

    /// A call that deletes or redrives a dead letter is sent.
    pub fn release(&mut self, key: &str, id: &str) {
        let line = self.line(key, id);
        line.attempts += 1;
        if line.known == Known::Blocking {
            line.known = Known::Maybe;
        }
    }

    /// The call was answered: the letter was deleted or redriven.
    pub fn released(&mut self, key: &str, id: &str, is_redriven: bool) {
        let line = self.line(key, id);
        line.attempts -= 1;
        if !is_redriven {
            line.finish();
        } else if line.known == Known::Maybe && line.attempts == 0 {
            line.known = Known::Open;
        }
        self.redriven += usize::from(is_redriven);
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

    /// Marks entries as finished that a call may have finished, unless they are `held`: pending, or
    /// dead letters.
    pub fn resolve(&mut self, held: &std::collections::HashSet<String>) {
        for line in self.keys.values_mut().flatten() {
            if line.known == Known::Maybe && !held.contains(&line.id) {
                line.finish();
            }
        }
    }

    pub fn summary(&self) -> String {
        format!(
            "{} received, {} acked, {} nacked, {} rejected, {} redriven, {} leases lost",
            self.received, self.acked, self.nacked, self.rejected, self.redriven, self.lost
        )
    }
}
