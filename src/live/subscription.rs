//! A subscription: one client that follows one or more streams, as server-sent events or NDJSON.
//!
//! A subscription has no task of its own. Its owner polls it for the next bytes when the socket is
//! writable, so a slow client only slows itself. It reads what it missed when it is polled again.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::live::context::JoinError;
use crate::live::control_events::{EndReason, Signal};
use crate::live::cursors::Cursors;
use crate::live::hub::Hub;
use crate::live::prefix_watch::{MATCH, PrefixFollower};
use crate::live::send_queue::SendQueue;
use crate::live::stream_reader::{Feed, Step, TURN, WriteContext, write_signal};
use crate::live::subscribe_plan::{
    SubscribeOptions, SubscribeRequest, SubscriptionSlot, Visible, found,
};
use crate::live::timing::{on_grid, spread};
use crate::live::wake_queue::RegisteredWakeHandle;
use crate::model::cursor::MAX_STREAMS;
use crate::model::position::Position;
use crate::model::validity::Validity;
use crate::model::view::EventView;

/// One subscription.
pub struct Subscription {
    hub: Hub,
    view: Arc<EventView>,
    wake_handle: RegisteredWakeHandle,
    /// The feeds by stream number, as used in notifications. A free number is `None`.
    feeds: Vec<Option<Feed>>,
    cursors: Cursors,
    matches: Matches,
    /// The number of the feed to poll next.
    next: usize,
    /// Whether `$open` is still to be written.
    unopened: bool,
    ended: bool,
    timer: Pin<Box<Sleep>>,
    heartbeat: Duration,
    last_sent: Instant,
    ends_at: Option<Instant>,
    expires_at: Option<Instant>,
    validity: Validity,
    drain: CancellationToken,
    _counted: SubscriptionSlot,
}

/// The streams followed because their names match a prefix.
struct Matches {
    matching: Vec<PrefixFollower>,
    /// A filter of the matching streams to follow; `None` for all.
    visible: Option<Visible>,
    /// Whether the set of matching streams has changed.
    changed: bool,
    /// Whether there were too many streams and a check of which exist was requested.
    was_checked: bool,
    /// Numbers of deleted streams that are still being read, while other streams need their place.
    lingering: Vec<usize>,
}

impl Subscription {
    /// Joins the streams and resolves the start position in each.
    ///
    /// # Errors
    /// [`JoinError`] if the subscription cannot be opened. Nothing was delivered then.
    /// # Cancel safety
    /// Safe.
    pub async fn open(
        hub: Hub,
        wanted: SubscribeRequest,
        terms: SubscribeOptions,
    ) -> Result<Self, JoinError> {
        // Streams that match later are charged to the same account.
        let hub = hub.for_current_account();
        let wake_handle = hub.wake_handle();
        let mut matching = Vec::new();
        for prefix in &wanted.prefixes {
            matching.push(hub.watch_prefix(prefix, wake_handle.clone()).await?);
        }
        let begun = hub.begin_all(&wanted, &matching, &wake_handle).await?;
        let mut cursors = Cursors::new(wanted.many);
        let feeds = begun.into_iter().map(|begun| {
            cursors.add(begun.following.stream(), begun.at);
            Some(Feed::joined(begun))
        });
        let feeds = feeds.collect();
        let (now, heartbeat) = (Instant::now(), spread(terms.heartbeat));
        Ok(Self {
            view: hub.share_view(wanted.view),
            hub,
            wake_handle,
            feeds,
            cursors,
            matches: Matches {
                matching,
                visible: wanted.visible,
                changed: false,
                was_checked: false,
                lingering: Vec::new(),
            },
            next: 0,
            unopened: true,
            ended: false,
            timer: Box::pin(sleep_until(on_grid(now + heartbeat))),
            heartbeat,
            last_sent: now,
            ends_at: terms.max_age.map(|age| now + spread(age)),
            expires_at: terms
                .validity
                .remaining()
                .and_then(|left| now.checked_add(left)),
            validity: terms.validity,
            drain: terms.drain,
            _counted: terms.counted,
        })
    }

