//! The streams found for one prefix.
//!
//! A scan over all keys and appends through this gateway add names. A name stays until a scan does
//! not find it or a check finds it gone. So there may be more names here than streams that exist:
//! that there are too many is only said of names that a check has confirmed.

use std::collections::HashMap;

use crate::model::cursor::MAX_STREAMS;
use crate::model::name::StreamName;

/// The most names kept: those of streams that come and go between two scans, too.
pub(super) const MAX_NAMES: usize = 4 * MAX_STREAMS;

/// Names with what is known of each.
#[derive(Default)]
pub(super) struct MatchedNames {
    names: HashMap<StreamName, Seen>,
    /// The number of the last scan that was begun.
    scan: u64,
    /// A name was left out because there were [`MAX_NAMES`].
    missed: bool,
}

struct Seen {
    /// The scan that found it last.
    scan: u64,
    /// The last check found that it exists.
    confirmed: bool,
}

impl MatchedNames {
    /// Adds a name. True if it is new.
    pub(super) fn add(&mut self, stream: StreamName) -> bool {
        let scan = self.scan;
        if let Some(seen) = self.names.get_mut(&stream) {
            seen.scan = scan;
            return false;
        }
        if self.is_full() {
            self.missed = true;
            return false;
        }
        self.names
            .insert(
                stream,
                Seen {
                    scan,
                    confirmed: false,
                },
            )
            .is_none()
    }

    /// Whether no more names are kept.
    pub(super) fn is_full(&self) -> bool {
        self.names.len() >= MAX_NAMES
    }

    /// Whether a name was left out that there is room for now.
    pub(super) fn lacks_some(&self) -> bool {
        self.missed && !self.is_full()
    }

    /// Begins a scan.
    pub(super) fn begin_scan(&mut self) {
        self.scan += 1;
        self.missed = false;
    }

    /// Ends a scan, which looked at all keys if it is `complete`: then what it did not find is gone.
    /// True if names are gone.
    pub(super) fn end_scan(&mut self, complete: bool) -> bool {
        let (before, scan) = (self.names.len(), self.scan);
        self.names.retain(|_, seen| !complete || seen.scan >= scan);
        self.names.len() != before
    }

    /// Begins a check: answers the names to look at. None is confirmed until it ends.
    pub(super) fn begin_check(&mut self) -> Vec<StreamName> {
        self.names
            .values_mut()
            .for_each(|seen| seen.confirmed = false);
        self.names.keys().cloned().collect()
    }

    /// Ends a check with whether each of the names exists.
    pub(super) fn end_check(&mut self, names: &[StreamName], exist: &[bool]) {
        for (name, exists) in names.iter().zip(exist) {
            match self.names.get_mut(name) {
                Some(seen) if *exists => seen.confirmed = true,
                _ => drop(self.names.remove(name)),
            }
        }
    }

    /// All names, each with whether the last check confirmed it.
    pub(super) fn all(&self) -> impl Iterator<Item = (&StreamName, bool)> {
        self.names.iter().map(|(name, seen)| (name, seen.confirmed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(n: usize) -> StreamName {
        StreamName::new(&format!("s{n}")).unwrap()
    }

    #[test]
    fn what_a_complete_scan_does_not_find_is_gone() {
        let mut names = MatchedNames::default();
        names.add(name(1));
        names.begin_scan();
        names.add(name(2));
        assert!(!names.end_scan(false));
        assert!(names.end_scan(true));
        assert_eq!(
            names.all().map(|(name, _)| name).collect::<Vec<_>>(),
            [&name(2)]
        );
    }

    #[test]
    fn a_check_confirms_what_exists_and_removes_what_does_not() {
        let mut names = MatchedNames::default();
        (0..=MAX_NAMES).for_each(|n| {
            names.add(name(n));
        });
        assert!(names.is_full() && !names.lacks_some());
        let checked = names.begin_check();
        let exist: Vec<bool> = checked.iter().map(|checked| *checked == name(7)).collect();
        names.end_check(&checked, &exist);
        assert!(names.lacks_some(), "one was left out");
        names.add(name(9_999));
        let mut all: Vec<_> = names.all().map(|(name, is)| (name.clone(), is)).collect();
        all.sort_by_key(|(_, confirmed)| !confirmed);
        assert_eq!(all, [(name(7), true), (name(9_999), false)]);
        names.begin_check();
        assert!(
            names.all().all(|(_, confirmed)| !confirmed),
            "an old check says nothing"
        );
    }
}
