//! Connection health: tracks whether Redis answers, and logs changes.

use std::time::Duration;

use tokio::sync::watch;

use crate::redis::Store;

/// Shortest and longest interval between log lines about an unreachable server; doubles each time.
const SAY_AGAIN: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(300));
/// Timeout for asking a server for its version.
const VERSION_WITHIN: Duration = Duration::from_secs(1);

/// The health of the connection to Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisHealth {
    /// Never reached since the start; with the cause, once a connection was tried.
    Never(Option<String>),
    /// The last attempt succeeded.
    Up,
    /// Reached before but unreachable now, with the cause.
    Down(String),
}

impl RedisHealth {
    /// Records the outcome of an attempt. Returns true if the state changes.
    pub(in crate::redis) fn record(&mut self, cause: Option<String>) -> bool {
        let next = match (&*self, cause) {
            (_, None) => Self::Up,
            (Self::Never(_), cause) => Self::Never(cause),
            (_, Some(cause)) => Self::Down(cause),
        };
        let changed = *self != next;
        *self = next;
        changed
    }

    /// Returns why Redis is unreachable, if the cause is known.
    #[must_use]
    pub fn cause(&self) -> Option<&str> {
        match self {
            Self::Never(cause) => cause.as_deref(),
            Self::Up => None,
            Self::Down(cause) => Some(cause),
        }
    }
}

impl Store {
    /// Logs when Redis becomes reachable or unreachable. Repeats the warning at growing intervals
    /// while Redis stays unreachable.
    pub(in crate::redis) async fn report_contact(&self) {
        let mut health = self.health();
        loop {
            let now = health.borrow_and_update().clone();
            let gone = match now {
                RedisHealth::Up => {
                    self.say_connected().await;
                    health
                        .wait_for(|health| *health != RedisHealth::Up)
                        .await
                        .is_err()
                }
                RedisHealth::Never(None) => health.changed().await.is_err(),
                RedisHealth::Never(Some(_)) | RedisHealth::Down(_) => {
                    self.say_away_until_back(&mut health).await
                }
            };
            if gone {
                return;
            }
        }
    }

    /// Returns the address of Redis, or `None` while the sentinels name no server.
    fn address(&self) -> Option<String> {
        let table = self.nodes.table();
        let addresses = table.nodes().iter().filter_map(|node| node.address());
        let addresses: Vec<_> = addresses.map(|address| address.to_string()).collect();
        match addresses.is_empty() && !table.is_cluster() {
            true => None,
            false if addresses.is_empty() => Some(self.nodes.settings.seed_list()),
            false => Some(addresses.join(", ")),
        }
    }

    async fn say_connected(&self) {
        let asked = tokio::time::timeout(VERSION_WITHIN, self.server_name()).await;
        let (name, version) = asked.ok().and_then(Result::ok).unwrap_or_default();
        let name = match name.as_deref() {
            Some("valkey") => "Valkey",
            _ => "Redis",
        };
        let version = version
            .map(|version| format!(" {version}"))
            .unwrap_or_default();
        let address = self.address().unwrap_or_default();
        tracing::info!("connected to {name}{version} at {address}");
    }

    /// Logs warnings until Redis is reachable again. Returns true when the state can no longer
    /// change, because its sender is gone.
    async fn say_away_until_back(&self, health: &mut watch::Receiver<RedisHealth>) -> bool {
        let mut pause = SAY_AGAIN.0;
        loop {
            let cause = health
                .borrow()
                .cause()
                .unwrap_or("unknown cause")
                .to_owned();
            // Without an address, `ask_for_master` logs what is wrong with the sentinels.
            if let Some(address) = self.address() {
                tracing::warn!("cannot reach Redis at {address}: {cause}; retrying");
            }
            tokio::select! {
                back = health.wait_for(|health| *health == RedisHealth::Up) => return back.is_err(),
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(SAY_AGAIN.1);
        }
    }
}
