//! Worker threads that serve connections. A client connection stays on one worker until it ends.
//! Its writes to Redis use a connection of that worker. This avoids wake-ups across cores, and
//! sends concurrent writes together.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::net::connection::Accepted;
use crate::net::routes::Routes;

/// Maximum number of connections assigned to a worker but not accepted by it yet.
const BACKLOG: usize = 64;

/// Interval of a timer that every worker always has. A timer that would be the next to expire makes
/// tokio wake the event loop by a system call, even on its own thread; without this one, most commands
/// to Redis set such a timer. Shorter than any timeout of a command should be.
const TICK: Duration = Duration::from_millis(500);

/// The work of one thread.
pub struct WorkerSetup {
    /// The routes of the requests.
    pub routes: Routes,
    /// A future that runs next to the connections until the worker ends.
    pub beside: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// A handle to one worker thread.
pub(crate) struct Worker {
    connections: mpsc::Sender<Accepted>,
    /// The connections it serves; added by the thread.
    open: TaskTracker,
    ended: oneshot::Receiver<()>,
}

impl Worker {
    /// Starts a worker thread. Cancelling `hard` closes its remaining connections.
    pub(crate) fn start(
        index: usize,
        what: WorkerSetup,
        hard: &CancellationToken,
    ) -> io::Result<Self> {
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
                    here.spawn(accepted.serve(what.routes.clone(), here.clone()));
                }
                here.close();
                here.wait().await;
            };
            runtime.block_on(async {
                tokio::select! {
                    () = served => {}
                    () = what.beside => {}
                    () = tick() => {}
                    () = hard.cancelled() => {}
                }
            });
            // Drop the remaining tasks before reporting the end of the worker.
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

    /// Returns the number of connections of the worker, including those it has not accepted yet.
    pub(crate) fn load(&self) -> usize {
        self.open.len() + BACKLOG - self.connections.capacity()
    }

    /// Assigns a connection to the worker. Drops it if the thread has ended.
    pub(crate) async fn send(&self, accepted: Accepted) {
        let _ = self.connections.send(accepted).await;
    }

    /// Stops assigning connections and waits until the existing ones have ended.
    pub(crate) async fn finish(self) {
        drop(self.connections);
        let _ = self.ended.await;
    }
}

/// Keeps a timer of this thread due within [`TICK`], without end.
async fn tick() {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
    }
}
