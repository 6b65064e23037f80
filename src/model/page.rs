//! Pages: consecutive entries of one stream, rendered once for all subscribers with the same view.

use std::cmp::Ordering;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::model::cloudevent_out::{EventJson, ExtraAttribute};
use crate::model::entry::{AsEvent, Entry};
use crate::model::entry_json::EntryJson;
use crate::model::frame::{self, CHUNK_END, CHUNK_HEAD, Framing};
use crate::model::id::EntryId;
use crate::model::name::StreamName;
use crate::model::position::Position;
use crate::model::view::EventView;

/// Consecutive entries of one stream, oldest first, each with its position.
#[derive(Debug)]
pub struct Page {
    /// The stream of the entries.
    pub stream: StreamName,
    /// The position before the page. No entry is between this position and the first entry.
    pub after: Position,
    /// The position after the page. No entry is between the last entry and this position.
    pub end: Position,
    /// The entries; never empty.
    pub entries: Vec<Entry>,
    /// The position of each entry.
    pub positions: Vec<Position>,
    /// One rendering for each requested view, added by `rendered` only.
    rendered: Mutex<Vec<(Arc<EventView>, Arc<RenderedPage>)>>,
}

/// The bytes of a page, ready to send.
#[derive(Debug)]
pub struct RenderedPage {
    /// All frames as one HTTP/1.1 chunk with its head and end; empty if there are no frames.
    chunk: Bytes,
    frames: Vec<Frame>,
}

/// The location of one entry in the bytes of a page.
#[derive(Clone, Copy, Debug)]
struct Frame {
    id: EntryId,
    /// The index of the entry in the page.
    index: usize,
    /// The offset of the frame.
    start: usize,
    /// The offset of the line with the id.
    end: usize,
}

impl Page {
    /// Creates a page of `entries` between two positions. `numbers` holds the count of each entry,
    /// if it is known.
    #[must_use]
    pub fn new(
        stream: StreamName,
        (after, end): (Position, Position),
        entries: Vec<Entry>,
        numbers: &[Option<u64>],
    ) -> Self {
        let numbers = numbers.iter().copied().chain(std::iter::repeat(None));
        let positions = entries
            .iter()
            .zip(numbers)
            .map(|(entry, n)| Position::new(entry.id, n))
            .collect();
        Self {
            stream,
            after,
            end,
            entries,
            positions,
            rendered: Mutex::default(),
        }
    }

    /// Returns whether a reader at this position has read the same history up to there as the page,
    /// and so misses nothing and gets nothing twice if it goes on with the page.
    #[must_use]
    pub fn continues(&self, position: Position) -> bool {
        let own = match position.id.cmp(&self.after.id) {
            Ordering::Less => return false,
            Ordering::Equal => self.after,
            Ordering::Greater => {
                let found = self
                    .positions
                    .binary_search_by_key(&position.id, |at| at.id);
                let Ok(index) = found else { return false };
                self.positions[index]
            }
        };
        own.n.zip(position.n).is_none_or(|(own, n)| own == n)
    }

    /// Returns the approximate size in bytes: the entries and one rendering of them.
    #[must_use]
    pub fn size(&self) -> usize {
        self.entries
            .iter()
            .map(|entry| 2 * entry.size() + 256)
            .sum()
    }

    /// Returns the page as rendered for a view.
    #[must_use]
    pub fn rendered(&self, view: &Arc<EventView>) -> Arc<RenderedPage> {
        // The lock is held while rendering. Otherwise a second caller would repeat the work.
        let mut known = self.rendered.lock();
        if let Some((_, rendered)) = known.iter().find(|(of, _)| Arc::ptr_eq(of, view)) {
            return rendered.clone();
        }
        let rendered = Arc::new(self.render(view));
        known.push((view.clone(), rendered.clone()));
        rendered
    }

    fn render(&self, view: &EventView) -> RenderedPage {
        let size: usize = self.entries.iter().map(|entry| entry.size() + 128).sum();
        let mut bytes = Vec::with_capacity(size);
        bytes.extend_from_slice(&[b'0'; CHUNK_HEAD]);
        let mut frames = Vec::with_capacity(self.entries.len());
        let taken = self
            .entries
            .iter()
            .enumerate()
            .filter(|(_, entry)| view.filter.takes(entry));
        let stream = view.namespace.public_name_of(&self.stream);
        for (index, entry) in taken {
            let start = bytes.len();
            let json = |stream, position| EntryJson {
                stream,
                position,
                entry,
                view: &view.entry,
            };
            let end = if view.framing == Framing::Lines {
                frame::write_line(&mut bytes, &json(None, Some(self.positions[index])));
                bytes.len()
            } else if let Some(event) = view.entry.event {
                let name = [ExtraAttribute::Text("streamgatestream", stream.to_string())];
                let extensions = if event == AsEvent::WithStream {
                    &name[..]
                } else {
                    &[]
                };
                let json = EventJson {
                    extensions,
                    ..EventJson::new(&stream, entry)
                };
                frame::begin_event(&mut bytes, view.event_name(entry), None, &json);
                let end = bytes.len();
                frame::end_event(&mut bytes, Some(&self.positions[index]));
                end
            } else {
                frame::begin_event(
                    &mut bytes,
                    view.event_name(entry),
                    None,
                    &json(Some(&stream), None),
                );
                let end = bytes.len();
                frame::end_event(&mut bytes, Some(&self.positions[index]));
                end
            };
            frames.push(Frame {
                id: entry.id,
                index,
                start,
                end,
            });
        }
        if frames.is_empty() {
            return RenderedPage {
                chunk: Bytes::new(),
                frames,
            };
        }
        frame::close_chunk(&mut bytes);
        RenderedPage {
            chunk: bytes.into(),
            frames,
        }
    }
}

