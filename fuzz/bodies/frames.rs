//! Frames: every event is read back as exactly one event with the same data by a parser that
//! follows the HTML standard, or as exactly one line of NDJSON. This holds for all bytes in an
//! entry.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use streamgate::model::cloudevent_json::structured;
use streamgate::model::entry::{AsEvent, Entry, View};
use streamgate::model::frame::{CHUNK_END, CHUNK_HEAD, Framing, end_event};
use streamgate::model::id::EntryId;
use streamgate::model::name::StreamName;
use streamgate::model::namespace::Namespace;
use streamgate::model::page::Page;
use streamgate::model::position::Position;
use streamgate::model::sent;
use streamgate::model::view::{EventView, Filter};

use super::bytes::Taker;

pub fn frames(data: &[u8]) {
    let mut from = Taker(data);
    let Ok(stream) = StreamName::new(&from.text()).or_else(|_| StreamName::new("orders")) else {
        unreachable!()
    };
    let lines = from.byte() % 4 == 0;
    let filters: Vec<String> = (0..from.byte() % 3).map(|_| from.text()).collect();
    let view = EventView {
        entry: View {
            payload: from.maybe_text(),
            pairs: from.byte() % 2 == 1,
            json: from.byte() % 2 == 1,
            event: Some(AsEvent::Alone).filter(|_| from.byte() % 4 == 1),
        },
        event: from.maybe_text(),
        filter: Filter::parse(&filters).unwrap_or_default(),
        framing: if lines {
            Framing::Lines
        } else {
            Framing::Events
        },
        namespace: Namespace::default(),
    };
    let (mut entries, mut numbers, mut id) = (Vec::new(), Vec::new(), EntryId::MIN);
    while !from.is_empty() && entries.len() < 8 {
        let Some(next) = EntryId::new(id.ms.saturating_add(from.number()), from.number())
            .max(id)
            .next()
        else {
            break;
        };
        id = next;
        numbers.push((from.byte() % 2 == 1).then(|| from.number()));
        let field = |from: &mut Taker<'_>| (from.bytes().to_vec(), from.bytes().to_vec());
        let fields = (0..=from.byte() % 8).map(|_| field(&mut from)).collect();
        entries.push(Entry { id, fields });
    }
    let end = Position::new(id, None);
    let page = Page::new(stream, (Position::OLDEST, end), entries, &numbers);
    let view = Arc::new(view);
    let rendered = page.rendered(&view);
    let shown: Vec<usize> = (0..page.entries.len())
        .filter(|at| view.filter.takes(&page.entries[*at]))
        .collect();
    assert_eq!(rendered.len(), shown.len());
    let bytes = rendered.frames(0);
    if !shown.is_empty() {
        let chunk = rendered.chunk();
        let size = std::str::from_utf8(&chunk[..CHUNK_HEAD - 2]).ok();
        let size = size.and_then(|size| usize::from_str_radix(size, 16).ok());
        assert_eq!(size, Some(bytes.len()));
        assert_eq!(chunk.len(), CHUNK_HEAD + bytes.len() + CHUNK_END);
    }
    if lines {
        let Ok(text) = std::str::from_utf8(&bytes) else {
            panic!("not UTF-8")
        };
        assert_eq!(text.split_terminator('\n').count(), shown.len());
        for (line, at) in text.split_terminator('\n').zip(&shown) {
            same(line, None, &page.entries[*at], &view);
        }
        return;
    }
    let mut with_ids = Vec::new();
    for (index, frame) in rendered.without_ids(0) {
        with_ids.extend_from_slice(&frame);
        end_event(&mut with_ids, Some(&page.positions[index]));
    }
    assert_eq!(
        with_ids, bytes,
        "an event with a separately added id must be the same"
    );
    let events = read(&bytes);
    assert_eq!(events.len(), shown.len());
    for (event, at) in events.iter().zip(&shown) {
        let entry = &page.entries[*at];
        assert_eq!(event.id, page.positions[*at].to_string());
        let value = view.event.as_ref().and_then(|field| entry.value(field));
        assert_eq!(event.name, expected_name(value).unwrap_or("message"));
        if view.entry.event.is_some() {
            let json = serde_json::from_str(&event.data).unwrap();
            assert!(
                structured(json, usize::MAX).is_ok(),
                "not an event: {}",
                event.data
            );
            continue;
        }
        same(&event.data, Some(page.stream.redis_key()), entry, &view);
    }
}

