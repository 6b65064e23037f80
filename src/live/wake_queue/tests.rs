//! Tests of wake-ups in slices.

use tokio_util::task::TaskTracker;

use super::*;

struct Source(PostFollowers);

impl WakeSource for Source {
    fn followers_on(&self, _: usize) -> &PostFollowers {
        &self.0
    }
}

/// Returns a source with so many followers.
fn source(followers: usize) -> (Arc<Source>, Vec<Arc<WakeHandle>>) {
    let source = Arc::new(Source(PostFollowers::default()));
    let handles: Vec<Arc<WakeHandle>> = (0..followers).map(|_| Arc::default()).collect();
    for handle in &handles {
        source.0.add(handle.clone(), 0);
    }
    (source, handles)
}

/// Returns the number of handles with a notification, which it takes.
fn notified(handles: &[Arc<WakeHandle>]) -> usize {
    let cx = Context::from_waker(Waker::noop());
    let take = |handle: &&Arc<WakeHandle>| {
        let mut rung = false;
        handle.answer(&cx, |_| rung = true);
        rung
    };
    handles.iter().filter(take).count()
}

/// Notifies slices of three followers until the round is over. Returns how many were notified.
fn finish(source: &Source) -> usize {
    let mut all = 0;
    loop {
        match source.0.notify(3) {
            WakeSlice::Part(some) => all += some,
            WakeSlice::Whole(some, _) => return all + some,
        }
    }
}

#[test]
fn a_round_notifies_each_follower_once() {
    let (source, handles) = source(10);
    source.0.record_news();
    assert!(matches!(source.0.notify(3), WakeSlice::Part(3)));
    assert_eq!(notified(&handles), 3);
    assert_eq!(finish(&source), 7);
    assert_eq!(notified(&handles), 7);
    assert_eq!(finish(&source), 0);
}

#[test]
fn news_during_a_round_reaches_everybody_once_more_and_no_follower_three_times() {
    let (source, handles) = source(10);
    source.0.record_news();
    assert!(matches!(source.0.notify(4), WakeSlice::Part(4)));
    assert_eq!(notified(&handles), 4);
    source.0.record_news();
    // Six followers get both at once; four are notified again.
    assert_eq!(finish(&source), 10);
    assert_eq!(notified(&handles), 10);
}

#[test]
fn followers_that_come_and_go_during_a_round_do_not_make_others_miss_it() {
    let (source, handles) = source(10);
    source.0.record_news();
    assert!(matches!(source.0.notify(4), WakeSlice::Part(4)));
    source.0.remove(7);
    let more: Vec<Arc<WakeHandle>> = (0..50).map(|_| Arc::default()).collect();
    for handle in &more {
        source.0.add(handle.clone(), 0);
    }
    finish(&source);
    assert_eq!(notified(&handles), 9);
}

#[test]
fn a_source_with_news_is_queued_exactly_once() {
    let (source, _handles) = source(1);
    assert!(source.0.record_news());
    assert!(!source.0.record_news());
    assert_eq!(finish(&source), 1);
    assert!(source.0.leave_queue());
    assert!(source.0.record_news());
    assert_eq!(finish(&source), 1);
    assert!(!source.0.record_news());
    assert!(!source.0.leave_queue(), "there is news");
    assert_eq!(finish(&source), 1);
    assert!(source.0.leave_queue());
}

#[tokio::test]
async fn other_tasks_and_other_sources_get_their_turn_during_a_large_round() {
    let (large, handles) = source(40 * SLICE);
    let (small, one) = source(1);
    let queue = Arc::new(WakeQueue::default());
    let posts = [queue.clone()];
    let serving = TaskTracker::new().spawn(async move { queue.serve(0).await });
    wake_followers(&large, &posts);
    tokio::task::yield_now().await;
    wake_followers(&small, &posts);
    let (mut turns, mut before_small, mut all) = (0, None, 0);
    while all < handles.len() {
        tokio::task::yield_now().await;
        turns += 1;
        let some = notified(&handles);
        assert!(some <= 2 * SLICE, "{some} followers before another task");
        all += some;
        if before_small.is_none() && notified(&one) == 1 {
            before_small = Some(all);
        }
    }
    assert!(turns >= 20, "{turns}");
    let before_small = before_small.expect("the small source is served");
    assert!(before_small <= 4 * SLICE, "{before_small}");
    // Once at rest, the large source is served again.
    wake_followers(&large, &posts);
    let mut again = 0;
    while again < handles.len() {
        tokio::task::yield_now().await;
        again += notified(&handles);
    }
    serving.abort();
}

#[test]
fn only_rounds_that_take_a_while_are_followed_by_a_rest() {
    assert_eq!(rest_after(Duration::from_micros(400)), Duration::ZERO);
    assert_eq!(
        rest_after(Duration::from_millis(1)),
        Duration::from_millis(2)
    );
    assert_eq!(rest_after(Duration::from_secs(1)), LONGEST_REST);
}
