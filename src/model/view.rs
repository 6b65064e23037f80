//! How a follower sees entries: which of them, what of each, by which name, in which form.

use crate::model::entry::{Entry, View};
use crate::model::frame::{self, Framing};
use crate::model::namespace::Namespace;

/// How a page looks to those who follow its stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct EventView {
    /// What of each entry is shown.
    pub entry: View,
    /// `event=FIELD`: the field whose value names the event.
    pub event: Option<String>,
    /// Which entries are shown at all.
    pub filter: Filter,
    /// How it is written.
    pub framing: Framing,
    /// Where the stream is called as it is shown.
    pub namespace: Namespace,
}

impl EventView {
    /// The name of an entry's event, if it has one.
    #[must_use]
    pub fn event_name<'a>(&self, entry: &'a Entry) -> Option<&'a str> {
        let field = self.event.as_deref();
        field.and_then(|field| frame::event_name(entry.value(field)))
    }
}

/// `filter=FIELD:VALUE`, any number of times: for each field that is named, one of its values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Filter(Vec<(String, Vec<String>)>);

/// A filter without a colon or without a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a filter is `FIELD:VALUE`")]
pub struct InvalidFilter;

impl Filter {
    /// Reads filters as they are asked for; the field ends at the first colon.
    ///
    /// # Errors
    /// [`InvalidFilter`], with the index of the one that is none.
    pub fn parse(filters: &[String]) -> Result<Self, (usize, InvalidFilter)> {
        let mut fields: Vec<(String, Vec<String>)> = Vec::new();
        for (index, filter) in filters.iter().enumerate() {
            let split = filter
                .split_once(':')
                .filter(|(field, _)| !field.is_empty());
            let (field, value) = split.ok_or((index, InvalidFilter))?;
            match fields.iter_mut().find(|(known, _)| known == field) {
                Some((_, values)) => values.push(value.to_owned()),
                None => fields.push((field.to_owned(), vec![value.to_owned()])),
            }
        }
        Ok(Self(fields))
    }

    /// Whether an entry is shown. A field that it has several times counts with each of its values.
    #[must_use]
    pub fn takes(&self, entry: &Entry) -> bool {
        let has = |field: &str, values: &[String]| {
            let mut of_field = entry
                .fields
                .iter()
                .filter(|(name, _)| name == field.as_bytes());
            of_field.any(|(_, value)| values.iter().any(|wanted| wanted.as_bytes() == value))
        };
        self.0.iter().all(|(field, values)| has(field, values))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::EntryId;

    fn entry(fields: &[(&str, &str)]) -> Entry {
        let field =
            |(name, value): &(&str, &str)| (name.as_bytes().into(), value.as_bytes().into());
        Entry {
            id: EntryId::new(1, 0),
            fields: fields.iter().map(field).collect(),
        }
    }

    fn filter(filters: &[&str]) -> Filter {
        let filters: Vec<String> = filters.iter().map(ToString::to_string).collect();
        Filter::parse(&filters).unwrap()
    }

    #[test]
    fn values_of_one_field_are_alternatives_and_fields_must_all_fit() {
        let filter = filter(&["type:paid", "type:sent", "at:10:30"]);
        assert!(filter.takes(&entry(&[("type", "paid"), ("at", "10:30")])));
        assert!(filter.takes(&entry(&[("at", "10:30"), ("type", "x"), ("type", "sent")])));
        assert!(!filter.takes(&entry(&[("type", "paid"), ("at", "10")])));
        assert!(!filter.takes(&entry(&[("at", "10:30")])));
        assert!(Filter::default().takes(&entry(&[("a", "b")])));
    }

    #[test]
    fn a_filter_names_a_field() {
        for wrong in ["type", ":x", ""] {
            let filters = ["a:b".to_owned(), wrong.to_owned()];
            assert_eq!(
                Filter::parse(&filters),
                Err((1, InvalidFilter)),
                "{wrong:?}"
            );
        }
        assert!(filter(&["a:"]).takes(&entry(&[("a", "")])));
    }
}