    /// Writes the next bytes to send into `out`. Pending if there are none; `None` after the end of
    /// the subscription. Poll again until pending.
    ///
    /// # Errors
    /// [`JoinError`] if a retry cannot succeed. The error is returned once and ends the
    /// subscription.
    pub fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut SendQueue,
    ) -> Poll<Option<Result<(), JoinError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let before = out.len();
        let polled = self.poll_out(cx, out);
        self.ended |= matches!(polled, Poll::Ready(Err(_)));
        if out.len() > before {
            self.last_sent = Instant::now();
        }
        polled.map(Some)
    }

    fn poll_out(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut SendQueue,
    ) -> Poll<Result<(), JoinError>> {
        let before = out.len();
        if std::mem::take(&mut self.unopened) {
            self.tell_open(out);
            // NDJSON has no `$open`, so nothing was written.
            if out.len() > before {
                return Poll::Ready(Ok(()));
            }
        }
        let (feeds, changed) = (&mut self.feeds, &mut self.matches.changed);
        self.wake_handle
            .answer(cx, |number| match feeds.get_mut(number as usize) {
                Some(Some(feed)) => feed.news = true,
                _ => *changed |= number == MATCH,
            });
        let closing = match () {
            () if self.drain.is_cancelled() => Some(EndReason::Draining),
            () if self.validity.is_over() => Some(EndReason::Expired),
            () => None,
        };
        if let Some(closing) = closing {
            self.tell_end(closing, out);
            return Poll::Ready(Ok(()));
        }
        loop {
            if std::mem::take(&mut self.matches.changed) {
                self.match_again(out)?;
            }
            self.poll_feeds(cx, out)?;
            let mut followed = self.feeds.iter().flatten().peekable();
            if followed.peek().is_some() && followed.all(Feed::is_complete) {
                self.tell_end(EndReason::Complete, out);
            }
            if out.len() > before {
                return Poll::Ready(Ok(()));
            }
            // New matching streams may take the places of deleted streams that are now read
            // completely.
            let is_idle = |number: &usize| self.feeds[*number].as_ref().is_some_and(is_idle);
            self.matches.changed |= self.matches.lingering.iter().any(is_idle);
            if self.matches.changed {
                continue;
            }
            ready!(self.poll_timer(cx));
            self.on_time(out);
            if out.len() > before {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Polls each feed that may have entries, until there is enough for one write.
    fn poll_feeds(&mut self, cx: &mut Context<'_>, out: &mut SendQueue) -> Result<(), JoinError> {
        let before = out.len();
        for _ in 0..self.feeds.len() {
            let number = self.next % self.feeds.len();
            let Some(feed) = self.feeds[number].as_mut().filter(|feed| feed.is_due()) else {
                self.next = number + 1;
                continue;
            };
            let mut writer = WriteContext {
                hub: &self.hub,
                view: &self.view,
                wake_handle: &self.wake_handle,
                cursors: &mut self.cursors,
                out,
            };
            let step = feed.poll(number, &mut writer, cx);
            self.next = number + 1;
            if let Poll::Ready(Step::Gone) = step.map(|step| step)? {
                self.leave(number);
            }
            if out.len() - before >= TURN {
                break;
            }
        }
        Ok(())
    }

    /// Returns the time of the next timeout: retry, heartbeat, maximum duration or expiry.
    fn due(&self) -> Instant {
        let away = self.feeds.iter().flatten().filter_map(Feed::until).min();
        let heartbeat = on_grid(self.last_sent + self.heartbeat);
        [away, self.ends_at, self.expires_at]
            .into_iter()
            .flatten()
            .fold(heartbeat, Instant::min)
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let due = self.due();
            // The timer may fire too early, because sent bytes have postponed the heartbeat.
            if due < self.timer.deadline() {
                self.timer.as_mut().reset(due);
            }
            ready!(self.timer.as_mut().poll(cx));
            if due <= Instant::now() {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(due);
        }
    }

    fn on_time(&mut self, out: &mut SendQueue) {
        let now = Instant::now();
        if self.expires_at.is_some_and(|end| end <= now) {
            self.tell_end(EndReason::Expired, out);
        } else if self.ends_at.is_some_and(|end| end <= now) {
            self.tell_end(EndReason::SessionAge, out);
        } else if self.last_sent + self.heartbeat <= now {
            self.tell_alive(out);
        }
    }

    fn tell_open(&mut self, out: &mut SendQueue) {
        let cursor = self.cursors.text();
        let shown = |feed| self.view.namespace.public_name_of(Feed::stream(feed));
        let streams = self.feeds.iter().flatten().map(shown).collect();
        let open = Signal::Open {
            streams,
            cursor: &cursor,
        };
        out.write(|out| open.write(out, Some(&cursor), self.view.framing));
    }

    /// Writes a heartbeat, or the position if it has moved without an event.
    fn tell_alive(&mut self, out: &mut SendQueue) {
        if !self.cursors.untold {
            return out
                .write(|out| out.extend_from_slice(self.view.framing.heartbeat().as_bytes()));
        }
        let cursor = self.cursors.text();
        let mut writer = WriteContext {
            hub: &self.hub,
            view: &self.view,
            wake_handle: &self.wake_handle,
            cursors: &mut self.cursors,
            out,
        };
        write_signal(&mut writer, &Signal::Progress { cursor: &cursor });
    }

    fn tell_end(&mut self, closing: EndReason, out: &mut SendQueue) {
        let cursor = self.cursors.text();
        out.write(|out| closing.write(out, Some(&cursor), self.view.framing));
        self.ended = true;
    }

    /// Follows new matching streams from their start, and drops deleted ones.
    fn match_again(&mut self, out: &mut SendQueue) -> Result<(), JoinError> {
        // The end of a check also sends a notification.
        if self
            .matches
            .matching
            .iter()
            .any(PrefixFollower::is_checking)
        {
            return Ok(());
        }
        let named = self.feeds.iter().flatten().filter(|feed| !feed.matched);
        let named: Vec<_> = named.map(Feed::stream).collect();
        let mut now = found(
            &self.matches.matching,
            self.matches.visible.as_ref(),
            |stream| named.contains(&stream),
        );
        let (named, confirmed) = (
            named.len(),
            now.values().filter(|confirmed| **confirmed).count(),
        );
        if named + now.len() > MAX_STREAMS {
            if self.matches.was_checked && named + confirmed > MAX_STREAMS {
                return Err(JoinError::TooManyForOne);
            }
            // Some streams may have been deleted since they were found.
            self.matches.was_checked = true;
            self.matches.matching.iter().for_each(PrefixFollower::check);
            return Ok(());
        }
        self.matches.was_checked = false;
        let (mut gone, mut lingering) = (Vec::new(), Vec::new());
        for number in 0..self.feeds.len() {
            let Some(feed) = self.feeds[number].as_ref().filter(|feed| feed.matched) else {
                continue;
            };
            if now.remove(feed.stream()).is_some() {
                continue;
            }
            // A reset was reported already, so the client knows that the stream is gone.
            if feed.is_live() && self.cursors.at(number) == Position::START {
                self.leave(number);
            } else if is_idle(feed) {
                gone.push(number);
            } else {
                lingering.push(number);
            }
        }
        // A deleted stream is dropped when its reset is found, or now if others need its place.
        let mut free = MAX_STREAMS - self.feeds.iter().flatten().count();
        for number in gone.into_iter().take(now.len().saturating_sub(free)) {
            self.tell_reset(number, out);
            self.leave(number);
            free += 1;
        }
        self.matches.lingering = if now.len() > free {
            lingering
        } else {
            Vec::new()
        };
        for stream in now.into_keys().take(free) {
            let number = self.cursors.add(&stream, Position::START);
            let feed = Some(Feed::new(stream, true));
            match self.feeds.get_mut(number) {
                Some(free) => *free = feed,
                None => self.feeds.push(feed),
            }
        }
        Ok(())
    }

    fn leave(&mut self, number: usize) {
        self.feeds[number] = None;
        self.cursors.remove(number);
    }

    fn tell_reset(&mut self, number: usize, out: &mut SendQueue) {
        let Some(feed) = &self.feeds[number] else {
            return;
        };
        self.cursors.set(number, Position::START);
        self.hub.0.context.metrics.resets.inc();
        let view = self.view.clone();
        let stream = view.namespace.public_name_of(feed.stream());
        let mut writer = WriteContext {
            hub: &self.hub,
            view: &view,
            wake_handle: &self.wake_handle,
            cursors: &mut self.cursors,
            out,
        };
        write_signal(&mut writer, &Signal::Reset { stream: &stream });
    }
}

/// Returns whether a matched stream has no entries left to deliver.
fn is_idle(feed: &Feed) -> bool {
    feed.matched && feed.is_live() && !feed.news
}
