//! Streams that a reader follows over tracking connections, one per server.
//!
//! Redis reports which streams have changed; only these are read. A round of reads to one server
//! runs at a time, and servers do not wait for each other. Streams of a cluster move between
//! servers: a stream whose read is redirected, or whose slot has another master, is read there next.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::live::context::LiveContext;
use crate::live::followed::Followed;
use crate::live::round::{FinishedRound, ReadRound};
use crate::model::name::StreamName;
use crate::redis::{Changes, NodeRef, Redirect, TrackingConnection};

/// Maximum number of streams in a round.
const ROUND: usize = 256;
/// Minimum and maximum delay before a server is tried again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// Delay before a stream whose slot is being moved is read again.
const TRY_AGAIN: Duration = Duration::from_millis(10);
/// Idle time after which a connection is tested, as a half-open one would stay silent forever.
const TEST_AFTER: Duration = Duration::from_secs(1);
/// Interval of ticks: while streams wait for a server, and otherwise.
const TICK: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// Interval of looks at streams whose server does not report changes.
const POLL_EVERY: Duration = Duration::from_secs(1);

/// The streams that a reader follows. Owned by the reader.
pub(super) type FollowedStreams = HashMap<StreamName, Followed>;

/// A server, the connection to it, and the streams to read from it.
struct Server {
    connection: Option<TrackingConnection>,
    due: Vec<StreamName>,
    /// Whether a round is running.
    busy: bool,
    /// No round starts before this time.
    not_before: Instant,
    backoff: Duration,
    /// Time of the last answer.
    answered: Instant,
}

/// All streams of a reader, by server.
pub(super) struct Tracked<'a> {
    context: &'a LiveContext,
    all: &'a mut FollowedStreams,
    changes: Arc<Changes>,
    servers: HashMap<NodeRef, Server>,
    /// Streams whose slot has no master now.
    unserved: Vec<StreamName>,
    /// Streams in a running round; true if they must be read again after it.
    away: HashMap<StreamName, bool>,
    polled: Instant,
}

impl<'a> Tracked<'a> {
    pub(super) fn new(context: &'a LiveContext, all: &'a mut FollowedStreams) -> Self {
        Self {
            context,
            all,
            changes: Arc::default(),
            servers: HashMap::new(),
            unserved: Vec::new(),
            away: HashMap::new(),
            polled: Instant::now(),
        }
    }

    /// Returns the changes that are reported on the connections.
    pub(super) fn changes(&self) -> Arc<Changes> {
        self.changes.clone()
    }

    /// Returns the streams that are not in a running round.
    pub(super) const fn streams(&mut self) -> &mut FollowedStreams {
        self.all
    }

    /// Returns whether a round is running.
    pub(super) fn is_busy(&self) -> bool {
        self.servers.values().any(|server| server.busy)
    }

    /// Returns whether a server does not report changes.
    pub(super) fn is_refused(&self) -> bool {
        let connections = self.servers.values();
        let mut connections = connections.filter_map(|of| of.connection.as_ref());
        connections.any(|connection| !connection.reports)
    }

    /// Adds a stream, to be read in the next round.
    pub(super) fn add(&mut self, followed: Followed) {
        let stream = followed.tail.stream.clone();
        self.all.insert(stream.clone(), followed);
        self.enqueue(&stream);
    }

    /// Marks a stream to be read in the next round.
    pub(super) fn mark(&mut self, stream: &str) {
        if let Some(again) = self.away.get_mut(stream) {
            *again = true;
        } else if let Some((stream, followed)) = self.all.get_key_value(stream)
            && !followed.due
        {
            let stream = stream.clone();
            self.enqueue(&stream);
        }
    }

    /// Marks all streams.
    pub(super) fn mark_all(&mut self) {
        self.away.values_mut().for_each(|again| *again = true);
        let all: Vec<_> = self.all.keys().cloned().collect();
        self.forget_queues();
        for stream in &all {
            self.enqueue(stream);
        }
    }

    fn forget_queues(&mut self) {
        self.unserved.clear();
        for server in self.servers.values_mut() {
            server.due.clear();
        }
    }

    fn enqueue(&mut self, stream: &StreamName) {
        let Some(followed) = self.all.get_mut(stream) else {
            return;
        };
        followed.due = true;
        let target = followed.target.clone();
        match target.or_else(|| self.context.store.node_of(stream)) {
            Some(node) => self.server(&node).due.push(stream.clone()),
            None => self.unserved.push(stream.clone()),
        }
    }

    fn server(&mut self, node: &NodeRef) -> &mut Server {
        let now = Instant::now();
        self.servers.entry(node.clone()).or_insert_with(|| Server {
            connection: None,
            due: Vec::new(),
            busy: false,
            not_before: now,
            backoff: BACKOFF.0,
            answered: now,
        })
    }

    /// Marks what was reported since the last call.
    pub(super) fn take_changes(&mut self) {
        let reported = self.changes.take();
        for node in reported.closed {
            if let Some(server) = self.servers.get_mut(&node) {
                server.connection = None;
                self.mark_tracked_by(&node);
            }
        }
        if reported.all {
            self.mark_all();
        }
        for key in reported.keys {
            if let Ok(stream) = std::str::from_utf8(&key) {
                self.mark(stream);
            }
        }
    }

