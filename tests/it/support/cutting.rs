//! A TCP proxy that cuts event streams after a number of events or inside one. It never changes the
//! bytes it forwards.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

/// The point at which an event stream is cut. Counts include the opening event.
#[derive(Clone, Copy, Debug)]
pub enum Cut {
    /// Between two events, after this many.
    After(usize),
    /// Inside the event after this many, directly behind these bytes.
    Within(usize, &'static str),
    /// Inside the event after this many, before its last byte.
    BeforeEnd(usize),
}

/// A proxy that cuts one event stream after another, as planned. Later streams pass whole.
pub struct Cutting {
    pub address: SocketAddr,
    left: Arc<Mutex<Vec<Cut>>>,
    _task: AbortOnDropHandle<()>,
}

impl Cutting {
    pub async fn to(server: SocketAddr, plan: &[Cut]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let left: Arc<Mutex<Vec<Cut>>> = Arc::new(Mutex::new(plan.iter().rev().copied().collect()));
        let plan = left.clone();
        let task = tokio::spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else {
                    return;
                };
                tokio::spawn(pass(client, server, plan.clone()));
            }
        });
        Self {
            address,
            left,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// Returns the number of cuts still to be made.
    pub fn left(&self) -> usize {
        self.left.lock().unwrap().len()
    }
}

async fn pass(client: TcpStream, server: SocketAddr, plan: Arc<Mutex<Vec<Cut>>>) {
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    let (mut client_in, mut client_out) = client.into_split();
    let (mut server_in, mut server_out) = server.into_split();
    tokio::select! {
        _ = tokio::io::copy(&mut client_in, &mut server_out) => {}
        () = async {
            let (mut seen, mut buffer, mut cut) = (Vec::new(), vec![0; 16 << 10], None);
            while let Ok(count @ 1..) = server_in.read(&mut buffer).await {
                let passed = seen.len();
                seen.extend_from_slice(&buffer[..count]);
                if cut.is_none() && is_event_stream(&seen) {
                    cut = plan.lock().unwrap().last().copied();
                }
                let end = cut.and_then(|cut| place(&seen, cut));
                let sent = client_out.write_all(&seen[passed..end.unwrap_or(seen.len())]).await;
                if end.is_some() {
                    plan.lock().unwrap().pop();
                }
                if end.is_some() || sent.is_err() {
                    return;
                }
            }
        } => {}
    }
}

fn is_event_stream(answer: &[u8]) -> bool {
    find(answer, b"text/event-stream", 0).is_some()
}

/// Returns the offset of the cut, if the bytes received so far reach it.
fn place(answer: &[u8], cut: Cut) -> Option<usize> {
    let (Cut::After(count) | Cut::Within(count, _) | Cut::BeforeEnd(count)) = cut;
    let mut at = find(answer, b"text/event-stream", 0)?;
    for _ in 0..count {
        at = find(answer, b"\n\n", at)?;
    }
    match cut {
        Cut::After(_) => Some(at),
        Cut::Within(_, text) => find(answer, text.as_bytes(), at),
        Cut::BeforeEnd(_) => find(answer, b"\n\n", at).map(|end| end - 1),
    }
}

/// Returns the end of `what` in `text`, searching from `start`.
fn find(text: &[u8], what: &[u8], start: usize) -> Option<usize> {
    let at = text[start..]
        .windows(what.len())
        .position(|window| window == what)?;
    Some(start + at + what.len())
}
