//! The loop of a reader over tracking connections. It costs Redis the same for one stream and for
//! ten thousand, where one XREAD costs more with each stream. A cluster has no other way, because
//! XREAD cannot read streams of several slots.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;

use crate::live::followed::Followed;
use crate::live::reader::{ConnectionEnd, LiveReader};
use crate::live::reader_handle::Inbox;
use crate::live::round::run;
use crate::live::tracked::{FollowedStreams, Tracked};

/// Shortest interval between rounds of reads after a round that read several entries. Changes in
/// between are gathered.
const ROUND_EVERY: Duration = Duration::from_millis(1);
/// Number of entries after which the next round does not wait: changes come alone, and there is
/// nothing to gather. What comes while a round runs is in the next one.
const ALONE: usize = 1;
/// Number of intervals `look_every` between looks at all streams.
const LOOKS: u32 = 12;
/// Number of streams below which a single server is read by XREAD again.
const FEW: usize = 8;

impl LiveReader {
    /// Follows streams until there are none left, or few enough for XREAD on a single server.
    pub(super) async fn follow_tracked(&self, all: &mut FollowedStreams) -> ConnectionEnd {
        let context = &*self.context;
        let mut topology = context.store.topology();
        let mut tracked = Tracked::new(context, all);
        let changes = tracked.changes();
        tracked.mark_all();
        let mut running = FuturesUnordered::new();
        let now = Instant::now();
        let (mut pruned, mut looked, mut ticked, mut next_round) = (now, now, now, now);
        loop {
            let Inbox { given, recheck } = self.handle.requests();
            for tail in given {
                tracked.add(Followed::new(tail));
            }
            for stream in recheck {
                tracked.mark(stream.redis_key());
            }
            if topology.has_changed().unwrap_or(false) {
                topology.borrow_and_update();
                tracked.take_moves();
            }
            tracked.take_changes();
            if looked.elapsed() > context.settings.look_every * LOOKS {
                looked = Instant::now();
                tracked.mark_all();
            }
            if pruned.elapsed() > context.settings.look_every {
                pruned = Instant::now();
                self.prune(tracked.streams());
            }
            for next in tracked.rounds() {
                running.push(run(context, changes.clone(), next));
            }
            if !tracked.is_busy() {
                if tracked.streams().is_empty() && self.registry.retire(&self.handle) {
                    return ConnectionEnd::Idle;
                }
                if !context.store.is_cluster() && self.handle.load() < FEW {
                    return ConnectionEnd::OtherWay;
                }
                if !context.store.is_cluster() && tracked.is_refused() {
                    context.tracking_is_refused();
                    return ConnectionEnd::OtherWay;
                }
            }
            let reported = async {
                changes.wait().await;
                // A timer that is due already may fire a millisecond late.
                if next_round > Instant::now() {
                    tokio::time::sleep_until(next_round).await;
                }
            };
            tokio::select! {
                () = context.stop.cancelled() => return ConnectionEnd::Stopped,
                Some(done) = running.next() => {
                    if done.entries > ALONE {
                        next_round = Instant::now() + ROUND_EVERY;
                    }
                    tracked.finish(done);
                }
                () = reported => {}
                () = self.handle.requested() => {}
                _ = topology.changed() => topology.mark_changed(),
                () = tokio::time::sleep_until(ticked + tracked.tick_every()) => {
                    ticked = Instant::now();
                    tracked.tick();
                }
            }
        }
    }
}
