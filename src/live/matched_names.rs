//! The names of the streams found for one prefix.
//!
//! Names are added by scans of all keys and by appends through this gateway. A name stays until a
//! scan does not find it or a check finds it deleted. The list may therefore contain more names
//! than there are streams. Only names confirmed by a check count against the limit of a
//! subscription.

use std::collections::HashMap;

use crate::model::cursor::MAX_STREAMS;
use crate::model::name::StreamName;

/// Maximum number of names kept, including streams that are created and deleted between two scans.
pub(super) const MAX_NAMES: usize = 4 * MAX_STREAMS;

/// The known names for one prefix.
#[derive(Default)]
pub(super) struct MatchedNames {
    names: HashMap<StreamName, Seen>,
    /// The number of the last started scan.
    scan: u64,
    /// Whether a name was dropped because there were [`MAX_NAMES`].
    missed: bool,
}

struct Seen {
    /// The number of the last scan that found the name.
    scan: u64,
    /// Whether the last check found the stream.
    confirmed: bool,
}

impl MatchedNames {
    /// Adds a name. Returns true if it is new.
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

    /// Returns whether the maximum number of names is reached.
    pub(super) fn is_full(&self) -> bool {
        self.names.len() >= MAX_NAMES
    }

    /// Returns whether a name was dropped although there is space now.
    pub(super) fn lacks_some(&self) -> bool {
        self.missed && !self.is_full()
    }

    /// Starts a scan.
    pub(super) fn begin_scan(&mut self) {
        self.scan += 1;
        self.missed = false;
    }

    /// Ends a scan. If it is `complete`, it covered all keys, and the names it did not find are
    /// removed. Returns true if names were removed.
    pub(super) fn end_scan(&mut self, complete: bool) -> bool {
        let (before, scan) = (self.names.len(), self.scan);
        self.names.retain(|_, seen| !complete || seen.scan >= scan);
        self.names.len() != before
    }

    /// Starts a check and returns the names to check. No name is confirmed until the check ends.
    pub(super) fn begin_check(&mut self) -> Vec<StreamName> {
        self.names
            .values_mut()
            .for_each(|seen| seen.confirmed = false);
        self.names.keys().cloned().collect()
    }

    /// Ends a check: confirms the names that exist and removes the others.
    pub(super) fn end_check(&mut self, names: &[StreamName], exist: &[bool]) {
        for (name, exists) in names.iter().zip(exist) {
            match self.names.get_mut(name) {
                Some(seen) if *exists => seen.confirmed = true,
                _ => drop(self.names.remove(name)),
            }
        }
    }

    /// Returns all names, each with whether the last check confirmed it.
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
        assert!(names.lacks_some(), "one name was dropped");
        names.add(name(9_999));
        let mut all: Vec<_> = names.all().map(|(name, is)| (name.clone(), is)).collect();
        all.sort_by_key(|(_, confirmed)| !confirmed);
        assert_eq!(all, [(name(7), true), (name(9_999), false)]);
        names.begin_check();
        assert!(
            names.all().all(|(_, confirmed)| !confirmed),
            "an old check confirms nothing"
        );
    }
}
