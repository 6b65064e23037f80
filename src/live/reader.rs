//! A reader: one blocking Redis connection that follows many streams.
//!
//! XREAD reports *which* streams have new entries. The reader then reads the entries of a stream
//! together with its counters, in one step, because only this shows whether entries were removed in
//! between.
//!
//! XREAD also returns the first new entries. If the counters read right after it account for every
//! one of them, there are no others, and no second read is needed. Together with the counters, the
//! reader checks that the last entry it read still exists. Otherwise a stream could be replaced by
//! another history whose counts happen to fit.
//!
//! After an outage, all followed streams are read again from their last position.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::time::Instant;

use crate::live::context::LiveContext;
use crate::live::followed::Followed;
use crate::live::reader_handle::{Inbox, ReaderHandle};
use crate::live::registry::Registry;
use crate::live::tracked::FollowedStreams;

use crate::model::name::StreamName;
use crate::model::position::Position;
use crate::redis::{Blocking, BlockingReadResult, Lane, PositionCheck, StoreError};

/// Maximum number of streams read concurrently after a wake-up, over the reader's own connection.
const AT_ONCE: usize = 32;
/// Maximum number of idle streams checked in one command.
const GLANCED_AT: usize = 100;
/// Up to this many streams are checked along with XREAD, which saves a round trip.
const FEW: usize = 16;
/// XREAD COUNT while at most [`FEW`] streams are followed, 1 otherwise. A stream with more entries
/// is read separately, with a limit on bytes.
const AT_A_TIME: usize = 8;
/// Number of streams above which a reader pauses after a wake-up.
const CROWD: usize = 64;
/// Length of the pause per followed stream.
const PAUSE_PER_STREAM: Duration = Duration::from_micros(8);
/// Maximum length of the pause, before it is doubled for [`MUCH`].
const LONGEST_PAUSE: Duration = Duration::from_millis(10);
/// Number of streams with new entries from which the pause is doubled.
const MUCH: usize = 8;
/// Minimum and maximum delay between connection attempts.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// The reason why a reader gives up its connection.
pub(super) enum ConnectionEnd {
    Idle,
    Stopped,
    /// To follow the streams by the other way: tracking or XREAD.
    OtherWay,
    Failed(StoreError),
}

/// A reader that follows streams.
pub(super) struct LiveReader {
    pub(super) context: Arc<LiveContext>,
    pub(super) registry: Arc<Registry>,
    pub(super) handle: Arc<ReaderHandle>,
}

impl LiveReader {
    /// Runs until there are no streams left, or the gateway shuts down.
    pub(super) async fn run(self) {
        let context = &*self.context;
        let mut followed = FollowedStreams::new();
        let mut backoff = BACKOFF.0;
        loop {
            if self.must_track() {
                self.handle.set_client(0);
                match self.follow_tracked(&mut followed).await {
                    ConnectionEnd::OtherWay => {}
                    _ => return,
                }
            }
            let connection = tokio::select! {
                () = context.stop.cancelled() => return,
                connection = context.store.blocking() => connection,
            };
            let error = match connection {
                Ok(connection) => {
                    match self.follow(&connection, &mut followed, &mut backoff).await {
                        ConnectionEnd::Idle => return,
                        ConnectionEnd::Stopped => return connection.discard(),
                        ConnectionEnd::OtherWay => continue,
                        ConnectionEnd::Failed(error) => {
                            connection.discard();
                            error
                        }
                    }
                }
                Err(error) => error,
            };
            self.handle.set_client(0);
            tracing::debug!(%error, "a stream reader lost its Redis connection");
            tokio::select! {
                () = context.stop.cancelled() => return,
                () = tokio::time::sleep(backoff) => {}
            }
            backoff = (backoff * 2).min(BACKOFF.1);
            // Idle streams also expire while Redis is unreachable.
            self.prune(&mut followed);
        }
    }

    /// Returns whether the streams are followed over tracking connections.
    fn must_track(&self) -> bool {
        self.context.tracks(self.handle.load())
    }

