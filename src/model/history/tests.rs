//! Simulated histories with a list of all entries ever added. Everything that the counters prove
//! must be true.

use crate::model::history::*;
use proptest::prelude::*;

/// A stream as Redis keeps it, with a list of all entries it was ever given.
#[derive(Default)]
struct Oracle {
    given: Vec<EntryId>,
    kept: Vec<EntryId>,
    max_deleted: EntryId,
    holes: bool,
    /// The sequence part of the ids of added entries. Each fork has its own.
    sequence: u64,
}

impl Oracle {
    /// Returns another server with the same stream, which continues with ids of its own. With 0,
    /// both continue with the same ids.
    fn fork(&self, sequence: u64) -> Self {
        let (given, kept) = (self.given.clone(), self.kept.clone());
        Self {
            given,
            kept,
            max_deleted: self.max_deleted,
            holes: self.holes,
            sequence,
        }
    }

    fn run(&mut self, steps: &[Step]) {
        for step in steps {
            self.apply(step);
        }
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::Add(many) => {
                for _ in 0..*many {
                    let id = EntryId::new(self.given.len() as u64 + 1, self.sequence);
                    self.given.push(id);
                    self.kept.push(id);
                }
            }
            Step::Trim(keep) => {
                let surplus = self.kept.len().saturating_sub(*keep);
                self.kept.drain(..surplus);
            }
            Step::Delete(index) if !self.kept.is_empty() => {
                let id = self.kept.remove(index % self.kept.len());
                self.max_deleted = self.max_deleted.max(id);
            }
            Step::Punch(index) if self.holes && !self.kept.is_empty() => {
                self.kept.remove(index % self.kept.len());
            }
            Step::Delete(_) | Step::Punch(_) => {}
        }
    }

    fn facts(&self) -> StreamCounters {
        StreamCounters {
            exists: true,
            length: self.kept.len() as u64,
            entries_added: Some(self.given.len() as u64),
            last_id: self.given.last().copied().unwrap_or_default(),
            oldest: self.kept.first().copied(),
            newest: self.kept.last().copied(),
            max_deleted: self.max_deleted,
            untraced_holes: self.holes,
        }
    }

    /// Returns the standing of a position from the evidence of a read of `limit` entries.
    fn standing(&self, position: Position, limit: usize) -> PositionStatus {
        let after = self.kept.iter().filter(|kept| **kept > position.id).count();
        let evidence = Evidence {
            entry_exists: Some(self.kept.contains(&position.id)),
            entries_after: after.min(limit) as u64,
            to_tail: after <= limit,
        };
        self.facts().standing(position, evidence)
    }

    fn lost_after(&self, id: EntryId) -> u64 {
        self.given
            .iter()
            .filter(|given| **given > id && !self.kept.contains(given))
            .count() as u64
    }
}

