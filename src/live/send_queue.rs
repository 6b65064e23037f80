//! The send queue of a subscription.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

use crate::model::frame::{CHUNK_HEAD, close_chunk};
use crate::model::page::RenderedPage;

/// Bytes to send, in order. Pages are shared by all subscriptions that send them.
#[derive(Default)]
pub struct SendQueue {
    pieces: VecDeque<Bytes>,
    /// Whether each piece includes HTTP/1.1 chunk framing.
    chunked: bool,
    bytes: usize,
}

impl SendQueue {
    /// Returns a queue for a connection that adds its own framing.
    #[must_use]
    pub fn plain() -> Self {
        Self::default()
    }

    /// Returns a queue for a raw socket, with HTTP/1.1 chunk framing.
    #[must_use]
    pub fn chunked() -> Self {
        Self {
            chunked: true,
            ..Self::default()
        }
    }

    /// Appends the bytes that `write` writes, if any.
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

    /// Appends the frames of a page, starting with index `from`.
    pub fn page(&mut self, page: &RenderedPage, from: usize) {
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

    /// Appends the last chunk, which ends the body.
    pub fn end(&mut self) {
        if self.chunked {
            self.add(Bytes::from_static(b"0\r\n\r\n"));
        }
    }

    fn add(&mut self, piece: Bytes) {
        self.bytes += piece.len();
        self.pieces.push_back(piece);
    }

    /// Returns the number of bytes left to send.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Returns whether no bytes are left to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Removes and returns the next piece.
    pub fn pop(&mut self) -> Option<Bytes> {
        let piece = self.pieces.pop_front()?;
        self.bytes -= piece.len();
        Some(piece)
    }

    /// Fills `slices` with the first pieces for one vectored write. Returns their number.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let pieces = self.pieces.iter().zip(slices);
        pieces
            .map(|(piece, slice)| *slice = IoSlice::new(piece))
            .count()
    }

    /// Removes written bytes.
    pub fn advance(&mut self, mut written: usize) {
        self.bytes -= written;
        while let Some(first) = self.pieces.front_mut() {
            if written < first.len() {
                return first.advance(written);
            }
            written -= first.len();
            self.pieces.pop_front();
        }
        // Release memory after a burst.
        self.pieces.shrink_to(4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_taken_away_across_pieces() {
        let mut out = SendQueue::chunked();
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