    /// Follows streams over one connection until it fails.
    async fn follow(
        &self,
        connection: &Blocking,
        all: &mut FollowedStreams,
        backoff: &mut Duration,
    ) -> ConnectionEnd {
        let context = &*self.context;
        match context.store.client_id(connection).await {
            Ok(client) => self.handle.set_client(client),
            Err(error) => return ConnectionEnd::Failed(error),
        }
        *backoff = BACKOFF.0;
        let lane = Lane::Own(connection.handle());
        // Streams may have changed while there was no connection.
        mark_all(all);
        let mut look_at_all = Instant::now() + context.settings.look_every;
        let (mut pause, mut refused) = (Duration::ZERO, Duration::ZERO);
        loop {
            if self.must_track() {
                return ConnectionEnd::OtherWay;
            }
            let Inbox { given, recheck } = self.handle.requests();
            all.extend(
                given
                    .into_iter()
                    .map(|tail| (tail.stream.clone(), Followed::new(tail))),
            );
            for stream in recheck {
                if let Some(followed) = all.get_mut(&stream) {
                    followed.due = true;
                }
            }
            if Instant::now() >= look_at_all {
                self.prune(all);
                if let Err(error) = glance_at_all(context, &lane, all).await {
                    return ConnectionEnd::Failed(error);
                }
                look_at_all = Instant::now() + context.settings.look_every;
            }
            if all.is_empty() && self.registry.retire(&self.handle) {
                return ConnectionEnd::Idle;
            }
            if let Err(error) = advance_due(context, &lane, all).await {
                return ConnectionEnd::Failed(error);
            }
            tokio::time::sleep(std::mem::take(&mut pause)).await;

            let heads: Vec<_> = all.values().filter_map(Followed::head).collect();
            let block = context
                .settings
                .block
                .min(look_at_all.saturating_duration_since(Instant::now()));
            if heads.is_empty() {
                // All keys are unreadable, so there is nothing to block on.
                tokio::select! {
                    () = context.stop.cancelled() => return ConnectionEnd::Stopped,
                    () = tokio::time::sleep(block.min(BACKOFF.1)) => continue,
                }
            }
            // For streams with large entries, COUNT is 1 and the counters are read separately.
            let few = heads.len() <= FEW
                && context
                    .store
                    .glanced_at_once(heads.iter().map(|(stream, _)| *stream))
                    == heads.len();
            let count = if few { AT_A_TIME } else { 1 };
            let wait = context
                .store
                .wait_for_entries(connection, &heads, block, count, few);
            let waited = tokio::select! {
                () = context.stop.cancelled() => return ConnectionEnd::Stopped,
                waited = wait => waited,
            };
            match waited {
                Ok(woken) => {
                    refused = Duration::ZERO;
                    pause = pause_after(&woken, all.len());
                    if let Err(error) = feed(context, &lane, all, woken, few).await {
                        return ConnectionEnd::Failed(error);
                    }
                }
                Err(error) if error.is_outage() => return ConnectionEnd::Failed(error),
                // One key caused the error, so each is checked separately. If none did, Redis
                // refuses XREAD itself; the pause avoids a busy loop.
                Err(_) => {
                    mark_all(all);
                    pause = refused;
                    refused = (refused * 2).clamp(BACKOFF.0, BACKOFF.1);
                }
            }
        }
    }

    /// Drops tails without followers for longer than `look_every`, and pages older than that.
    pub(super) fn prune(&self, all: &mut FollowedStreams) {
        let now = Instant::now();
        let long_ago = now.checked_sub(self.context.settings.look_every);
        for followed in all.values_mut() {
            match (followed.tail.followers(), followed.deserted) {
                (0, None) => followed.deserted = Some(now),
                (0, Some(_)) => {}
                (_, _) => followed.deserted = None,
            }
            if let Some(long_ago) = long_ago {
                followed.tail.forget(long_ago);
            }
        }
        let deserted = all.values().filter(|followed| {
            followed
                .deserted
                .is_some_and(|since| long_ago.is_some_and(|then| since <= then))
        });
        let idle = self
            .registry
            .drop_idle(deserted.map(|followed| &followed.tail));
        if idle.is_empty() {
            return;
        }
        all.retain(|stream, _| !idle.contains(stream));
        self.handle.dropped(idle.len());
    }
}

