//! Where a subscription stands in its streams, and how that is written.

use crate::model::cursor::{self, NameHash};
use crate::model::name::StreamName;
use crate::model::position::Position;

/// Positions in the streams of a subscription, by their numbers. Everything up to them was handed
/// out, or passed over by a filter.
pub(super) struct Cursors {
    /// Of one stream the cursor is its position, of several a word of its own.
    many: bool,
    at: Vec<(NameHash, Position)>,
    /// Streams that are no longer followed leave their place to the next that comes.
    free: Vec<bool>,
    /// A position has moved since the last id that was written.
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

    /// Adds a stream; answers its number.
    pub(super) fn add(&mut self, stream: &StreamName, at: Position) -> usize {
        // A name is hashed only where the hash is written.
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

    /// Writes the cursor.
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

    /// The cursor as a text.
    pub(super) fn text(&self) -> String {
        let mut text = Vec::new();
        self.write(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    }
}
