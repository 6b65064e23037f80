//! Pages: consecutive entries of one stream, rendered once for everybody who sees them alike.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::entry::{Entry, View};
use super::entry_json::EntryJson;
use super::frame::{self, Framing};
use super::id::EntryId;
use super::name::StreamName;
use super::position::Position;

/// How a page looks as events: what of an entry, and which field names the event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventView {
    /// What of each entry is shown.
    pub entry: View,
    /// `event=FIELD`: the field whose value names the event.
    pub event: Option<String>,
    /// How it is written.
    pub framing: Framing,
}

/// Entries of one stream that follow each other, oldest first, each with its position.
#[derive(Debug)]
pub struct Page {
    /// The stream they are of.
    pub stream: StreamName,
    /// Where the page follows on: nothing lies between here and the first entry.
    pub after: Position,
    /// The entries; never empty.
    pub entries: Vec<Entry>,
    /// The position of each entry.
    pub positions: Vec<Position>,
    /// Written by `frames` alone: one rendering for each view that was asked for.
    rendered: Mutex<Vec<(EventView, Arc<Rendered>)>>,
}

/// A page as bytes ready for the wire.
#[derive(Debug)]
struct Rendered {
    bytes: Bytes,
    /// Where each entry's frame begins in `bytes`.
    starts: Vec<usize>,
}

impl Page {
    /// A page of `entries` after `after`, with a count for each that has one.
    #[must_use]
    pub fn new(
        stream: StreamName,
        after: Position,
        entries: Vec<Entry>,
        numbers: &[Option<u64>],
    ) -> Self {
        let numbers = numbers.iter().copied().chain(std::iter::repeat(None));
        let positions =
            entries.iter().zip(numbers).map(|(entry, n)| Position::new(entry.id, n)).collect();
        Self { stream, after, entries, positions, rendered: Mutex::default() }
    }

    /// The position of the last entry.
    #[must_use]
    pub fn end(&self) -> Position {
        self.positions.last().copied().unwrap_or(self.after)
    }

    /// The frames of all entries above `after`, as one run of bytes; empty if there are none.
    #[must_use]
    pub fn frames(&self, view: &EventView, after: EntryId) -> Bytes {
        let skip = self.entries.partition_point(|entry| entry.id <= after);
        let rendered = self.render(view);
        match rendered.starts.get(skip) {
            Some(start) => rendered.bytes.slice(*start..),
            None => Bytes::new(),
        }
    }

    fn render(&self, view: &EventView) -> Arc<Rendered> {
        // Rendering under the lock: whoever comes second would otherwise do the same work again.
        let mut known = self.rendered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, rendered)) = known.iter().find(|(of, _)| of == view) {
            return rendered.clone();
        }
        let mut bytes =
            Vec::with_capacity(self.entries.iter().map(|entry| entry.size() + 128).sum());
        let mut starts = Vec::with_capacity(self.entries.len());
        for (entry, position) in self.entries.iter().zip(&self.positions) {
            starts.push(bytes.len());
            let json = |stream| EntryJson { stream, entry, view: &view.entry };
            if view.framing == Framing::Lines {
                frame::write_line(&mut bytes, &json(None));
                continue;
            }
            let name =
                view.event.as_deref().and_then(|field| frame::event_name(entry.value(field)));
            let json = json(Some(self.stream.as_str()));
            frame::write_event(&mut bytes, Some(*position), name, None, &json);
        }
        let rendered = Arc::new(Rendered { bytes: bytes.into(), starts });
        known.push((view.clone(), rendered.clone()));
        rendered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_in_the_middle_of_a_page_gets_the_rest_of_it() {
        let stream = StreamName::new("s").unwrap();
        let entry =
            |ms| Entry { id: EntryId::new(ms, 0), fields: vec![(b"a".to_vec(), b"1".to_vec())] };
        let page =
            Page::new(stream, Position::START, vec![entry(1), entry(2)], &[Some(1), Some(2)]);
        let view = EventView::default();
        let second =
            "id: 2-0:2\ndata: {\"stream\":\"s\",\"id\":\"2-0\",\"fields\":{\"a\":\"1\"}}\n\n";
        assert_eq!(page.frames(&view, EntryId::new(1, 0)), second);
        assert!(page.frames(&view, EntryId::MIN).ends_with(second.as_bytes()));
        assert!(page.frames(&view, EntryId::new(2, 0)).is_empty());
    }
}