/// Feeds the entries that XREAD returned. Checks their streams first, unless `checked` together
/// with XREAD.
async fn feed(
    context: &LiveContext,
    lane: &Lane,
    all: &mut FollowedStreams,
    woken: BlockingReadResult,
    checked: bool,
) -> Result<(), StoreError> {
    let mut checks = woken.checks;
    if !checked {
        let at = |(stream, _): &(String, _)| {
            let (stream, followed) = all.get_key_value(stream.as_str())?;
            Some((stream.clone(), followed.at()?))
        };
        let streams: Vec<_> = woken.woken.iter().filter_map(at).collect();
        checks = check(context, lane, &streams).await?;
    }
    for (stream, entries) in woken.woken {
        if let Some(followed) = all.get_mut(stream.as_str()) {
            followed.take(context, entries, checks.get(&stream));
        }
    }
    Ok(())
}

/// Checks streams that have new entries. Omits those that cannot be checked.
async fn check(
    context: &LiveContext,
    lane: &Lane,
    streams: &[(StreamName, Position)],
) -> Result<HashMap<String, PositionCheck>, StoreError> {
    let mut checks = HashMap::with_capacity(streams.len());
    let mut rest = streams;
    while !rest.is_empty() {
        let some = at_once(context, &mut rest);
        match context.store.check(lane, some).await {
            Ok(found) => {
                let names = some.iter().map(|(stream, _)| stream.redis_key().to_owned());
                checks.extend(names.zip(found));
            }
            Err(error) if error.is_outage() => return Err(error),
            // One of the streams caused the error: each is read separately.
            Err(_) => {}
        }
    }
    Ok(checks)
}

/// Removes and returns as many streams as one command may check.
fn at_once<'a>(
    context: &LiveContext,
    rest: &mut &'a [(StreamName, Position)],
) -> &'a [(StreamName, Position)] {
    let some = &rest[..rest.len().min(GLANCED_AT)];
    let fit = context
        .store
        .glanced_at_once(some.iter().map(|(stream, _)| stream));
    let (some, others) = rest.split_at(fit);
    *rest = others;
    some
}

/// Returns the pause after a wake-up.
///
/// An XREAD of many streams costs Redis and the gateway time for each of them. A reader with many
/// streams therefore pauses to collect more new entries before the next XREAD, twice as long if
/// many streams had some.
fn pause_after(woken: &BlockingReadResult, streams: usize) -> Duration {
    if woken.woken.is_empty() || streams <= CROWD {
        return Duration::ZERO;
    }
    let pause = PAUSE_PER_STREAM.saturating_mul(u32::try_from(streams).unwrap_or(u32::MAX));
    pause.min(LONGEST_PAUSE) * if woken.woken.len() >= MUCH { 2 } else { 1 }
}

/// Marks all streams as due.
fn mark_all(all: &mut FollowedStreams) {
    for followed in all.values_mut() {
        followed.due = true;
    }
}

/// Marks streams as due that have changed in ways XREAD does not report.
async fn glance_at_all(
    context: &LiveContext,
    lane: &Lane,
    all: &mut FollowedStreams,
) -> Result<(), StoreError> {
    let at = |(stream, followed): (&StreamName, &Followed)| Some((stream.clone(), followed.at()?));
    let streams: Vec<_> = all.iter().filter_map(at).collect();
    let mut rest = &streams[..];
    while !rest.is_empty() {
        let some = at_once(context, &mut rest);
        let checks = match context.store.check_tails(lane, some).await {
            Ok(checks) => checks,
            Err(error) if error.is_outage() => return Err(error),
            // One of the streams caused the error: each is read separately.
            Err(_) => vec![None; some.len()],
        };
        for ((stream, _), check) in some.iter().zip(checks) {
            if let Some(followed) = all.get_mut(stream) {
                followed.due |= check.is_none_or(|check| !followed.is_quiet(&check));
            }
        }
    }
    Ok(())
}

/// Reads the due streams, several concurrently.
async fn advance_due(
    context: &LiveContext,
    lane: &Lane,
    all: &mut FollowedStreams,
) -> Result<(), StoreError> {
    let mut due: Vec<_> = all.values_mut().filter(|followed| followed.due).collect();
    while !due.is_empty() {
        // Redis processes a whole batch from one connection before it serves other clients.
        let together = context
            .store
            .glanced_at_once(due.iter().map(|followed| &followed.tail.stream));
        let some = due.drain(..together.min(AT_ONCE));
        try_join_all(some.map(|followed| followed.advance(context, lane))).await?;
    }
    Ok(())
}
