//! Contact with Redis: whether the server answers, and what the log says of it.

use std::time::Duration;

use tokio::sync::watch;

use crate::redis::Store;

/// Between two lines about a server that is still away: doubled up to the greatest.
const SAY_AGAIN: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(300));
/// How long a server may take to tell its version.
const VERSION_WITHIN: Duration = Duration::from_secs(1);

/// The state of the contact with Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contact {
    /// Not reached since the start; the cause, if a connection was tried at all.
    Never(Option<String>),
    /// The last attempt went well.
    Up,
    /// Reached before, and not now; the cause.
    Down(String),
}

impl Contact {
    /// Notes the outcome of an attempt; true if that changes anything.
    pub(in crate::redis) fn note(&mut self, cause: Option<String>) -> bool {
        let next = match (&*self, cause) {
            (_, None) => Self::Up,
            (Self::Never(_), cause) => Self::Never(cause),
            (_, Some(cause)) => Self::Down(cause),
        };
        let changed = *self != next;
        *self = next;
        changed
    }

    /// The cause, while there is no contact.
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
    /// Says in the log when Redis was reached and when not: at once, and then at growing intervals.
    pub(in crate::redis) async fn report_contact(&self) {
        let mut contact = self.contact();
        loop {
            let now = contact.borrow_and_update().clone();
            let gone = match now {
                Contact::Up => {
                    self.say_connected().await;
                    contact
                        .wait_for(|contact| *contact != Contact::Up)
                        .await
                        .is_err()
                }
                Contact::Never(None) => contact.changed().await.is_err(),
                Contact::Never(Some(_)) | Contact::Down(_) => {
                    self.say_away_until_back(&mut contact).await
                }
            };
            if gone {
                return;
            }
        }
    }

    /// Where Redis is; nothing while sentinels name no server.
    fn address(&self) -> Option<String> {
        Some(self.connections.site().ok()?.target.info.addr().to_string())
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

    /// True when nobody will ever be back.
    async fn say_away_until_back(&self, contact: &mut watch::Receiver<Contact>) -> bool {
        let mut pause = SAY_AGAIN.0;
        loop {
            let cause = contact
                .borrow()
                .cause()
                .unwrap_or("no cause is known")
                .to_owned();
            // While sentinels name no server, it is said what is wrong with them.
            if let Some(address) = self.address() {
                tracing::warn!("cannot reach Redis at {address}: {cause}; retrying");
            }
            tokio::select! {
                back = contact.wait_for(|contact| *contact == Contact::Up) => return back.is_err(),
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(SAY_AGAIN.1);
        }
    }
}
