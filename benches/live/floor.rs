//! The floor: a server that only writes the same bytes to each of its subscribers, with one `write`
//! each. Any server that delivers events to each connection separately costs at least this much.
//!
//! `GET /control/LENGTH` turns a connection into the source of events of `LENGTH` bytes each.

use std::io::{BufRead, BufReader, Read, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

pub fn serve(port: &str) {
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).unwrap();
    let subscribers: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut lines = reader.by_ref().lines();
        let Some(Ok(request)) = lines.next() else {
            continue;
        };
        while lines
            .next()
            .is_some_and(|line| line.is_ok_and(|line| !line.is_empty()))
        {}
        stream.set_nodelay(true).unwrap();
        if let Some(length) = request.strip_prefix("GET /control/") {
            let length: usize = length.split(' ').next().unwrap().parse().unwrap();
            let subscribers = subscribers.clone();
            std::thread::spawn(move || spread(reader, length, &subscribers));
        } else {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n: \n\n").unwrap();
            subscribers.lock().unwrap().push(stream);
        }
    }
}

fn spread(mut from: impl Read, length: usize, to: &Mutex<Vec<TcpStream>>) {
    let mut event = vec![0; length];
    while from.read_exact(&mut event).is_ok() {
        for subscriber in to.lock().unwrap().iter_mut() {
            let _ = subscriber.write_all(&event);
        }
    }
}
