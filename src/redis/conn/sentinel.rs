//! Asking sentinels which server is the master, and moving all connections when that changes.
//!
//! All are asked at once, each second and when something suggests a change; first of all they say so
//! themselves, on channels that the gateway listens to. What counts is what
//! the one with the newest knowledge says (every failover has a number, the epoch, greater than those
//! before), then what most of them say: a sentinel that was cut off knows an old master only, which
//! may well be there and take writes that nobody will ever see. What they name is asked for its
//! role before it is used. While they are silent, whatever is in use stays in use.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use deadpool_redis::redis::aio::PubSub;
use deadpool_redis::redis::{Cmd, ConnectionAddr, ConnectionInfo};
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::task::TaskTracker;

use crate::redis::StoreError;
use crate::redis::conn::dial::{Target, Wire, connecting};
use crate::redis::conn::endpoint::{PoolSettings, Sentinels};
use crate::redis::conn::pool::Connections;

/// How often they are asked, at least.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// And at most, however much goes wrong.
const ASK_PAUSE: Duration = Duration::from_millis(150);
/// How long the others are waited for once most of them agree. Not at all would be to connect to
/// the slowest anew each time.
const REST_WITHIN: Duration = Duration::from_millis(100);

/// What sentinels tell first when a replica is promoted, and when that is over.
const PROMOTIONS: [&str; 2] = ["+promoted-slave", "+switch-master"];
/// Between attempts to listen to a sentinel.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);

/// One of them.
struct Node {
    target: Target,
    /// Kept while it answers; dropped with a question that nobody waits for any more.
    connection: Option<Wire>,
}

/// What a sentinel says: the epoch of the last failover it knows of (0 where it does not tell), and
/// where the master is since.
type Named = (u64, ConnectionAddr);

/// Why there is no master to use.
#[derive(Clone, Debug, thiserror::Error)]
enum Trouble {
    #[error("no sentinel answers: {0}")]
    Silent(String),
    #[error("no sentinel knows a master called {0:?}")]
    Unknown(String),
    #[error("the sentinels name {0}")]
    Useless(String),
}

/// All of them, asked from one task.
struct Asked<'a> {
    nodes: Vec<Node>,
    /// What they call the master.
    master: &'a str,
    /// How to connect to what they name.
    settings: &'a PoolSettings,
    /// Of what is in use.
    epoch: u64,
}

impl Connections {
    /// Moves to whatever the sentinels name, for ever; does nothing where there are none.
    pub(in crate::redis) async fn follow_master(&self) {
        let Some(sentinels) = &self.settings.sentinels else {
            return std::future::pending().await;
        };
        let listening = sentinels
            .nodes
            .iter()
            .map(|info| self.listen_to(info, &sentinels.master));
        tokio::join!(self.ask_for_master(sentinels), join_all(listening));
    }

    /// Listens to a sentinel, and has all asked at once when a replica is promoted there. One that
    /// the gateway may not listen to is only asked.
    async fn listen_to(&self, info: &ConnectionInfo, master: &str) {
        let target = Target::with_own_login(&self.settings, info.clone());
        loop {
            match self.hear_promotions(&target, master).await {
                Err(StoreError::Denied(_)) => return,
                Err(error) => tracing::debug!(%error, "a sentinel is not listened to"),
                Ok(()) => {}
            }
            tokio::time::sleep(LISTEN_AGAIN).await;
        }
    }

    /// Over one connection, for as long as it holds.
    async fn hear_promotions(&self, target: &Target, master: &str) -> Result<(), StoreError> {
        let subscribed = async {
            let (login, socket) = (target.login().await?, target.socket().await?);
            let mut events = PubSub::new(&login, socket).await?;
            events.subscribe(&PROMOTIONS).await?;
            Ok::<_, StoreError>(events)
        };
        let patience = self.settings.connect_timeout;
        let events = timeout(patience, subscribed)
            .await
            .unwrap_or(Err(StoreError::Timeout))?;
        let mut events = events.into_on_message();
        while let Some(event) = events.next().await {
            let text = event.get_payload::<String>().unwrap_or_default();
            if text.split(' ').any(|word| word == master) {
                self.suspected.notify_one();
            }
        }
        Ok(())
    }