    /// Marks the streams that were last read from a server.
    fn mark_tracked_by(&mut self, node: &NodeRef) {
        let of_node = |followed: &Followed| followed.tracked_by.as_ref() == Some(node);
        let streams: Vec<_> = self
            .all
            .iter()
            .filter(|(_, followed)| of_node(followed) && !followed.due)
            .map(|(stream, _)| stream.clone())
            .collect();
        for stream in &streams {
            self.enqueue(stream);
        }
        self.away.values_mut().for_each(|again| *again = true);
    }

    /// Marks the streams that another server serves by now. Redis does not report all moves.
    pub(super) fn take_moves(&mut self) {
        let store = &self.context.store;
        for (stream, followed) in self.all.iter_mut() {
            let owner = store.node_of(stream);
            if owner.is_some() && owner != followed.tracked_by {
                // The target of a move is the owner from now on, or the move was given up.
                followed.target = None;
                followed.due = true;
            }
        }
        self.away.values_mut().for_each(|again| *again = true);
        // Streams may be queued for a server that is not their owner any more.
        self.forget_queues();
        let due = self.all.iter().filter(|(_, followed)| followed.due);
        let due: Vec<_> = due.map(|(stream, _)| stream.clone()).collect();
        for stream in &due {
            self.enqueue(stream);
        }
    }

    /// Returns the time until the next tick, after the last one.
    pub(super) fn tick_every(&self) -> Duration {
        let waits = |server: &Server| !server.busy && !server.due.is_empty();
        match !self.unserved.is_empty() || self.servers.values().any(waits) {
            true => TICK.0,
            false => TICK.1,
        }
    }

    /// Looks at what no report tells: servers that report nothing, and streams without a server.
    pub(super) fn tick(&mut self) {
        for stream in std::mem::take(&mut self.unserved) {
            self.enqueue(&stream);
        }
        if self.polled.elapsed() < POLL_EVERY {
            return;
        }
        self.polled = Instant::now();
        let silent: Vec<_> = self
            .servers
            .iter()
            .filter(|(_, server)| server.connection.as_ref().is_some_and(|of| !of.reports))
            .map(|(node, _)| node.clone())
            .collect();
        for node in &silent {
            self.mark_tracked_by(node);
        }
        // Servers that left.
        self.servers.retain(|node, server| {
            let used = |followed: &Followed| followed.tracked_by.as_ref() == Some(node);
            server.busy || !server.due.is_empty() || self.all.values().any(used)
        });
    }

    /// Returns the rounds that can start now, one for each idle server with streams to read or with
    /// a connection to test.
    pub(super) fn rounds(&mut self) -> Vec<ReadRound> {
        let now = Instant::now();
        let mut rounds = Vec::new();
        for (node, server) in &mut self.servers {
            let test = server.connection.is_some() && server.answered.elapsed() > TEST_AFTER;
            if server.busy || now < server.not_before || (server.due.is_empty() && !test) {
                continue;
            }
            server.busy = true;
            let count = server.due.len().min(ROUND);
            let taken = server.due.drain(..count);
            let streams: Vec<_> = taken
                .filter_map(|stream| self.all.remove(&stream))
                .collect();
            let names = streams
                .iter()
                .map(|followed| (followed.tail.stream.clone(), false));
            self.away.extend(names);
            rounds.push(ReadRound {
                node: node.clone(),
                connection: server.connection.clone(),
                streams,
            });
        }
        rounds
    }

    /// Takes back the streams of a round.
    pub(super) fn finish(&mut self, done: FinishedRound) {
        let now = Instant::now();
        if let Some(error) = &done.failed {
            self.context.store.suspect(error);
            tracing::debug!(%error, "cannot read followed streams from a Redis server");
        }
        let server = self.server(&done.node);
        server.busy = false;
        if done.failed.is_some() {
            server.connection = None;
            server.not_before = now + server.backoff;
            server.backoff = (server.backoff * 2).min(BACKOFF.1);
        } else {
            server.connection = done.connection;
            server.answered = now;
            server.backoff = BACKOFF.0;
        }
        let mut again = Vec::new();
        for (mut followed, redirect) in done.streams {
            let stream = followed.tail.stream.clone();
            let changed = self.away.remove(&stream).unwrap_or(false);
            if let Some(redirect) = &redirect {
                self.redirect(&mut followed, &done.node, redirect);
            }
            if followed.due || changed {
                again.push(stream.clone());
            }
            self.all.insert(stream, followed);
        }
        for stream in &again {
            self.enqueue(stream);
        }
        if done.failed.is_some() {
            // What this server reported may be lost.
            self.mark_tracked_by(&done.node);
        }
    }

    fn redirect(&mut self, followed: &mut Followed, from: &NodeRef, redirect: &Redirect) {
        followed.due = true;
        match self.context.store.redirected(from, redirect) {
            Some((node, asking)) => followed.target = asking.then_some(node),
            None => self.server(from).not_before = Instant::now() + TRY_AGAIN,
        }
    }
}
