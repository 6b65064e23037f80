//! Fair queues of the readers that wait for entries of a group.
//!
//! There is one queue per group of each stream. A reader of several streams enters all their queues
//! in one step, under one lock and with one number. It may read a stream as soon as it is first in
//! the queue of *that* stream. It leaves all its queues at once: after it was served from any of
//! them, when its wait ends, or when it is dropped.
//!
//! **No deadlock.** A reader that is first in one queue never waits for another queue, because it
//! needs only one turn to continue. Waiting for all queues would be wrong in any order: a reader of
//! `a` and `b` behind a reader of `a` alone would sleep although `b` has an entry, and block all
//! readers behind it from that entry. Instead, the first reader in `b` is served by the next entry
//! of `b` and leaves all queues. The next reader then has its turn, also in the queue of `a`.
//!
//! **First come, first served**, per stream. Numbers grow, queues are ordered by number, and only
//! leaving changes them. The first reader therefore stays first until it leaves.
//!
//! **A queue is no bottleneck.** Only its first reader reads, so a queue that always has a reader would
//! serve a backlog one read at a time. While reads find as many entries as they ask for, the queue is
//! open: newcomers read at once, and those that wait are still served one after the other. Newcomers
//! wait again from the first read that finds fewer.
//!
//! **No lost wake-up.** A reader that leaves the head of a queue notifies the next one, and the
//! notification is kept until it is awaited. A reader whose turn has come first follows the stream,
//! and then tries to read it (`long_poll.rs`). The read finds entries appended before; later entries
//! cause a notification. Entries left over by a partly served reader are found by the read of the
//! next one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use crate::model::name::{GroupName, StreamName};

/// All queues of a process.
#[derive(Default)]
pub(in crate::live) struct FairQueues(Mutex<Queues>);

#[derive(Default)]
struct Queues {
    /// The number of the next ticket.
    next: u64,
    /// Empty queues are removed.
    of: HashMap<QueueKey, Queue>,
}

/// The readers that wait for entries of one group of a stream.
#[derive(Default)]
struct Queue {
    /// The readers by ticket number.
    waiting: BTreeMap<u64, Arc<Notify>>,
    /// Whether the last read found as many entries as it asked for.
    is_open: bool,
}

impl Queue {
    /// Returns the reader that is first.
    fn first(&self) -> Option<(u64, &Arc<Notify>)> {
        self.waiting
            .first_key_value()
            .map(|(number, called)| (*number, called))
    }
}

type QueueKey = (StreamName, GroupName);

/// A ticket for one or more queues, given up when dropped.
pub(in crate::live) struct QueueTicket<'a> {
    turns: &'a FairQueues,
    number: u64,
    /// One queue per stream, in the order of the request.
    queues: Vec<QueueKey>,
    /// Notified when the ticket becomes first in a queue.
    called: Arc<Notify>,
}

impl FairQueues {
    /// Enters the queues of a group of several distinct streams, behind all earlier readers.
    pub(in crate::live) fn enqueue(
        &self,
        streams: &[StreamName],
        group: &GroupName,
    ) -> QueueTicket<'_> {
        let queues: Vec<QueueKey> = streams
            .iter()
            .map(|stream| (stream.clone(), group.clone()))
            .collect();
        let called = Arc::new(Notify::new());
        let mut all = self.lock();
        let number = all.next;
        all.next += 1;
        for queue in &queues {
            let queue = all.of.entry(queue.clone()).or_default();
            queue.waiting.insert(number, called.clone());
        }
        drop(all);
        QueueTicket {
            turns: self,
            number,
            queues,
            called,
        }
    }

    /// Returns whether a newcomer may read these streams at once: in each, nobody waits, or the queue
    /// is open.
    pub(in crate::live) fn are_open(&self, streams: &[StreamName], group: &GroupName) -> bool {
        let all = self.lock();
        let is_open = |stream: &StreamName| {
            let queue = all.of.get(&(stream.clone(), group.clone()));
            queue.is_none_or(|queue| queue.is_open)
        };
        all.of.is_empty() || streams.iter().all(is_open)
    }

    /// Records whether a read of a stream found as many entries as it asked for.
    pub(in crate::live) fn record(&self, stream: &StreamName, group: &GroupName, is_full: bool) {
        let mut all = self.lock();
        if all.of.is_empty() {
            return;
        }
        if let Some(queue) = all.of.get_mut(&(stream.clone(), group.clone())) {
            queue.is_open = is_full;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.0.lock()
    }
}