/// Returns the event name that a field may set, according to the documentation.
fn expected_name(value: Option<&[u8]>) -> Option<&str> {
    let name = std::str::from_utf8(value?).ok()?;
    let odd = |c: char| c.is_control() || ['\u{2028}', '\u{2029}'].contains(&c);
    let ours = name.starts_with('$') || ["open", "error", "message"].contains(&name);
    (!name.is_empty() && name.len() <= 64 && !ours && !name.contains(odd)).then_some(name)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Shown<'a> {
    stream: Option<String>,
    id: String,
    /// Present in lines only.
    position: Option<String>,
    #[serde(borrow)]
    fields: Option<&'a RawValue>,
    #[serde(borrow)]
    pairs: Option<&'a RawValue>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    json: Option<bool>,
}

/// Checks that the JSON equals the entry, byte for byte.
fn same(json: &str, stream: Option<&str>, entry: &Entry, view: &EventView) {
    let shown: Shown<'_> =
        serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {json}"));
    assert_eq!(shown.stream.as_deref(), stream);
    assert_eq!(shown.id.parse(), Ok(entry.id));
    assert!(
        shown
            .position
            .is_none_or(|position| position.starts_with(&shown.id)),
        "{json}"
    );
    let as_entry = match (&view.entry.payload, shown.fields, shown.pairs) {
        (Some(field), None, None) if view.entry.json && shown.json.is_none() => {
            let value: Option<Value> = serde_json::from_slice(entry.value(field).unwrap()).ok();
            let payload = shown.payload.map_or("null", RawValue::get);
            return assert_eq!(serde_json::from_str(payload).ok(), value, "{json}");
        }
        (Some(field), None, None) => {
            assert_eq!(shown.json, view.entry.json.then_some(false));
            let Some(value) = entry.value(field) else {
                return assert!(shown.payload.is_none(), "{json}");
            };
            let payload = shown.payload.map_or("null", RawValue::get);
            let read = sent::parse_line(
                format!("{{\"fields\":{{\"p\":{payload}}}}}").as_bytes(),
                usize::MAX,
            );
            return assert_eq!(
                read.map(|read| read.fields[0].1.clone()),
                Ok(value.to_vec())
            );
        }
        (None, Some(fields), None) if !view.entry.pairs => format!("{{\"fields\":{fields}}}"),
        (None, None, Some(pairs)) => format!("{{\"pairs\":{pairs}}}"),
        _ => panic!("{json}"),
    };
    let read = sent::parse_line(as_entry.as_bytes(), usize::MAX);
    assert_eq!(
        read.map(|read| read.fields).as_ref(),
        Ok(&entry.fields),
        "{json}"
    );
}

#[derive(Debug, Default)]
struct Event {
    id: String,
    name: String,
    data: String,
}

/// Reads events according to the HTML standard.
fn read(bytes: &[u8]) -> Vec<Event> {
    let Ok(text) = std::str::from_utf8(bytes) else {
        panic!("not UTF-8")
    };
    // Some parsers also split lines at these characters.
    assert!(!text.contains([
        '\r', '\u{b}', '\u{c}', '\u{1c}', '\u{1d}', '\u{1e}', '\u{85}', '\u{2028}', '\u{2029}',
        '\0'
    ]));
    let (mut events, mut event, mut data): (Vec<Event>, Event, Option<String>) = Default::default();
    let mut id = String::new();
    for line in text.split('\n') {
        if line.is_empty() {
            if let Some(data) = data.take() {
                let name = if event.name.is_empty() {
                    "message".to_owned()
                } else {
                    event.name
                };
                events.push(Event {
                    id: id.clone(),
                    name,
                    data,
                });
            }
            event = Event::default();
            continue;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut event.name),
            "id" => value.clone_into(&mut id),
            "data" => {
                assert!(data.is_none(), "the data of an event must be one line");
                data = Some(value.to_owned());
            }
            other => panic!("unexpected field {other:?}"),
        }
    }
    assert!(data.is_none(), "the last event must be complete");
    events
}
