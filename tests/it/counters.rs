//! Counters of a real server: random histories compared with a plain list.

use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::{Config, TestRunner};

use crate::support::redis::shared;
use crate::support::{TestApp, unique};

#[derive(Clone, Debug)]
enum Step {
    Add(u64),
    Trim(u64),
    Delete(usize),
}

fn history() -> impl proptest::strategy::Strategy<Value = Vec<Step>> {
    let step = proptest::prop_oneof![
        4 => (1u64..5).prop_map(Step::Add),
        2 => (0u64..6).prop_map(Step::Trim),
        1 => (0usize..12).prop_map(Step::Delete),
    ];
    proptest::collection::vec(step, 1..10)
}

/// A stream, and a plain list of the entries it received and still holds.
struct Pair {
    stream: String,
    given: u64,
    kept: Vec<u64>,
}

impl Pair {
    async fn run(&mut self, steps: &[Step]) {
        let redis = shared().await;
        for step in steps {
            match step {
                Step::Add(count) => {
                    for _ in 0..*count {
                        self.given += 1;
                        redis
                            .command(&[
                                "XADD",
                                &self.stream,
                                &format!("{}-0", self.given),
                                "n",
                                "1",
                            ])
                            .await;
                        self.kept.push(self.given);
                    }
                }
                Step::Trim(keep) => {
                    redis
                        .command(&["XTRIM", &self.stream, "MAXLEN", &keep.to_string()])
                        .await;
                    let surplus = self
                        .kept
                        .len()
                        .saturating_sub(usize::try_from(*keep).unwrap());
                    self.kept.drain(..surplus);
                }
                Step::Delete(index) if !self.kept.is_empty() => {
                    let id = self.kept.remove(index % self.kept.len());
                    redis
                        .command(&["XDEL", &self.stream, &format!("{id}-0")])
                        .await;
                }
                Step::Delete(_) => {}
            }
        }
    }

    fn lost_after(&self, id: u64) -> u64 {
        (id + 1..=self.given)
            .filter(|given| !self.kept.contains(given))
            .count() as u64
    }
}

#[tokio::test]
async fn gaps_after_any_position_handed_out_are_counted_exactly() {
    let app = TestApp::start().await;
    let mut runner = TestRunner::new(Config::default());
    for _ in 0..40 {
        let before = history().new_tree(&mut runner).unwrap().current();
        let since = history().new_tree(&mut runner).unwrap().current();
        let mut pair = Pair {
            stream: unique("history"),
            given: 1,
            kept: vec![1],
        };
        shared()
            .await
            .command(&["XADD", &pair.stream, "1-0", "n", "1"])
            .await;
        pair.run(&before).await;
        // Positions as a client gets them: the `next` of each page, starting at the oldest entry.
        let (mut positions, mut query) = (Vec::new(), "after=0".to_owned());
        loop {
            let page = app
                .get(&format!(
                    "/v1/streams/{}/entries?limit=2&{query}",
                    pair.stream
                ))
                .await;
            let next = page.json()["next"].as_str().unwrap().to_owned();
            positions.push(next.clone());
            query = format!("cursor={next}");
            if page.ids().is_empty() {
                break;
            }
        }
        pair.run(&since).await;
        for position in positions {
            let (id, counted) = position.split_once("-0").unwrap();
            let id: u64 = id.parse().unwrap();
            let path = format!("/v1/streams/{}/entries?after={position}", pair.stream);
            let answer = app.get(&path).await;
            let what = format!("{position} after {before:?} then {since:?}");
            let lost = pair.lost_after(id);
            let below = pair.kept.first().is_none_or(|oldest| id < *oldest);
            match answer.status {
                410 => match answer.json()["lost"].as_u64() {
                    Some(told) => assert_eq!(told, lost, "{what}"),
                    None => assert!(counted.is_empty(), "{what}: {}", answer.body),
                },
                200 => assert!(!below || lost == 0, "{what}: {lost} lost in silence"),
                _ => panic!("{what}: {}", answer.body),
            }
        }
    }
}
