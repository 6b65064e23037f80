//! Keeping what callers are believed by up to date: the file, the keys of issuers, the secret of
//! tickets.

use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::auth::Auth;
use crate::live::Hub;
use crate::metrics::Metrics;
use crate::store::{Contact, Store};

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often keys of issuers are fetched from files, and from URLs.
const FETCH_EVERY: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));
/// Between attempts to share the secret of tickets.
const SHARE_AGAIN: Duration = Duration::from_secs(1);

/// Looks at the file, until it is stopped. Whoever follows something by what is gone is told at once.
pub async fn watch_file(auth: Auth, hub: Hub, metrics: Metrics, stop: CancellationToken) {
    let mut ticks = ticks(LOOK_EVERY);
    while ticked(&mut ticks, &stop).await {
        match auth.reload() {
            Ok(true) => hub.call_all(),
            Ok(false) => {}
            Err(wrong) => {
                metrics.auth_file_errors.inc();
                for wrong in wrong {
                    tracing::error!("the auth file has a mistake, and is not taken: {wrong}");
                }
            }
        }
    }
}

/// Looks at the keys of issuers that are fetched from files, or by URL, until it is stopped. Apart
/// from the file, which no issuer that is slow may hold up.
pub async fn watch_keys(auth: Auth, hub: Hub, by_url: bool, stop: CancellationToken) {
    let mut ticks = ticks(if by_url { FETCH_EVERY.1 } else { FETCH_EVERY.0 });
    while ticked(&mut ticks, &stop).await {
        let gone = tokio::select! {
            () = stop.cancelled() => return,
            gone = auth.fetch_keys(by_url) => gone,
        };
        if gone {
            hub.call_all();
        }
    }
}

fn ticks(every: Duration) -> Interval {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Waits for the next tick; false when it is time to stop.
async fn ticked(ticks: &mut Interval, stop: &CancellationToken) -> bool {
    tokio::select! {
        () = stop.cancelled() => false,
        _ = ticks.tick() => true,
    }
}

/// Shares the secret that tickets are signed with, whenever Redis was reached: it may have come back
/// without it.
pub async fn share(auth: Auth, store: Store, stop: CancellationToken) {
    let mut contact = store.contact();
    loop {
        let up = contact.wait_for(|contact| matches!(contact, Contact::Up));
        tokio::select! {
            () = stop.cancelled() => return,
            up = up => if up.is_err() { return },
        }
        let shared = match auth.secret() {
            Some(own) => store.shared_secret(&own).await,
            None => {
                return tracing::error!(
                    "the system gives no random bytes: there will be no tickets"
                );
            }
        };
        match shared {
            Ok(secret) => {
                auth.share_secret(&secret);
                let down = contact.wait_for(|contact| !matches!(contact, Contact::Up));
                tokio::select! {
                    () = stop.cancelled() => return,
                    down = down => if down.is_err() { return },
                }
            }
            Err(error) => {
                tracing::debug!(%error, "the secret of tickets could not be shared");
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(SHARE_AGAIN) => {}
                }
            }
        }
    }
}
