//! Unit tests of `read_budget`.

use super::*;
use crate::shares::Account;

fn entries(sizes: &[usize]) -> Vec<Entry> {
    let entry = |size: &usize| Entry {
        id: EntryId::MIN,
        fields: vec![(Vec::new(), vec![b'x'; *size])],
    };
    sizes.iter().map(entry).collect()
}

#[test]
fn of_what_nobody_has_seen_one_is_read_first() {
    let mut budget = Budget::new(1000, 1 << 20, None);
    assert_eq!((budget.next(), budget.expects()), (1, None));
    assert_eq!(budget.keep(&entries(&[8 << 20])), 1);
    assert_eq!(
        budget.next(),
        0,
        "an entry larger than the budget ends the read"
    );
    let mut budget = Budget::new(1000, 1 << 20, None);
    assert_eq!(budget.keep(&entries(&[100])), 1);
    assert_eq!(budget.next(), Budget::GROWTH, "later entries may be larger");
}

#[test]
fn what_is_known_to_be_large_is_asked_for_by_its_weight() {
    for (weight, next) in [(512 << 10, 2), (8 << 20, 1), (100, Budget::FIRST)] {
        assert_eq!(Budget::new(100, 1 << 20, Some(weight)).next(), next);
    }
    let many = Budget::new(100, 1 << 20, Some(8 << 20));
    assert_eq!(
        many.expects(),
        Some(3 * (8 << 20)),
        "the entry and the two that XINFO copies"
    );
}

#[test]
fn a_large_one_among_small_ones_is_not_forgotten_when_it_did_not_fit() {
    let mut budget = Budget::new(100, 250, Some(300));
    assert_eq!(budget.keep(&entries(&[100, 100, 1 << 20, 1])), 2);
    assert_eq!(budget.next(), 0, "an entry that does not fit ends the read");
    assert_eq!(budget.heaviest, Some((1 << 20) + FIELD));
    let mut budget = Budget::new(1000, 4 << 20, Some(300));
    budget.keep(&entries(&[100, 1 << 20, 100]));
    assert_eq!(
        budget.next(),
        2,
        "as many as fit if all are as heavy as the heaviest"
    );
}

#[test]
fn weights_rise_at_once_and_fall_by_and_by() {
    let large = ReadBudget::new(1 << 20, Duration::ZERO);
    large.saw("s", None);
    assert_eq!(large.weight("s"), None);
    for (seen, weight) in [(100, 100), (8000, 8000), (10, 7000), (10, 6125)] {
        large.saw("s", Some(seen));
        assert_eq!(large.weight("s"), Some(weight));
    }
}

#[tokio::test]
async fn who_gets_no_room_in_time_is_told_and_counted() {
    let large = ReadBudget::new(1 << 20, Duration::from_millis(1));
    assert!(large.permit(LARGE - 1).await.unwrap().0.is_none());
    let all = large.permit(usize::MAX).await.unwrap();
    assert_eq!(large.bytes(), 1 << 20);
    assert!(matches!(
        large.permit(LARGE).await,
        Err(StoreError::Crowded)
    ));
    let all = large.at_least(all, Some(usize::MAX)).await.unwrap();
    drop(all);
    let some = large.permit(LARGE).await.unwrap();
    assert!(
        large
            .at_least(some, Some(2 * LARGE))
            .await
            .unwrap()
            .0
            .is_some()
    );
    assert_eq!(
        (large.take_refused(), large.take_refused(), large.bytes()),
        (1, 0, 0)
    );
}

#[tokio::test]
async fn a_caller_with_its_share_of_the_budget_leaves_the_rest_to_others() {
    let large = ReadBudget::new(8 * LARGE, Duration::from_millis(1));
    let (greedy, modest) = (Account::new(25), Account::new(25));
    let read = async |account: &Arc<Account>, bytes| {
        shares::scope(Some(account.clone()), large.permit(bytes)).await
    };
    let first = read(&greedy, LARGE).await.unwrap();
    let second = read(&greedy, LARGE).await.unwrap();
    for bytes in [LARGE, usize::MAX] {
        let refused = read(&greedy, bytes).await.unwrap_err();
        assert!(matches!(refused, StoreError::ShareExceeded(_)));
    }
    drop(read(&modest, 2 * LARGE).await.unwrap());
    assert_eq!((large.take_refused_shares(), large.take_refused()), (2, 0));
    drop((first, second));
    // A read that is larger than the share takes all of it.
    let whole = read(&greedy, 6 * LARGE).await.unwrap();
    assert_eq!(large.bytes(), 6 * LARGE);
    read(&greedy, LARGE).await.unwrap_err();
    drop(whole);
    assert_eq!(large.bytes(), 0);
    read(&greedy, LARGE).await.unwrap();
}