    async fn ask_for_master(&self, sentinels: &Sentinels) {
        let mut asked = Asked {
            nodes: sentinels
                .nodes
                .iter()
                .map(|info| Node::new(&self.settings, info))
                .collect(),
            master: &sentinels.master,
            settings: &self.settings,
            epoch: 0,
        };
        // What was logged last: again every second, it would bury all else.
        let mut logged = None;
        loop {
            let used = self.site().ok().map(|site| site.target.info.addr().clone());
            match asked.for_master(used.as_ref()).await {
                Ok(master) => {
                    if logged.take().is_some() {
                        tracing::info!(%master, "the sentinels name a master again");
                    }
                    if used.as_ref() != Some(&master) {
                        self.follow_to(master, used.as_ref());
                    }
                }
                Err(trouble) => {
                    let kind = std::mem::discriminant(&trouble);
                    if logged.replace(kind) != Some(kind) {
                        let goes_on = used.map(|used| used.to_string());
                        tracing::warn!(error = %trouble, goes_on, "the sentinels do not help");
                    }
                    self.has_no_site(&trouble.to_string());
                }
            }
            tokio::time::sleep(ASK_PAUSE).await;
            tokio::select! {
                () = tokio::time::sleep(ASK_EVERY) => {}
                () = self.suspected.notified() => {}
            }
        }
    }

    fn follow_to(&self, master: ConnectionAddr, before: Option<&ConnectionAddr>) {
        match before {
            None => tracing::info!(%master, "the sentinels name the master"),
            Some(before) => tracing::warn!(%master, %before, "another Redis is the master"),
        }
        if let Err(error) = self.move_to(self.settings.connection.clone().set_addr(master)) {
            tracing::error!(%error, "it cannot be used");
        }
    }
}

impl Asked<'_> {
    /// Where the master is: what is `used` by now, or another that says that it is one.
    async fn for_master(
        &mut self,
        used: Option<&ConnectionAddr>,
    ) -> Result<ConnectionAddr, Trouble> {
        let mut useless = String::new();
        for (epoch, address) in self.named(used).await? {
            if Some(&address) != used {
                if let Err(why) = self.is_master(&address).await {
                    useless = format!("{address} {why}");
                    continue;
                }
                // Whoever says this was away when the master changed, and nobody else was heard.
                if let Some(used) = used
                    && epoch < self.epoch
                    && self.is_master(used).await.is_ok()
                {
                    return Ok(used.clone());
                }
            }
            self.epoch = epoch;
            return Ok(address);
        }
        Err(Trouble::Useless(useless))
    }

    /// What is named, most likely first. Where most of them agree, who does not answer is not waited
    /// for.
    async fn named(&mut self, used: Option<&ConnectionAddr>) -> Result<Vec<Named>, Trouble> {
        let (all, master, settings) = (self.nodes.len(), self.master, self.settings);
        let (mut named, mut unknown, mut silent) = (Vec::<Named>::new(), false, Vec::new());
        let asking = self.nodes.iter_mut().map(|node| node.ask(master, settings));
        let mut asking: FuturesUnordered<_> = asking.collect();
        let mut until = Instant::now() + settings.connect_timeout + REST_WITHIN;
        while let Ok(Some(answer)) = timeout_at(until, asking.next()).await {
            match answer {
                Ok(Some(one)) => {
                    named.push(one);
                    if named
                        .iter()
                        .filter(|other| Some(*other) == named.last())
                        .count()
                        * 2
                        > all
                    {
                        until = until.min(Instant::now() + REST_WITHIN);
                    }
                }
                Ok(None) => unknown = true,
                Err(why) => silent.push(why),
            }
        }
        if named.is_empty() {
            return Err(match unknown {
                true => Trouble::Unknown(master.to_owned()),
                false => Trouble::Silent(silent.join("; ")),
            });
        }
        let votes = |one: &Named| named.iter().filter(|other| *other == one).count();
        let mut best = named.clone();
        best.sort_by_key(|one| Reverse((one.0, votes(one), Some(&one.1) == used)));
        best.dedup();
        Ok(best)
    }

    /// Whether a server says that it is a master: by INFO, because not every user that the gateway
    /// can work as may ask for ROLE.
    async fn is_master(&self, address: &ConnectionAddr) -> Result<(), String> {
        let asked = async {
            let info = self.settings.connection.clone().set_addr(address.clone());
            let connected = connect(&Target::new(self.settings, info), self.settings).await?;
            let mut command = Cmd::new();
            command.arg("INFO").arg("replication");
            let facts = command
                .query_async::<String>(&mut connected.handle.clone())
                .await;
            facts.map_err(StoreError::from)
        };
        match timeout(self.settings.connect_timeout, asked).await {
            Ok(Ok(facts)) if facts.lines().any(|line| line.trim_end() == "role:master") => Ok(()),
            Ok(Ok(_)) => Err("which is no master".to_owned()),
            // If it is none, the first write tells.
            Ok(Err(StoreError::Denied(_))) => Ok(()),
            Ok(Err(error)) => Err(format!(
                "which cannot be asked for its role: {}",
                error.cause()
            )),
            Err(_) => Err("which does not answer".to_owned()),
        }
    }
}

