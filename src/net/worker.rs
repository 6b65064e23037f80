//! Threads that serve connections. A connection lives on one of them to its end, and what it writes
//! to Redis goes over a connection of that thread: nobody is woken on another core, and writes that
//! come together go out together.

use std::io;
use std::pin::Pin;

use axum::Router;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::net::connection::Accepted;

/// Connections handed to a thread that it has not yet taken.
const BACKLOG: usize = 64;

/// What a thread is to do.
pub struct Here {
    /// Answers requests.
    pub router: Router,
    /// Runs beside the connections, to the end.
    pub beside: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// One thread.
pub(crate) struct Worker {
    connections: mpsc::Sender<Accepted>,
    /// Those it serves; added to by the thread.
    open: TaskTracker,
    ended: oneshot::Receiver<()>,
}

impl Worker {
    /// Starts a thread. What is left on it when `hard` is cancelled is cut.
    pub(crate) fn start(index: usize, what: Here, hard: &CancellationToken) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (connections, mut handed) = mpsc::channel::<Accepted>(BACKLOG);
        let (end, ended) = oneshot::channel();
        let open = TaskTracker::new();
        let (here, hard) = (open.clone(), hard.clone());
        let serve = move || {
            let served = async {
                while let Some(accepted) = handed.recv().await {
                    here.spawn(accepted.serve(what.router.clone(), here.clone()));
                }
                here.close();
                here.wait().await;
            };
            runtime.block_on(async {
                tokio::select! {
                    () = served => {}
                    () = what.beside => {}
                    () = hard.cancelled() => {}
                }
            });
            // What was left of it ends before it is said to have ended.
            drop(runtime);
            let _ = end.send(());
        };
        std::thread::Builder::new()
            .name(format!("http-{index}"))
            .spawn(serve)?;
        Ok(Self {
            connections,
            open,
            ended,
        })
    }

    /// Connections it has, with those it has not yet taken.
    pub(crate) fn load(&self) -> usize {
        self.open.len() + BACKLOG - self.connections.capacity()
    }

    /// Hands a connection over; it is dropped when the thread is gone.
    pub(crate) async fn give(&self, accepted: Accepted) {
        let _ = self.connections.send(accepted).await;
    }

    /// Gives no more connections, and waits until those there are have ended.
    pub(crate) async fn finish(self) {
        drop(self.connections);
        let _ = self.ended.await;
    }
}