#[derive(Clone, Debug)]
enum Step {
    Add(usize),
    Trim(usize),
    Delete(usize),
    Punch(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(
        prop_oneof![
            4 => (1usize..6).prop_map(Step::Add),
            2 => (0usize..8).prop_map(Step::Trim),
            1 => (0usize..20).prop_map(Step::Delete),
            1 => (0usize..20).prop_map(Step::Punch),
        ],
        0..24,
    )
}

proptest! {
    #[test]
    fn every_number_given_is_the_true_one(steps in steps(), holes: bool, from in 0usize..30, size in 1usize..9, counted: bool) {
        let mut oracle = Oracle { holes, ..Oracle::default() };
        oracle.run(&steps);
        let from = from.min(oracle.given.len());
        let id = from.checked_sub(1).map_or(EntryId::MIN, |index| oracle.given[index]);
        let after = Position::new(id, counted.then_some(from as u64));
        let rest: Vec<EntryId> = oracle.kept.iter().copied().filter(|kept| *kept > id).collect();
        let page = &rest[..size.min(rest.len())];
        for (id, n) in page.iter().zip(oracle.facts().number(after, page, page.len() == rest.len())) {
            prop_assert!(n.is_none_or(|n| n == id.ms), "{} was numbered {:?}", id, n);
        }
    }

    #[test]
    fn a_loss_is_counted_exactly_or_not_at_all(before in steps(), since in steps(), holes: bool, limit in 0usize..20) {
        let mut oracle = Oracle { holes, ..Oracle::default() };
        oracle.run(&before);
        let facts = oracle.facts();
        let start = if oracle.kept.is_empty() { facts.tail() } else { Position::OLDEST };
        let numbers = facts.number(start, &oracle.kept, true);
        let read: Vec<Position> = oracle.kept.iter().zip(numbers).map(|(id, n)| Position::new(*id, n)).collect();
        let gap = (facts.after_gap(), oracle.lost_after(facts.after_gap().id));
        oracle.run(&since);
        let facts = oracle.facts();
        for (position, told) in read.into_iter().map(|position| (position, 0)).chain([gap]) {
            let lost = oracle.lost_after(position.id) - told;
            match oracle.standing(position, limit) {
                PositionStatus::Intact => {
                    let below = facts.oldest.is_none_or(|oldest| position.id < oldest);
                    prop_assert!(!below || lost == 0, "{position}: {lost} entries lost without notice");
                }
                PositionStatus::Overtaken { lost: Some(told) } => {
                    prop_assert!(told > 0);
                    prop_assert_eq!(told, lost, "{}", position);
                }
                PositionStatus::Overtaken { lost: None } => prop_assert!(position.n.is_none()),
                PositionStatus::Reset => prop_assert!(false, "{position} was taken for another stream's"),
            }
        }
    }

    #[test]
    fn a_stream_made_anew_is_never_taken_for_the_old_one(old in 1usize..20, new in 0usize..40) {
        let mut oracle = Oracle::default();
        oracle.apply(&Step::Add(old));
        let position = oracle.facts().tail();
        let kept = (0..new).map(|index| EntryId::new((old + 1 + index) as u64, 0)).collect::<Vec<_>>();
        let anew = Oracle { given: kept.clone(), kept, ..Oracle::default() };
        prop_assert_eq!(anew.facts().standing(position, Evidence::default()), PositionStatus::Reset);
    }

    #[test]
    fn a_diverged_history_is_noticed_wherever_an_entry_is_missed_that_must_be_there(
        before in steps(), old in steps(), new in steps(), shift in 1u64..3,
    ) {
        // Both servers had these entries. Then each continued with ids of its own.
        let mut common = Oracle::default();
        common.run(&before);
        let (mut left, mut right) = (common.fork(0), common.fork(shift));
        left.run(&old);
        right.run(&new);
        let tail = left.facts().tail();
        let standing = right.standing(tail, usize::MAX);
        if right.facts().must_hold(tail.id) && tail.n.is_some() && !right.kept.contains(&tail.id) {
            prop_assert_eq!(standing, PositionStatus::Reset);
        }
        if left.given == right.given[..left.given.len().min(right.given.len())] {
            prop_assert_ne!(standing, PositionStatus::Reset, "{} is in both", tail);
        }
    }
}

#[test]
fn most_diverged_histories_are_noticed() {
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut draw = || steps().new_tree(&mut runner).unwrap().current();
    let (mut diverged, mut noticed, mut by_counts) = (0, 0, 0);
    for round in 0..2000 {
        let mut common = Oracle::default();
        common.run(&draw());
        let (mut left, mut right) = (common.fork(0), common.fork(1 + round % 3));
        left.run(&draw());
        right.run(&draw());
        let tail = left.facts().tail();
        if right.given.contains(&tail.id) || left.given.len() == common.given.len() {
            continue;
        }
        diverged += 1;
        let counts = right.facts().standing(tail, Evidence::default());
        by_counts += u32::from(counts == PositionStatus::Reset);
        noticed += u32::from(right.standing(tail, usize::MAX) == PositionStatus::Reset);
    }
    // Counts alone notice about half of them.
    assert!(
        noticed * 100 > diverged * 65,
        "{noticed} of {diverged}, {by_counts} by counts alone"
    );
    assert!(
        noticed > by_counts,
        "{noticed} of {diverged}, {by_counts} by counts alone"
    );
}

#[test]
fn a_last_id_that_is_no_entry_carries_no_count() {
    let mut oracle = Oracle::default();
    oracle.apply(&Step::Add(5));
    let set = StreamCounters {
        last_id: EntryId::new(9, 0),
        entries_added: Some(9),
        ..oracle.facts()
    };
    assert_eq!(set.tail(), Position::from(EntryId::new(9, 0)));
    // The entry was deleted, or trimmed with all others, so it is not looked up.
    oracle.apply(&Step::Delete(4));
    assert_eq!(oracle.facts().tail().n, Some(5));
    oracle.apply(&Step::Trim(0));
    assert_eq!(oracle.facts().tail().n, Some(5));
}

#[test]
fn right_before_the_oldest_entry_nothing_is_lost() {
    let mut oracle = Oracle::default();
    oracle.apply(&Step::Add(10));
    oracle.apply(&Step::Trim(4));
    let before = Position::from(oracle.facts().after_gap().id);
    assert_eq!(oracle.standing(before, 9), PositionStatus::Intact);
    assert_eq!(
        oracle.standing(Position::from(EntryId::new(2, 0)), 9),
        PositionStatus::Overtaken { lost: None }
    );
}

#[test]
fn a_reader_who_is_caught_up_is_not_overtaken_by_trimming() {
    let mut oracle = Oracle::default();
    oracle.apply(&Step::Add(10));
    let tail = oracle.facts().tail();
    oracle.apply(&Step::Trim(0));
    assert_eq!(oracle.standing(tail, 9), PositionStatus::Intact);
    assert_eq!(
        oracle.standing(Position::from(tail.id), 9),
        PositionStatus::Intact
    );
}

#[test]
fn the_oldest_is_never_overtaken_but_the_counted_beginning_is() {
    let mut oracle = Oracle::default();
    oracle.apply(&Step::Add(10));
    oracle.apply(&Step::Trim(4));
    assert_eq!(oracle.standing(Position::OLDEST, 9), PositionStatus::Intact);
    assert_eq!(
        oracle.standing(Position::START, 9),
        PositionStatus::Overtaken { lost: Some(6) }
    );
}
