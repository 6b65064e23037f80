//! Temporary states of Redis: every long-lived reader waits until the state is over, and every
//! write is told to retry.

use std::time::Duration;

use deadpool_redis::redis::aio::MultiplexedConnection;
use deadpool_redis::redis::{Client, Cmd, Value};
use serde_json::json;

use crate::support::gateway::signal;
use crate::support::lines::Lines;
use crate::support::redis::Server;
use crate::support::sse::Sse;
use crate::support::{Answer, TestApp, elapse, eventually, unique};

/// A state that a server enters and leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Busy,
    Loading,
    Replica,
    OutOfMemory,
    CannotSave,
    FewReplicas,
    MasterDown,
    ClusterDown,
    NoAuth,
    NoPermission,
    Frozen,
}

/// A connection opened before the state.
struct Admin {
    connection: MultiplexedConnection,
    url: String,
}

async fn connect(url: &str) -> MultiplexedConnection {
    Client::open(url)
        .unwrap()
        .get_multiplexed_async_connection()
        .await
        .unwrap()
}

impl Admin {
    async fn of(server: &Server) -> Self {
        Self {
            connection: connect(&server.url()).await,
            url: server.url(),
        }
    }

    /// Sends a command. In an argument, `_` stands for a space.
    async fn say(&mut self, words: &str) {
        let mut command = Cmd::new();
        for word in words.split(' ') {
            command.arg(if word == "''" {
                String::new()
            } else {
                word.replace('_', " ")
            });
        }
        command
            .query_async::<Value>(&mut self.connection)
            .await
            .unwrap();
    }

    async fn loop_for_ever(&self) {
        let mut command = Cmd::new();
        command.arg("EVAL").arg("while true do end").arg(0);
        let mut connection = connect(&self.url).await;
        tokio::spawn(async move { command.query_async::<Value>(&mut connection).await.ok() });
    }
}

impl State {
    /// Returns the settings with which the server must start.
    fn settings(self) -> &'static [&'static str] {
        match self {
            Self::Busy => &["--busy-reply-threshold", "50"],
            Self::ClusterDown => &["--cluster-enabled", "yes"],
            _ => &[],
        }
    }

    async fn begin(self, server: &Server, admin: &mut Admin) {
        match self {
            Self::Busy => admin.loop_for_ever().await,
            Self::Loading => {
                server.written().await;
                server.kill();
                server.begin_again_with(&["--key-load-delay", "150"]);
            }
            Self::Replica => admin.say("REPLICAOF 127.0.0.1 1").await,
            Self::OutOfMemory => admin.say("CONFIG SET maxmemory 1").await,
            Self::CannotSave => {
                // Saving fails, because no file can be renamed to a directory.
                std::fs::create_dir(server.dir().join("dump.rdb")).unwrap();
                admin.say("CONFIG SET save 3600_1").await;
                admin.say("BGSAVE").await;
                eventually("it has failed", async || {
                    let info = server.command(&["INFO", "persistence"]).await;
                    format!("{info:?}").contains("rdb_last_bgsave_status:err")
                })
                .await;
            }
            Self::FewReplicas => admin.say("CONFIG SET min-replicas-to-write 1").await,
            Self::MasterDown => {
                admin.say("CONFIG SET replica-serve-stale-data no").await;
                admin.say("REPLICAOF 127.0.0.1 1").await;
            }
            Self::ClusterDown => admin.say("CLUSTER DELSLOTSRANGE 0 16383").await,
            Self::NoAuth => {
                admin.say("CONFIG SET requirepass s3cret").await;
                admin.say("CLIENT KILL TYPE normal SKIPME yes").await;
                admin.say("CLIENT KILL TYPE pubsub").await;
            }
            Self::NoPermission => admin.say("ACL SETUSER default -@stream -@scripting").await,
            Self::Frozen => signal(server.pid(), "STOP"),
        }
    }

    async fn end(self, server: &Server, admin: &mut Admin) {
        match self {
            Self::Busy => {
                let kill = Cmd::new().arg("SCRIPT").arg("KILL").to_owned();
                kill.query_async::<Value>(&mut connect(&admin.url).await)
                    .await
                    .unwrap();
            }
            Self::Loading => {}
            Self::Replica | Self::MasterDown => admin.say("REPLICAOF NO ONE").await,
            Self::OutOfMemory => admin.say("CONFIG SET maxmemory 0").await,
            Self::CannotSave => admin.say("CONFIG SET stop-writes-on-bgsave-error no").await,
            Self::FewReplicas => admin.say("CONFIG SET min-replicas-to-write 0").await,
            Self::ClusterDown => admin.say("CLUSTER ADDSLOTSRANGE 0 16383").await,
            Self::NoAuth => admin.say("CONFIG SET requirepass ''").await,
            Self::NoPermission => admin.say("ACL SETUSER default +@all").await,
            Self::Frozen => signal(server.pid(), "CONT"),
        }
    }

    /// Returns the possible responses to a write in this state: status, code and side effects.
    fn answers(self) -> &'static [(u16, &'static str, &'static str)] {
        match self {
            Self::Loading => &[(503, "redis-loading", "none")],
            Self::Replica | Self::MasterDown | Self::CannotSave | Self::FewReplicas => {
                &[(503, "redis-read-only", "none")]
            }
            Self::OutOfMemory => &[(503, "redis-out-of-memory", "none")],
            // The first health check that fails closes the connection.
            Self::Frozen => &[
                (504, "redis-timeout", "unknown"),
                (503, "redis-unavailable", "unknown"),
                (503, "redis-unavailable", "none"),
            ],
            _ => &[(503, "redis-unavailable", "none")],
        }
    }

    /// Returns whether reads succeed in this state.
    fn serves_reads(self) -> bool {
        matches!(
            self,
            Self::Replica | Self::OutOfMemory | Self::CannotSave | Self::FewReplicas
        )
    }
}

