//! Background reloading of credentials: the auth file, the keys of token issuers, and the ticket
//! secret.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::auth::{Auth, secret_of};
use crate::live::Hub;
use crate::metrics::Metrics;
use crate::redis::{RedisHealth, Store};

/// Interval at which the auth file and the ticket secret file are checked for changes.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Intervals at which issuer keys are fetched: from files, and from URLs.
const FETCH_EVERY: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));
/// Interval at which the shared ticket secret is checked in Redis.
const SHARE_EVERY: Duration = Duration::from_millis(500);

/// Reloads the auth file when it changes, until stopped. After a revocation, all subscriptions
/// check their credentials at once.
pub async fn watch_file(auth: Auth, hub: Hub, metrics: Metrics, stop: CancellationToken) {
    let mut ticks = ticks(LOOK_EVERY);
    while ticked(&mut ticks, &stop).await {
        match auth.reload() {
            Ok(true) => hub.wake_all(),
            Ok(false) => {}
            Err(wrong) => {
                metrics.auth_file_errors.inc();
                for wrong in wrong {
                    tracing::error!(
                        "auth file has an error; keeping the previous credentials: {wrong}"
                    );
                }
            }
        }
    }
}

/// Fetches issuer keys again, from URLs if `by_url` and from files otherwise, until stopped. Runs
/// as a task of its own, so that a slow issuer cannot delay a reload of the auth file.
pub async fn watch_keys(auth: Auth, hub: Hub, by_url: bool, stop: CancellationToken) {
    let mut ticks = ticks(if by_url { FETCH_EVERY.1 } else { FETCH_EVERY.0 });
    while ticked(&mut ticks, &stop).await {
        let gone = tokio::select! {
            () = stop.cancelled() => return,
            gone = auth.fetch_keys(by_url) => gone,
        };
        if gone {
            hub.wake_all();
        }
    }
}

fn ticks(every: Duration) -> Interval {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Waits for the next tick. Returns false when stopped.
async fn ticked(ticks: &mut Interval, stop: &CancellationToken) -> bool {
    tokio::select! {
        () = stop.cancelled() => false,
        _ = ticks.tick() => true,
    }
}

/// Keeps the ticket secret equal to the one that all gateways share through Redis, until stopped.
/// Redis may return from an outage without the secret, or with that of another gateway.
pub async fn share(auth: Auth, store: Store, stop: CancellationToken) {
    let (mut health, mut ticks) = (store.health(), ticks(SHARE_EVERY));
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
            changed = health.changed() => if changed.is_err() { return },
        }
        if matches!(*health.borrow_and_update(), RedisHealth::Up) {
            share_secret(&auth, &store).await;
        }
    }
}

/// Reloads the ticket secret from a file when the file changes, until stopped.
pub async fn watch_secret(auth: Auth, file: PathBuf, stop: CancellationToken) {
    let mut ticks = ticks(LOOK_EVERY);
    let mut wrong = None;
    while ticked(&mut ticks, &stop).await {
        match read_secret(&file).await {
            Ok(secret) if auth.secret().as_ref() == Some(&secret) => wrong = None,
            Ok(secret) => {
                auth.take_secret_from_file(&secret);
                tracing::info!("loaded the ticket secret from {}", file.display());
                wrong = None;
            }
            Err(error) => {
                if wrong.as_ref() != Some(&error) {
                    tracing::error!(
                        "cannot load the ticket secret; keeping the previous one: {error}"
                    );
                }
                wrong = Some(error);
            }
        }
    }
}

/// Reads the ticket secret from a file.
///
/// # Errors
/// The cause, with the path of the file.
async fn read_secret(file: &Path) -> Result<Vec<u8>, String> {
    let text = tokio::fs::read(file).await;
    let text = text.map_err(|error| format!("{} cannot be read: {error}", file.display()))?;
    secret_of(&text).map_err(|wrong| format!("{} {wrong}", file.display()))
}

/// Adopts the ticket secret that all gateways share, or publishes this gateway's secret if Redis
/// holds none. While Redis is unreachable, the last known secret stays in use. Returns whether
/// Redis returned a secret.
///
/// # Cancel safety
/// Safe.
pub async fn share_secret(auth: &Auth, store: &Store) -> bool {
    if !auth.shares_secret() {
        return false;
    }
    // `secret()` is `None` if the system has no random bytes. A secret in Redis still works then.
    match store.shared_secret(auth.secret().as_deref()).await {
        Ok(Some(secret)) => {
            auth.share_secret(&secret);
            return true;
        }
        Ok(None) => tracing::error!("the system has no random bytes: cannot issue tickets"),
        Err(error) => tracing::debug!(%error, "cannot share the ticket secret through Redis"),
    }
    false
}
