//! A TCP proxy that misbehaves on demand.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// Treatment of the bytes that pass through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Pass,
    /// Forwards nothing and closes nothing.
    Stall,
    /// Closes open connections and new ones.
    Cut,
    /// Forwards requests, but closes the connection before the response.
    CutAnswers,
    /// Delays responses.
    Delay(Duration),
}

pub struct Proxy {
    pub address: SocketAddr,
    mode: watch::Sender<Mode>,
    port: Arc<AtomicU16>,
    _task: AbortOnDropHandle<()>,
}

impl Proxy {
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mode = watch::Sender::new(Mode::Pass);
        let modes = mode.subscribe();
        let port = Arc::new(AtomicU16::new(port));
        let to = port.clone();
        let task = tokio::spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else {
                    return;
                };
                let (modes, port) = (modes.clone(), to.load(Ordering::Relaxed));
                tokio::spawn(async move {
                    if *modes.borrow() == Mode::Cut {
                        return;
                    }
                    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else {
                        return;
                    };
                    let ((client_in, client_out), (server_in, server_out)) =
                        (client.into_split(), server.into_split());
                    tokio::select! {
                        () = pump(client_in, server_out, modes.clone(), false) => {}
                        () = pump(server_in, client_out, modes, true) => {}
                    }
                });
            }
        });
        Self {
            address,
            mode,
            port,
            _task: AbortOnDropHandle::new(task),
        }
    }

    pub fn url(&self) -> String {
        format!("redis://{}/", self.address)
    }

    /// Directs new connections to another port.
    pub fn lead_to(&self, port: u16) {
        self.port.store(port, Ordering::Relaxed);
    }

    pub fn cut(&self) {
        self.mode.send_replace(Mode::Cut);
    }

    pub fn cut_answers(&self) {
        self.mode.send_replace(Mode::CutAnswers);
    }

    pub fn delay(&self, by: Duration) {
        self.mode.send_replace(Mode::Delay(by));
    }

    pub fn stall(&self) {
        self.mode.send_replace(Mode::Stall);
    }

    pub fn restore(&self) {
        self.mode.send_replace(Mode::Pass);
    }
}

async fn pump(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut modes: watch::Receiver<Mode>,
    answers: bool,
) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            _ = modes.wait_for(|mode| *mode == Mode::Cut) => return,
        };
        let Ok(count @ 1..) = read else { return };
        let passes = modes
            .wait_for(|mode| *mode != Mode::Stall)
            .await
            .map(|mode| *mode);
        match passes {
            Ok(Mode::CutAnswers) if answers => return,
            Ok(Mode::Delay(by)) if answers => tokio::time::sleep(by).await,
            Ok(Mode::Pass | Mode::CutAnswers | Mode::Delay(_)) => {}
            _ => return,
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
