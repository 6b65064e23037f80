//! Keeping what callers are believed by up to date: the file, the keys of issuers, the secret of
//! tickets.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::auth::{Auth, secret_of};
use crate::live::Hub;
use crate::metrics::Metrics;
use crate::redis::{Contact, Store};

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often keys of issuers are fetched from files, and from URLs.
const FETCH_EVERY: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));
/// How often the shared secret of tickets is looked at.
const SHARE_EVERY: Duration = Duration::from_millis(500);

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

/// Keeps the secret that tickets are signed with the one that all gateways share: Redis may have come
/// back without it, or with that of another.
pub async fn share(auth: Auth, store: Store, stop: CancellationToken) {
    let (mut contact, mut ticks) = (store.contact(), ticks(SHARE_EVERY));
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
            changed = contact.changed() => if changed.is_err() { return },
        }
        if matches!(*contact.borrow_and_update(), Contact::Up) {
            share_secret(&auth, &store).await;
        }
    }
}

/// Takes the secret that tickets are signed with from a file, whenever that changes.
pub async fn watch_secret(auth: Auth, file: PathBuf, stop: CancellationToken) {
    let mut ticks = ticks(LOOK_EVERY);
    let mut wrong = None;
    while ticked(&mut ticks, &stop).await {
        match read_secret(&file).await {
            Ok(secret) if auth.secret().as_ref() == Some(&secret) => wrong = None,
            Ok(secret) => {
                auth.take_secret_from_file(&secret);
                tracing::info!("the secret of tickets was read from {}", file.display());
                wrong = None;
            }
            Err(error) => {
                if wrong.as_ref() != Some(&error) {
                    tracing::error!("the secret of tickets stays as it was: {error}");
                }
                wrong = Some(error);
            }
        }
    }
}

/// # Errors
/// The cause, with the name of the file.
async fn read_secret(file: &Path) -> Result<Vec<u8>, String> {
    let text = tokio::fs::read(file).await;
    let text = text.map_err(|error| format!("{} cannot be read: {error}", file.display()))?;
    secret_of(&text).map_err(|wrong| format!("{} {wrong}", file.display()))
}

/// Takes the secret of tickets that all gateways share, or makes ours the one, where there is none.
/// What was known stays known while Redis is away. True if Redis told the secret.
///
/// # Cancel safety
/// Safe.
pub async fn share_secret(auth: &Auth, store: &Store) -> bool {
    if !auth.shares_secret() {
        return false;
    }
    // Without random bytes no secret can be made, and one that is there be used all the same.
    match store.shared_secret(auth.secret().as_deref()).await {
        Ok(Some(secret)) => {
            auth.share_secret(&secret);
            return true;
        }
        Ok(None) => tracing::error!("the system gives no random bytes: no ticket can be made"),
        Err(error) => tracing::debug!(%error, "the secret of tickets could not be shared"),
    }
    false
}
