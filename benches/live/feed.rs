//! Parser of a subscriber's data: the head, the chunks of the body, the events, and in each event
//! the mark with its number and send time.
//!
//! The parser must be cheap, because it runs on the same cores as the measured server. An event of
//! the same length as the previous one takes two comparisons; any other takes a `memchr`.

use memchr::{memchr, memmem};

/// Free space that a buffer keeps in front of new data, for the rest of the previous data.
pub const HEADROOM: usize = 16 << 10;

/// The start of a mark, written twice. Three digits of the lane, ten of the number and twelve of
/// the time in µs follow.
const MARK: u8 = b'@';
const MARK_LENGTH: usize = 27;

/// Returns the value of a benchmark entry, `size` bytes long.
pub fn value(size: usize, mark: Mark) -> Vec<u8> {
    let mut value =
        format!("@@{:03}{:010}{:012}", mark.lane, mark.number, mark.micros).into_bytes();
    value.resize(size.max(MARK_LENGTH), b'x');
    value
}

/// The identity of an entry. Numbers count up within a lane, which is one publishing connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub lane: usize,
    pub number: u64,
    pub micros: u64,
}

impl Mark {
    /// Reads the mark at the start of `bytes`.
    fn read(bytes: &[u8]) -> Option<Self> {
        let digits = bytes.get(..MARK_LENGTH)?.strip_prefix(&[MARK, MARK])?;
        let number = |digits: &[u8]| {
            digits.iter().try_fold(0, |sum, digit| {
                digit
                    .is_ascii_digit()
                    .then(|| sum * 10 + u64::from(digit - b'0'))
            })
        };
        let lane = usize::try_from(number(&digits[..3])?).ok()?;
        Some(Self {
            lane,
            number: number(&digits[3..13])?,
            micros: number(&digits[13..])?,
        })
    }

    /// Finds the first mark in `bytes`, as in the response to a read.
    pub fn find(bytes: &[u8]) -> Option<Self> {
        memchr(MARK, bytes).and_then(|at| Self::read(&bytes[at..]))
    }
}

enum Body {
    /// In the head.
    Head,
    Plain,
    Chunked(Chunks),
}

/// A parser for the events of one connection.
pub struct Feed {
    body: Body,
    /// The start of an event whose end has not arrived.
    left_over: Vec<u8>,
    /// Length of the last event with a mark, and offset of the mark.
    length: usize,
    at: usize,
}

impl Feed {
    pub fn new() -> Self {
        Self {
            body: Body::Head,
            left_over: Vec::new(),
            length: usize::MAX,
            at: 0,
        }
    }

    /// Parses the data that was read into `buffer` after `HEADROOM`, and reports every complete
    /// event with its mark, if it has one. Any status other than 200 is an error.
    pub fn read(
        &mut self,
        buffer: &mut [u8],
        mut tell: impl FnMut(Option<Mark>, &[u8]),
    ) -> Result<(), String> {
        let mut from = HEADROOM;
        if matches!(self.body, Body::Head) {
            from = self.put_back(buffer, from);
            let Some(end) = memmem::find(&buffer[from..], b"\r\n\r\n") else {
                self.left_over.extend_from_slice(&buffer[from..]);
                return Ok(());
            };
            let head = String::from_utf8_lossy(&buffer[from..from + end]).to_ascii_lowercase();
            if head.split(' ').nth(1) != Some("200") {
                return Err(head);
            }
            self.body = match head.contains("transfer-encoding: chunked") {
                true => Body::Chunked(Chunks::Size(0)),
                false => Body::Plain,
            };
            from += end + 4;
        }
        let to = match &mut self.body {
            Body::Chunked(chunks) => chunks.decode(buffer, from),
            _ => buffer.len(),
        };
        let from = self.put_back(buffer, from);
        let mut rest = &buffer[from..to];
        while !rest.is_empty() {
            let mark = self.as_before(rest);
            let length = match mark {
                Some(_) => self.length,
                None => match end_of_event(rest) {
                    Some(length) => length,
                    None => break,
                },
            };
            let (event, after) = rest.split_at(length);
            let mark = mark.or_else(|| self.search(event));
            tell(mark, event);
            rest = after;
        }
        self.left_over.extend_from_slice(rest);
        Ok(())
    }

    /// Copies the rest of the previous data in front of `from`, and returns the new start.
    fn put_back(&mut self, buffer: &mut [u8], from: usize) -> usize {
        let start = from
            .checked_sub(self.left_over.len())
            .expect("an event fits the headroom");
        buffer[start..from].copy_from_slice(&self.left_over);
        self.left_over.clear();
        start
    }

    /// Returns the mark if the next event has the same length as the last one and its mark at the
    /// same offset.
    fn as_before(&self, rest: &[u8]) -> Option<Mark> {
        let event = rest.get(..self.length)?;
        event
            .ends_with(b"\n\n")
            .then(|| Mark::read(&event[self.at..]))
            .flatten()
    }

    fn search(&mut self, event: &[u8]) -> Option<Mark> {
        let at = memchr(MARK, event)?;
        (self.length, self.at) = (event.len(), at);
        Mark::read(&event[at..])
    }
}

fn end_of_event(bytes: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let line = from + memchr(b'\n', &bytes[from..])?;
        if *bytes.get(line + 1)? == b'\n' {
            return Some(line + 2);
        }
        from = line + 1;
    }
}

/// The state of the parser for a chunked body.
enum Chunks {
    /// In the length of a chunk, with this value so far.
    Size(usize),
    /// In the rest of the line with the length.
    Line(usize),
    /// In the data, with this number of bytes left in the chunk.
    Data(usize),
    /// In the line end after a chunk, with this number of bytes left.
    End(u8),
}

impl Chunks {
    /// Joins the data that begins at `from`, and returns the new end.
    fn decode(&mut self, buffer: &mut [u8], from: usize) -> usize {
        let (mut at, mut to) = (from, from);
        while at < buffer.len() {
            match self {
                Self::Data(left) => {
                    let length = (*left).min(buffer.len() - at);
                    if to != at {
                        buffer.copy_within(at..at + length, to);
                    }
                    (at, to) = (at + length, to + length);
                    *self = match *left - length {
                        0 => Self::End(2),
                        left => Self::Data(left),
                    };
                    continue;
                }
                Self::Size(size) => match char::from(buffer[at]).to_digit(16) {
                    Some(digit) => *size = *size << 4 | digit as usize,
                    None => *self = Self::Line(*size),
                },
                Self::Line(_) | Self::End(_) => {}
            }
            match self {
                Self::Line(size) if buffer[at] == b'\n' => *self = Self::Data(*size),
                Self::End(1) => *self = Self::Size(0),
                Self::End(left) => *left -= 1,
                _ => {}
            }
            at += 1;
        }
        to
    }
}
