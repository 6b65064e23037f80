//! Whose turn it is: the queues of those who wait for entries of a group.
//!
//! There is a queue for each group of each stream. Who waits for several streams stands in all
//! their queues, enters them in one step under one lock with one number, and may read a stream as
//! soon as it is first in the queue of *that* stream. It leaves all its queues at once: when it
//! was served from any of them, when its time is up, or when it is dropped.
//!
//! **Nobody blocks anybody for good.** To be first in one queue is never a reason to wait in
//! another: nobody needs two turns to go on, so there is nothing to deadlock over. (It would be
//! wrong to wait for the turns of all one's streams, in whatever order they are taken: who waits
//! for `a` and `b` behind someone who waits for `a` alone would sleep beside an entry in `b`, and
//! keep everyone behind it from it.) Who is first in `b` is served by the next entry of `b` and is
//! gone from all queues, so the next in line has its turn then, and in the queue of `a`, too.
//!
//! **First come, first served**, stream by stream: numbers grow, queues are in their order, and
//! only leaving changes them. So who is first stays first until it leaves.
//!
//! **No wake-up is lost.** Who leaves the head of a queue calls the next, and a call is kept until
//! it is listened to. Who has a turn follows the stream first and tries to read it after that
//! (`waiting.rs`): what was appended before is found by the try, what is appended later is heard.
//! What is left over by someone served in part is found by the try of the next.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::model::name::{GroupName, StreamName};

/// All queues of a process.
#[derive(Default)]
pub(in crate::live) struct Turns(Mutex<Queues>);

#[derive(Default)]
struct Queues {
    /// The number of the next who comes.
    next: u64,
    /// Those who stand there by their numbers. A queue that nobody stands in is not kept.
    of: HashMap<Key, BTreeMap<u64, Arc<Notify>>>,
}

type Key = (StreamName, GroupName);

/// A place in one or more queues, given up when dropped.
pub(in crate::live) struct Place<'a> {
    turns: &'a Turns,
    number: u64,
    /// One for each stream, in the order they were named.
    queues: Vec<Key>,
    /// Told when it has become first somewhere.
    called: Arc<Notify>,
}

impl Turns {
    /// Stands in the queues of a group of several streams, each named once, behind all who came
    /// before.
    pub(in crate::live) fn stand(&self, streams: &[StreamName], group: &GroupName) -> Place<'_> {
        let queues: Vec<Key> = streams
            .iter()
            .map(|stream| (stream.clone(), group.clone()))
            .collect();
        let called = Arc::new(Notify::new());
        let mut all = self.lock();
        let number = all.next;
        all.next += 1;
        for queue in &queues {
            all.of
                .entry(queue.clone())
                .or_default()
                .insert(number, called.clone());
        }
        drop(all);
        Place {
            turns: self,
            number,
            queues,
            called,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place<'_> {
    /// The streams whose turn it has, as indexes. Once among them, a stream stays there.
    pub(in crate::live) fn first_in(&self) -> Vec<usize> {
        let all = self.turns.lock();
        let is_first = |queue: &Key| {
            all.of
                .get(queue)
                .and_then(BTreeMap::first_key_value)
                .map(|(number, _)| *number)
                == Some(self.number)
        };
        (0..self.queues.len())
            .filter(|index| is_first(&self.queues[*index]))
            .collect()
    }

    /// Until it has become first somewhere. A call that nobody was listening to is kept.
    pub(in crate::live) async fn called(&self) {
        self.called.notified().await;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut all = self.turns.lock();
        for key in &self.queues {
            let Some(queue) = all.of.get_mut(key) else {
                continue;
            };
            let was_first = queue
                .first_key_value()
                .is_some_and(|(first, _)| *first == self.number);
            queue.remove(&self.number);
            match queue.first_key_value() {
                Some((_, next)) if was_first => next.notify_one(),
                Some(_) => {}
                None => {
                    all.of.remove(key);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;
    use proptest::prelude::*;

    fn streams(names: &[usize]) -> Vec<StreamName> {
        names
            .iter()
            .map(|name| StreamName::new(&format!("s{name}")).unwrap())
            .collect()
    }

    fn group() -> GroupName {
        GroupName::new("g").unwrap()
    }

    #[test]
    fn one_turn_is_enough_and_leaving_calls_the_next_everywhere() {
        let turns = Turns::default();
        let a = turns.stand(&streams(&[0]), &group());
        let both = turns.stand(&streams(&[0, 1]), &group());
        let b = turns.stand(&streams(&[1]), &group());
        assert_eq!(
            (a.first_in(), both.first_in(), b.first_in()),
            (vec![0], vec![1], vec![])
        );
        assert_eq!(
            both.called().now_or_never(),
            None,
            "it knew from the beginning"
        );
        drop(a);
        assert_eq!(both.called().now_or_never(), Some(()), "the call was kept");
        assert_eq!(both.first_in(), [0, 1]);
        drop(both);
        assert_eq!(
            (b.called().now_or_never(), b.first_in()),
            (Some(()), vec![0])
        );
    }

    #[test]
    fn groups_of_one_stream_do_not_queue_for_each_other() {
        let turns = Turns::default();
        let other = GroupName::new("h").unwrap();
        let _first = turns.stand(&streams(&[0]), &group());
        assert_eq!(turns.stand(&streams(&[0]), &other).first_in(), [0]);
    }

    #[test]
    fn queues_that_nobody_stands_in_are_forgotten() {
        let turns = Turns::default();
        for n in 0..100 {
            drop(turns.stand(&streams(&[n, n + 1]), &group()));
        }
        assert_eq!(turns.lock().of.len(), 0);
    }

    proptest! {
        /// Whoever comes and goes: each queue has exactly one first, the one who came first of
        /// those who stand there, and who became first was called.
        #[test]
        fn every_queue_has_one_first_who_knows_it(
            sets in prop::collection::vec(prop::collection::btree_set(0_usize..4, 1..4), 1..12),
            leaving in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let turns = Turns::default();
            let names: Vec<Vec<usize>> = sets.iter().map(|set| set.iter().copied().collect()).collect();
            let mut standing: Vec<(&Vec<usize>, Place<'_>, Vec<usize>)> = Vec::new();
            for names in &names {
                let place = turns.stand(&streams(names), &group());
                let known = place.first_in();
                standing.push((names, place, known));
            }
            for leaves in leaving {
                if standing.is_empty() { break; }
                drop(standing.remove(leaves.index(standing.len())));
                for (_, place, known) in &mut standing {
                    let first_in = place.first_in();
                    prop_assert_eq!(place.called().now_or_never().is_some(), first_in != *known);
                    *known = first_in;
                }
                for stream in 0..4 {
                    let mut here = standing.iter().filter(|(names, ..)| names.contains(&stream));
                    let is_first = |(names, _, known): &&(&Vec<usize>, Place<'_>, Vec<usize>)| {
                        known.iter().any(|index| names[*index] == stream)
                    };
                    prop_assert!(here.next().is_none_or(|first| is_first(&first)));
                    prop_assert!(!here.any(|later| is_first(&later)));
                }
            }
        }
    }
}
