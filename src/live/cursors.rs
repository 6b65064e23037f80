//! The cursor of a subscription: its positions in all streams, and their text form.

use crate::model::cursor::{self, NameHash};
use crate::model::name::StreamName;
use crate::model::position::Position;

/// The positions of a subscription by stream number. Every entry up to a position was delivered or
/// skipped by a filter.
pub(super) struct Cursors {
    /// Whether the cursor covers several streams. A cursor of one stream is a plain position.
    many: bool,
    at: Vec<(NameHash, Position)>,
    /// Whether each number is free. The next added stream reuses a free number.
    free: Vec<bool>,
    /// Whether a position has moved since the last written id.
    pub(super) untold: bool,
}

impl Cursors {
    pub(super) fn new(many: bool) -> Self {
        Self {
            many,
            at: Vec::new(),
            free: Vec::new(),
            untold: false,
        }
    }

    /// Adds a stream and returns its number.
    pub(super) fn add(&mut self, stream: &StreamName, at: Position) -> usize {
        // The hash is part of multi-stream cursors only.
        let hash = if self.many {
            NameHash::from(stream)
        } else {
            NameHash::default()
        };
        if let Some(number) = self.free.iter().position(|free| *free) {
            (self.at[number], self.free[number]) = ((hash, at), false);
            return number;
        }
        self.at.push((hash, at));
        self.free.push(false);
        self.at.len() - 1
    }

    pub(super) fn remove(&mut self, number: usize) {
        self.free[number] = true;
        self.untold = true;
    }

    pub(super) fn at(&self, number: usize) -> Position {
        self.at[number].1
    }

    pub(super) fn set(&mut self, number: usize, at: Position) {
        self.untold |= self.at[number].1 != at;
        self.at[number].1 = at;
    }

    pub(super) fn are_many(&self) -> bool {
        self.many
    }

    /// Appends the text of the cursor to `out`.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        if !self.many {
            let position = self.at.first().map(|(_, at)| *at).unwrap_or_default();
            // Writing into a `Vec` cannot fail.
            let _ = std::io::Write::write_fmt(out, format_args!("{position}"));
            return;
        }
        if !self.free.contains(&true) {
            return cursor::write(out, &self.at);
        }
        let taken = self.at.iter().zip(&self.free).filter(|(_, free)| !**free);
        let taken: Vec<_> = taken.map(|(at, _)| *at).collect();
        cursor::write(out, &taken);
    }

    /// Returns the text of the cursor.
    pub(super) fn text(&self) -> String {
        let mut text = Vec::new();
        self.write(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    }
}
