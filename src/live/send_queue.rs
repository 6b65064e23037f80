//! Bytes that a subscription has ready for its socket.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

use crate::model::frame::{CHUNK_HEAD, close_chunk};
use crate::model::page::Rendered;

/// What is to be sent, in order. Pages are shared with everybody who sends them.
#[derive(Default)]
pub struct Out {
    pieces: VecDeque<Bytes>,
    /// Each piece carries the framing of chunks of HTTP/1.1.
    chunked: bool,
    bytes: usize,
}

impl Out {
    /// For a connection that frames what it is given itself.
    #[must_use]
    pub fn plain() -> Self {
        Self::default()
    }

    /// For a socket that takes chunks of HTTP/1.1.
    #[must_use]
    pub fn chunked() -> Self {
        Self {
            chunked: true,
            ..Self::default()
        }
    }

    /// Adds bytes that `write` writes, if it writes any.
    pub fn write(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let head = if self.chunked { CHUNK_HEAD } else { 0 };
        let mut bytes = vec![b'0'; head];
        write(&mut bytes);
        if bytes.len() == head {
            return;
        }
        if self.chunked {
            close_chunk(&mut bytes);
        }
        self.add(bytes.into());
    }

    /// Adds the frames of a page, from one of them on.
    pub fn page(&mut self, page: &Rendered, from: usize) {
        if from >= page.len() {
            return;
        }
        if !self.chunked {
            return self.add(page.frames(from));
        }
        if from == 0 {
            return self.add(page.chunk());
        }
        let frames = page.frames(from);
        self.write(|out| out.extend_from_slice(&frames));
    }

    /// Says that nothing follows.
    pub fn end(&mut self) {
        if self.chunked {
            self.add(Bytes::from_static(b"0\r\n\r\n"));
        }
    }

    fn add(&mut self, piece: Bytes) {
        self.bytes += piece.len();
        self.pieces.push_back(piece);
    }

    /// Bytes that are left.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether none are left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// The next piece by itself.
    pub fn pop(&mut self) -> Option<Bytes> {
        let piece = self.pieces.pop_front()?;
        self.bytes -= piece.len();
        Some(piece)
    }

    /// The first pieces, as one write takes them; how many there are.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let pieces = self.pieces.iter().zip(slices);
        pieces
            .map(|(piece, slice)| *slice = IoSlice::new(piece))
            .count()
    }

    /// Takes away what was written.
    pub fn advance(&mut self, mut written: usize) {
        self.bytes -= written;
        while let Some(first) = self.pieces.front_mut() {
            if written < first.len() {
                return first.advance(written);
            }
            written -= first.len();
            self.pieces.pop_front();
        }
        // What has sent much once and is quiet now need not remember how much that was.
        self.pieces.shrink_to(4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_taken_away_across_pieces() {
        let mut out = Out::chunked();
        out.write(|out| out.extend_from_slice(b"abc"));
        out.write(|_| {});
        out.write(|out| out.extend_from_slice(b"de"));
        let mut sent = Vec::new();
        for step in [4, 11, 0, 3] {
            let mut slices = [IoSlice::new(b""); 4];
            let count = out.slices(&mut slices);
            let ready: Vec<u8> = slices[..count]
                .iter()
                .flat_map(|slice| slice.to_vec())
                .collect();
            let step = step.min(ready.len());
            sent.extend_from_slice(&ready[..step]);
            out.advance(step);
        }
        sent.extend_from_slice(
            &std::iter::from_fn(|| out.pop())
                .collect::<Vec<_>>()
                .concat(),
        );
        assert_eq!(sent, b"00000003\r\nabc\r\n00000002\r\nde\r\n");
        assert!(out.is_empty());
    }
}
