//! Many connections to one server, served by the thread that asks: they are opened without
//! waiting, send one request each, and what comes is read into one buffer for all of them.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::feed::HEADROOM;

const BUFFER: usize = 256 << 10;

/// What became of a connection.
pub enum Happened<'a> {
    /// Something came: it stands in the buffer from `HEADROOM` on.
    Read(&'a mut [u8]),
    /// It is over.
    Closed,
}

pub struct Sockets {
    address: SocketAddr,
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
    open: Vec<Option<Socket>>,
}

struct Socket {
    stream: TcpStream,
    /// Goes out as soon as the connection stands.
    request: Vec<u8>,
}

impl Sockets {
    pub fn new(port: u16) -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            poll: Poll::new().unwrap(),
            events: Events::with_capacity(1024),
            buffer: vec![0; HEADROOM + BUFFER],
            open: Vec::new(),
        }
    }

    /// Opens connection `index`, whatever it was before.
    pub fn connect(&mut self, index: usize, request: Vec<u8>) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll
            .registry()
            .register(&mut stream, Token(index), interest)
            .unwrap();
        if self.open.len() <= index {
            self.open.resize_with(index + 1, || None);
        }
        self.open[index] = Some(Socket { stream, request });
    }

    /// Sends one more request on connection `index`.
    pub fn send(&mut self, index: usize, request: &[u8]) {
        let socket = self.open[index].as_mut().expect("an open connection");
        socket.stream.write_all(request).unwrap();
    }

    pub fn close(&mut self, index: usize) {
        self.open[index] = None;
    }

    /// Waits until something comes, at most so long, and tells it.
    pub fn turn(&mut self, wait: Duration, mut tell: impl FnMut(usize, Happened)) {
        match self.poll.poll(&mut self.events, Some(wait)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return,
            other => other.unwrap(),
        }
        for event in &self.events {
            let Token(index) = event.token();
            let Some(socket) = &mut self.open[index] else {
                continue;
            };
            if event.is_writable() && !socket.request.is_empty() {
                if socket.stream.write_all(&socket.request).is_err() {
                    self.open[index] = None;
                    tell(index, Happened::Closed);
                    continue;
                }
                socket.request = Vec::new();
                let registry = self.poll.registry();
                registry
                    .reregister(&mut socket.stream, Token(index), Interest::READABLE)
                    .unwrap();
            }
            let last = event.is_read_closed();
            let mut tell_it = |happened: Happened| tell(index, happened);
            if event.is_readable()
                && !drain(&mut socket.stream, &mut self.buffer, last, &mut tell_it)
            {
                self.open[index] = None;
                tell(index, Happened::Closed);
            }
        }
    }
}

/// Reads what there is; false at the end of the connection. A read that does not fill the buffer
/// has emptied the socket, so that one is enough unless nothing comes after it.
fn drain(
    stream: &mut TcpStream,
    buffer: &mut [u8],
    last: bool,
    tell: &mut impl FnMut(Happened),
) -> bool {
    loop {
        match stream.read(&mut buffer[HEADROOM..]) {
            Ok(0) => return false,
            Ok(length) => {
                let full = HEADROOM + length == buffer.len();
                tell(Happened::Read(&mut buffer[..HEADROOM + length]));
                if !full && !last {
                    return true;
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
}
