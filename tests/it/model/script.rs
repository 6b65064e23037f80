//! Steps of a model run, drawn from a seed.

use std::time::Duration;

use super::world::Way;

/// Number of streams in a script.
pub const STREAMS: usize = 2;
/// Number of subscribers at the start.
pub const SUBSCRIBERS: usize = 6;

/// One step. Streams, subscribers and gateways are indexes.
#[derive(Clone, Debug)]
pub enum Step {
    /// Appends entries, one command each.
    Add {
        stream: usize,
        count: usize,
        bytes: usize,
        maxlen: Option<usize>,
    },
    /// Appends and trims entries in a single step.
    AddAtOnce {
        stream: usize,
        count: usize,
        maxlen: usize,
    },
    /// Appends entries through a gateway, as a batch if there are several.
    Publish {
        stream: usize,
        gateway: usize,
        count: usize,
        maxlen: Option<usize>,
    },
    Trim {
        stream: usize,
        how: Trim,
    },
    TrimThrough {
        stream: usize,
        gateway: usize,
        maxlen: usize,
    },
    /// Deletes retained entries, chosen by index modulo their number.
    Delete {
        stream: usize,
        which: Vec<usize>,
    },
    Recreate {
        stream: usize,
    },
    RecreateThrough {
        stream: usize,
        gateway: usize,
    },
    Join {
        stream: usize,
        route: usize,
    },
    Stop {
        subscriber: usize,
    },
    Go {
        subscriber: usize,
    },
    Pace {
        subscriber: usize,
        pace: Duration,
    },
    Move {
        subscriber: usize,
        route: usize,
    },
    Door {
        gateway: usize,
        way: Way,
    },
    Line {
        gateway: usize,
        way: Way,
    },
    RestartGateway {
        gateway: usize,
    },
    RestartRedis {
        empty: bool,
        away: Duration,
    },
    Wait(Duration),
}

#[derive(Clone, Copy, Debug)]
pub enum Trim {
    Exact(usize),
    Approximate(usize),
    /// Trims everything below the retained entry with this index.
    Below(usize),
}

pub fn draw(seed: u64) -> Vec<Step> {
    let mut random = fastrand::Rng::with_seed(seed);
    // Some scripts are about retention, some about connections, some about both.
    let faults = random.u32(0..=2);
    let count = random.usize(20..80);
    (0..count).map(|_| step(&mut random, faults)).collect()
}

fn step(random: &mut fastrand::Rng, faults: u32) -> Step {
    let stream = random.usize(..STREAMS);
    let gateway = random.usize(..2);
    // Subscribers that joined later are addressed too, if there are any.
    let subscriber = random.usize(..SUBSCRIBERS + 2);
    let route = random.usize(..4);
    let few = random.usize(1..6);
    let maxlen = random.bool().then(|| random.usize(0..12));
    match random.u32(..100 + faults * 20) {
        0..20 => Step::Add {
            stream,
            count: few,
            bytes: random.usize(0..50),
            maxlen,
        },
        20..23 => Step::Add {
            stream,
            count: 100,
            bytes: 10_000,
            maxlen: None,
        },
        23..30 => Step::AddAtOnce {
            stream,
            count: random.usize(1..15),
            maxlen: few,
        },
        30..38 => Step::Publish {
            stream,
            gateway,
            count: few,
            maxlen,
        },
        38..46 => {
            let how = match random.u32(..3) {
                0 => Trim::Exact(random.usize(0..10)),
                1 => Trim::Approximate(random.usize(0..10)),
                _ => Trim::Below(random.usize(0..10)),
            };
            Step::Trim { stream, how }
        }
        46..48 => Step::TrimThrough {
            stream,
            gateway,
            maxlen: few,
        },
        48..56 => Step::Delete {
            stream,
            which: (0..few).map(|_| random.usize(..50)).collect(),
        },
        56..57 => Step::Recreate { stream },
        57..58 => Step::RecreateThrough { stream, gateway },
        58..61 => Step::Join { stream, route },
        61..66 => Step::Stop { subscriber },
        66..73 => Step::Go { subscriber },
        73..75 => Step::Pace {
            subscriber,
            pace: Duration::from_millis(random.u64(0..4)),
        },
        75..85 => Step::Move { subscriber, route },
        85..100 => Step::Wait(Duration::from_millis(random.u64(0..40))),
        100..125 => {
            let ways = [Way::Open, Way::Open, Way::Open, Way::Cut, Way::Stalled];
            let way = random.choice(ways).unwrap_or(Way::Open);
            match random.bool() {
                true => Step::Door { gateway, way },
                false => Step::Line { gateway, way },
            }
        }
        125..132 => Step::RestartGateway { gateway },
        132..136 => Step::RestartRedis {
            empty: random.u32(..3) == 0,
            away: Duration::from_millis(random.u64(0..150)),
        },
        _ => Step::Wait(Duration::from_millis(random.u64(0..300))),
    }
}