/// Streams of one slot, and all readers that wait for them.
struct Readers {
    app: TestApp,
    stream: String,
    empty: String,
}

impl Readers {
    async fn publish(&self, stream: &str, value: &str) -> Answer {
        self.app
            .post_form(
                &format!("/v1/streams/{stream}/entries"),
                &format!("n={value}"),
            )
            .await
    }

    /// Follows, pushes, polls and waits during a state. Every reader must receive the entries that
    /// come after it.
    async fn outlive(&self, state: State, server: &Server, admin: &mut Admin) {
        let Self { app, stream, empty } = self;
        let of = |group: &str| format!("/v1/streams/{stream}/groups/{group}");
        for (group, policy) in [
            ("push", r#"{"start":"$","policy":{"lease":"1m"}}"#),
            ("due", r#"{"policy":{"lease":"1500ms"}}"#),
            ("plain", r#"{"start":"$"}"#),
        ] {
            assert_eq!(app.put_json(&of(group), policy).await.status, 201);
        }
        let mut one = app.follow(&format!("/v1/streams/{stream}/events")).await;
        let mut many = app
            .follow(&format!("/v1/events?stream={stream}&match={stream}.*"))
            .await;
        let mut push = app
            .follow(&format!("{}/events?consumer=p", of("push")))
            .await;
        for events in [&mut one, &mut many, &mut push] {
            events.expect("$open").await;
        }
        let follow = app
            .client
            .get(app.url(&format!("/v1/streams/{stream}/entries?follow=true")));
        let mut lines = Lines::of(follow.header("accept", "application/x-ndjson")).await;
        assert_eq!(lines.next().await.unwrap()["fields"]["n"], "before");
        // The consumer of this entry is gone, and its lease ends during the state.
        let lent = app
            .post_form(&format!("{}/read", of("due")), "consumer=gone")
            .await;
        assert_eq!(lent.ids().len(), 1);
        let poll = format!("/v1/streams/{empty}/entries?after=0&wait=30s");
        let polls = format!("/v1/entries?stream={empty}@0&stream={empty}.2@0&wait=30s");
        let read = async |group: &str| {
            app.post_form(&format!("{}/read", of(group)), "consumer=w&wait=30s")
                .await
        };
        let change = async {
            eventually("they wait", async || app.metric("waiting_reads").await == 4).await;
            elapse(300, "every reader begins to listen").await;
            state.begin(server, admin).await;
            let told = async || {
                let answer = self.publish(stream, "lost").await;
                let mut fitting = state.answers().iter();
                let Some((status, code, _)) = fitting.find(|(status, code, effects)| {
                    let problem = answer.json();
                    answer.status == *status
                        && problem["code"] == *code
                        && problem["side_effects"] == *effects
                }) else {
                    return false;
                };
                let problem = answer.is_problem(*status, code);
                assert_eq!(problem["retryable"], true, "{problem:#}");
                true
            };
            eventually("a write is told", told).await;
            let upload = app
                .client
                .post(app.url(&format!("/v1/streams/{stream}/entries")));
            let upload = upload.header("content-type", "application/x-ndjson");
            let upload = app
                .send(upload.body("{\"fields\":{\"n\":\"lost\"}}\n"))
                .await;
            if state != State::Loading {
                assert!(upload.status >= 503, "{}", upload.body);
                assert_eq!(upload.json()["retryable"], true, "{}", upload.body);
            }
            let page = app
                .get(&format!("/v1/streams/{stream}/entries?limit=1"))
                .await;
            if state.serves_reads() {
                assert_eq!(page.status, 200, "{}", page.body);
            } else if state != State::Loading {
                let problem = page.json();
                assert!(
                    page.status >= 503 && problem["retryable"] == true,
                    "{problem:#}"
                );
                assert_eq!(problem["side_effects"], "none", "{problem:#}");
                let mut late = app.follow(&format!("/v1/streams/{stream}/events")).await;
                match late.next().await.unwrap() {
                    end if end.event == "$end" => {
                        assert_eq!(end.json()["reason"], "redis-unavailable");
                    }
                    other => panic!("{other:?}"),
                }
            }
            elapse(1700, "the lease ends during the state").await;
            state.end(server, admin).await;
            eventually("it can be published", async || {
                self.publish(stream, "after").await.status == 201
            })
            .await;
            assert_eq!(self.publish(empty, "after").await.status, 201);
        };
        let (poll, polls, due, plain, ()) = tokio::join!(
            app.get(&poll),
            app.get(&polls),
            read("due"),
            read("plain"),
            change
        );
        assert_eq!(
            poll.json()["entries"][0]["fields"]["n"],
            "after",
            "{}",
            poll.body
        );
        assert_eq!(
            polls.json()["streams"][0]["entries"][0]["fields"]["n"],
            "after"
        );
        if state == State::Frozen {
            // The read may have run, so its consumer may get a timeout.
            assert!(due.status == 200 || due.is_problem(504, "redis-timeout")["retryable"] == true);
        } else {
            assert!(!due.ids().is_empty(), "{}", due.body);
        }
        assert_eq!(plain.status, 200, "{}", plain.body);
        for events in [&mut one, &mut many, &mut push] {
            until_after(events).await;
        }
        while lines.next().await.expect("it goes on")["fields"]["n"] != "after" {}
    }
}

/// Reads up to the entry that came after the state. Writes rejected with unknown effects may come
/// before it.
async fn until_after(events: &mut Sse) {
    while events.expect("message").await.json()["fields"]["n"] != "after" {}
}

async fn readers_outlive(state: State) {
    let server = Server::start_with(state.settings()).await;
    let mut admin = Admin::of(&server).await;
    if state == State::ClusterDown {
        admin.say("CLUSTER ADDSLOTSRANGE 0 16383").await;
        eventually("the cluster is up", async || {
            server.try_command(&["SET", "{x}", "1"]).await.is_ok()
        })
        .await;
    }
    let app = TestApp::on(&server.url(), |settings| {
        settings.pool.response_timeout = Duration::from_millis(500);
    })
    .await;
    let name = format!("{{{}}}", unique("passing"));
    let readers = Readers {
        app,
        stream: format!("{name}a"),
        empty: format!("{name}b"),
    };
    readers.publish(&readers.stream, "before").await;
    if state == State::Loading {
        // Loading takes a few seconds, in which Redis responds after every 1024 entries.
        let batch = vec![r#"{"fields":{"n":1}}"#; 1000].join(",");
        let path = format!("/v1/streams/{name}c/entries");
        for _ in 0..27 {
            let sent = readers
                .app
                .post_json(&path, &format!("{{\"entries\":[{batch}]}}"))
                .await;
            assert_eq!(sent.status, 201, "{}", sent.body);
        }
    }
    readers.outlive(state, &server, &mut admin).await;
}

#[tokio::test]
async fn every_reader_outlives_a_long_script_of_another_client() {
    readers_outlive(State::Busy).await;
}

#[tokio::test]
async fn every_reader_outlives_a_server_that_reads_its_data() {
    readers_outlive(State::Loading).await;
}

#[tokio::test]
async fn every_reader_outlives_a_server_that_is_a_replica() {
    readers_outlive(State::Replica).await;
}

#[tokio::test]
async fn every_reader_outlives_a_server_that_is_full() {
    readers_outlive(State::OutOfMemory).await;
}

#[tokio::test]
async fn every_reader_outlives_a_server_that_cannot_save() {
    readers_outlive(State::CannotSave).await;
}

#[tokio::test]
async fn every_reader_outlives_a_server_with_too_few_replicas() {
    readers_outlive(State::FewReplicas).await;
}

#[tokio::test]
async fn every_reader_outlives_a_replica_without_its_master() {
    readers_outlive(State::MasterDown).await;
}

#[tokio::test]
async fn every_reader_outlives_a_cluster_that_is_down() {
    readers_outlive(State::ClusterDown).await;
}

#[tokio::test]
async fn every_reader_outlives_a_login_that_is_refused() {
    readers_outlive(State::NoAuth).await;
}

#[tokio::test]
async fn every_reader_outlives_a_right_that_is_taken_away_and_given_back() {
    readers_outlive(State::NoPermission).await;
}

#[tokio::test]
async fn every_reader_outlives_a_server_that_does_not_answer() {
    readers_outlive(State::Frozen).await;
}

#[tokio::test]
async fn a_slot_that_is_elsewhere_for_a_while_is_waited_for() {
    let (here, there) = (
        Server::start_with(&["--cluster-enabled", "yes"]).await,
        Server::start_with(&["--cluster-enabled", "yes"]).await,
    );
    let mut admin = Admin::of(&here).await;
    admin.say("CLUSTER ADDSLOTSRANGE 0 16383").await;
    admin
        .say(&format!("CLUSTER MEET 127.0.0.1 {}", there.port))
        .await;
    let id = async |server: &Server| {
        crate::support::redis::json(&server.command(&["CLUSTER", "MYID"]).await)
            .as_str()
            .unwrap()
            .to_owned()
    };
    let (ours, theirs) = (id(&here).await, id(&there).await);
    eventually("they know each other", async || {
        let nodes = here.command(&["CLUSTER", "NODES"]).await;
        format!("{nodes:?}").contains(&theirs)
            && here.try_command(&["SET", "{x}", "1"]).await.is_ok()
    })
    .await;
    let app = TestApp::on_server(&here).await;
    let stream = unique("elsewhere");
    let slot = crate::support::redis::json(&here.command(&["CLUSTER", "KEYSLOT", &stream]).await);
    let path = format!("/v1/streams/{stream}/entries");
    let mut events = app.follow(&format!("/v1/streams/{stream}/events")).await;
    events.expect("$open").await;
    let poll = format!("{path}?after=0&wait=20s");
    let change = async {
        eventually("it waits", async || app.metric("waiting_reads").await == 1).await;
        for state in [format!("MIGRATING {theirs}"), format!("NODE {theirs}")] {
            admin.say(&format!("CLUSTER SETSLOT {slot} {state}")).await;
            let problem = app
                .post_form(&path, "n=lost")
                .await
                .is_problem(503, "redis-unavailable");
            assert_eq!(problem["side_effects"], json!("none"), "{problem:#}");
            elapse(700, "a check of the stream fails").await;
        }
        admin
            .say(&format!("CLUSTER SETSLOT {slot} NODE {ours}"))
            .await;
        eventually("it is here", async || {
            app.post_form(&path, "n=after").await.status == 201
        })
        .await;
    };
    let (poll, ()) = tokio::join!(app.get(&poll), change);
    assert_eq!(
        poll.json()["entries"][0]["fields"]["n"],
        "after",
        "{}",
        poll.body
    );
    until_after(&mut events).await;
}