impl Node {
    fn new(settings: &PoolSettings, info: &ConnectionInfo) -> Self {
        Self {
            target: Target::with_own_login(settings, info.clone()),
            connection: None,
        }
    }

    /// What it says; nothing if it does not know such a master.
    async fn ask(
        &mut self,
        master: &str,
        settings: &PoolSettings,
    ) -> Result<Option<Named>, String> {
        let asked = async {
            let wire = match self.connection.take() {
                Some(kept) => kept,
                None => connect(&self.target, settings).await?,
            };
            let mut connection = wire.handle.clone();
            let ask = |what| {
                let mut command = Cmd::new();
                command.arg("SENTINEL").arg(what).arg(master);
                command
            };
            let place = ask("GET-MASTER-ADDR-BY-NAME")
                .query_async::<Option<(String, u16)>>(&mut connection)
                .await?;
            let Some((host, port)) = place else {
                self.connection = Some(wire);
                return Ok(None);
            };
            // Who may not ask this is told what all believe, only less surely.
            let facts = ask("MASTER")
                .query_async::<HashMap<String, String>>(&mut connection)
                .await;
            let epoch = facts
                .ok()
                .and_then(|facts| facts.get("config-epoch")?.parse().ok());
            self.connection = Some(wire);
            let at = beside(&settings.connection, host, port);
            Ok::<_, StoreError>(Some((epoch.unwrap_or(0), at)))
        };
        let answer = timeout(settings.connect_timeout, asked).await;
        let address = self.target.info.addr();
        match answer {
            Ok(answer) => answer.map_err(|error| format!("{address}: {}", error.cause())),
            Err(_) => Err(format!("{address}: no answer in time")),
        }
    }
}

async fn connect(target: &Target, settings: &PoolSettings) -> Result<Wire, StoreError> {
    let config = connecting(settings.connect_timeout);
    target
        .connect(&config, &TaskTracker::new(), &Arc::default())
        .await
}

/// There, by the same means.
fn beside(like: &ConnectionInfo, host: String, port: u16) -> ConnectionAddr {
    match like.addr() {
        ConnectionAddr::TcpTls { .. } => ConnectionAddr::TcpTls {
            host,
            port,
            insecure: false,
            tls_params: None,
        },
        _ => ConnectionAddr::Tcp(host, port),
    }
}