impl QueueTicket<'_> {
    /// Returns the indexes of the streams in whose queues the ticket is first. A stream stays in
    /// this list once it is there.
    pub(in crate::live) fn first_in(&self) -> Vec<usize> {
        let all = self.turns.lock();
        let is_first = |queue: &QueueKey| {
            all.of
                .get(queue)
                .and_then(Queue::first)
                .is_some_and(|(number, _)| number == self.number)
        };
        (0..self.queues.len())
            .filter(|index| is_first(&self.queues[*index]))
            .collect()
    }

    /// Waits until the ticket becomes first in a queue. A notification is kept until awaited.
    pub(in crate::live) async fn called(&self) {
        self.called.notified().await;
    }
}

impl Drop for QueueTicket<'_> {
    fn drop(&mut self) {
        let mut all = self.turns.lock();
        for key in &self.queues {
            let Some(queue) = all.of.get_mut(key) else {
                continue;
            };
            let was_first = queue.first().is_some_and(|(first, _)| first == self.number);
            queue.waiting.remove(&self.number);
            match queue.first() {
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
        let turns = FairQueues::default();
        let a = turns.enqueue(&streams(&[0]), &group());
        let both = turns.enqueue(&streams(&[0, 1]), &group());
        let b = turns.enqueue(&streams(&[1]), &group());
        assert_eq!(
            (a.first_in(), both.first_in(), b.first_in()),
            (vec![0], vec![1], vec![])
        );
        assert_eq!(
            both.called().now_or_never(),
            None,
            "no notification for being first from the start"
        );
        drop(a);
        assert_eq!(
            both.called().now_or_never(),
            Some(()),
            "the notification was kept"
        );
        assert_eq!(both.first_in(), [0, 1]);
        drop(both);
        assert_eq!(
            (b.called().now_or_never(), b.first_in()),
            (Some(()), vec![0])
        );
    }

    #[test]
    fn groups_of_one_stream_do_not_queue_for_each_other() {
        let turns = FairQueues::default();
        let other = GroupName::new("h").unwrap();
        let _first = turns.enqueue(&streams(&[0]), &group());
        assert_eq!(turns.enqueue(&streams(&[0]), &other).first_in(), [0]);
    }

    #[test]
    fn newcomers_read_at_once_while_nobody_waits_or_reads_are_full() {
        let turns = FairQueues::default();
        let (a, both) = (streams(&[0]), streams(&[0, 1]));
        turns.record(&a[0], &group(), false);
        assert!(turns.are_open(&both, &group()), "nobody waits");
        let waits = turns.enqueue(&a, &group());
        assert!(!turns.are_open(&both, &group()));
        assert!(turns.are_open(&streams(&[1]), &group()));
        assert!(turns.are_open(&a, &GroupName::new("h").unwrap()));
        turns.record(&a[0], &group(), true);
        assert!(turns.are_open(&both, &group()));
        turns.record(&a[0], &group(), false);
        assert!(!turns.are_open(&a, &group()));
        turns.record(&a[0], &group(), true);
        drop(waits);
        let _again = turns.enqueue(&a, &group());
        assert!(
            !turns.are_open(&a, &group()),
            "an empty queue was forgotten"
        );
    }

    #[test]
    fn queues_that_nobody_stands_in_are_forgotten() {
        let turns = FairQueues::default();
        for n in 0..100 {
            drop(turns.enqueue(&streams(&[n, n + 1]), &group()));
        }
        assert_eq!(turns.lock().of.len(), 0);
    }

    proptest! {
        /// For any sequence of arrivals and departures, the earliest reader in each queue is the
        /// only first one, and a reader that becomes first is notified.
        #[test]
        fn every_queue_has_one_first_who_knows_it(
            sets in prop::collection::vec(prop::collection::btree_set(0_usize..4, 1..4), 1..12),
            leaving in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let turns = FairQueues::default();
            let names: Vec<Vec<usize>> = sets.iter().map(|set| set.iter().copied().collect()).collect();
            let mut standing: Vec<(&Vec<usize>, QueueTicket<'_>, Vec<usize>)> = Vec::new();
            for names in &names {
                let place = turns.enqueue(&streams(names), &group());
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
                    let is_first = |(names, _, known): &&(&Vec<usize>, QueueTicket<'_>, Vec<usize>)| {
                        known.iter().any(|index| names[*index] == stream)
                    };
                    prop_assert!(here.next().is_none_or(|first| is_first(&first)));
                    prop_assert!(!here.any(|later| is_first(&later)));
                }
            }
        }
    }
}
