//! Many connections to one server on one thread. Connections are opened without waiting and send
//! one request each. All of them share one read buffer.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::feed::HEADROOM;

const BUFFER: usize = 256 << 10;

/// An event on a connection.
pub enum Happened<'a> {
    /// Received data, in the buffer after `HEADROOM`.
    Read(&'a mut [u8]),
    /// The end of the connection.
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
    /// The request to send as soon as the connection is established.
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

    /// Opens connection `index`, and replaces an earlier connection with this index.
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

    /// Sends another request on connection `index`.
    pub fn send(&mut self, index: usize, request: &[u8]) {
        let socket = self.open[index].as_mut().expect("an open connection");
        socket.stream.write_all(request).unwrap();
    }

    pub fn close(&mut self, index: usize) {
        self.open[index] = None;
    }

    /// Waits for events, at most for `wait`, and reports them.
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

/// Reads all available data. Returns false at the end of the connection. A read that does not fill
/// the buffer has emptied the socket, so one read is enough unless the connection has ended.
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