impl RenderedPage {
    /// Returns the index of the first frame above an id; [`RenderedPage::len`] if there is none.
    #[must_use]
    pub fn above(&self, after: EntryId) -> usize {
        // Nearly all readers are right before the first frame.
        match self.frames.first() {
            Some(first) if first.id > after => 0,
            _ => self.frames.partition_point(|frame| frame.id <= after),
        }
    }

    /// Returns the number of frames.
    #[must_use]
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Returns whether the view shows no entry of the page.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Returns all frames as one HTTP/1.1 chunk.
    #[must_use]
    pub fn chunk(&self) -> Bytes {
        self.chunk.clone()
    }

    /// Returns the bytes of the frames beginning at an index, without the framing of a chunk.
    #[must_use]
    pub fn frames(&self, from: usize) -> Bytes {
        match self.frames.get(from) {
            Some(frame) => self.chunk.slice(frame.start..self.chunk.len() - CHUNK_END),
            None => Bytes::new(),
        }
    }

    /// Returns the index of the last shown entry in the page.
    #[must_use]
    pub fn last(&self) -> Option<usize> {
        self.frames.last().map(|frame| frame.index)
    }

    /// Returns the frames beginning at an index, without the lines of their ids. Each comes with
    /// the index of its entry.
    pub fn without_ids(&self, from: usize) -> impl Iterator<Item = (usize, Bytes)> {
        let frames = self.frames.iter().skip(from);
        frames.map(|frame| (frame.index, self.chunk.slice(frame.start..frame.end)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::view::Filter;

    fn page() -> Page {
        let stream = StreamName::new("s").unwrap();
        let entry = |ms: u64, a: &str| Entry {
            id: EntryId::new(ms, 0),
            fields: vec![(b"a".to_vec(), a.as_bytes().to_vec())],
        };
        let entries = vec![entry(1, "x"), entry(2, "y"), entry(3, "x")];
        let end = Position::new(EntryId::new(3, 0), Some(3));
        Page::new(
            stream,
            (Position::START, end),
            entries,
            &[Some(1), Some(2), Some(3)],
        )
    }

    const THIRD: &str =
        "data: {\"stream\":\"s\",\"id\":\"3-0\",\"fields\":{\"a\":\"x\"}}\nid: 3-0:3\n\n";

    #[test]
    fn a_reader_in_the_middle_of_a_page_gets_the_rest_of_it() {
        let rendered = page().rendered(&Arc::default());
        assert_eq!(rendered.above(EntryId::MIN), 0);
        assert_eq!(rendered.frames(rendered.above(EntryId::new(2, 0))), THIRD);
        assert_eq!(rendered.frames(rendered.above(EntryId::new(3, 0))), "");
        let whole = rendered.frames(0);
        assert!(whole.ends_with(THIRD.as_bytes()));
        let chunk = rendered.chunk();
        let head = format!("{:08x}\r\n", whole.len());
        assert_eq!(chunk, [head.as_bytes(), &whole, b"\r\n"].concat());
    }

    #[test]
    fn a_page_continues_only_positions_of_its_own_history() {
        let page = page();
        let at = |ms: u64, n: Option<u64>| page.continues(Position::new(EntryId::new(ms, 0), n));
        assert!(page.continues(Position::START));
        assert!(page.continues(Position::OLDEST));
        assert!(at(1, Some(1)) && at(2, Some(2)) && at(2, None));
        // The entry has another count here: the reader comes from a stream that was replaced.
        assert!(!at(1, Some(2)) && !at(0, Some(1)));
        // Not an entry of the page.
        assert!(!page.continues(Position::new(EntryId::new(1, 7), Some(1))));
        let later = Position::new(EntryId::new(1, 0), Some(1));
        let page = Page {
            after: later,
            ..page
        };
        assert!(page.continues(later) && !page.continues(Position::START));
    }

    #[test]
    fn what_a_filter_leaves_out_is_not_rendered() {
        let view = |filter: &str| {
            let filter = Filter::parse(&[filter.to_owned()]).unwrap();
            Arc::new(EventView {
                filter,
                ..EventView::default()
            })
        };
        let rendered = page().rendered(&view("a:x"));
        assert_eq!((rendered.len(), rendered.last()), (2, Some(2)));
        assert_eq!(rendered.frames(rendered.above(EntryId::new(1, 0))), THIRD);
        let nothing = page().rendered(&view("a:z"));
        assert!(nothing.is_empty() && nothing.frames(0).is_empty());
    }

    #[test]
    fn frames_can_be_had_without_their_ids() {
        let rendered = page().rendered(&Arc::default());
        let rest: Vec<_> = rendered.without_ids(1).collect();
        assert_eq!(rest.len(), 2);
        let data = THIRD.strip_suffix("id: 3-0:3\n\n").unwrap();
        assert_eq!(rest[1], (2, Bytes::from_static(data.as_bytes())));
    }

    #[test]
    fn who_sees_a_page_alike_shares_its_bytes() {
        let (page, view) = (page(), Arc::<EventView>::default());
        assert!(Arc::ptr_eq(&page.rendered(&view), &page.rendered(&view)));
    }
}
