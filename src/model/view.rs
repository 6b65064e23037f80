//! The view of a subscriber: the selection of entries, their contents, event names and format.

use crate::model::entry::{Entry, View};
use crate::model::frame::{self, Framing};
use crate::model::namespace::Namespace;

/// The view of a subscriber on the pages of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct EventView {
    /// The representation of each entry.
    pub entry: View,
    /// `event=FIELD`: the field whose value names the event.
    pub event: Option<String>,
    /// The selection of entries.
    pub filter: Filter,
    /// The wire format.
    pub framing: Framing,
    /// The namespace that determines the displayed name of the stream.
    pub namespace: Namespace,
}

impl EventView {
    /// Returns the event name of an entry, if it has one.
    #[must_use]
    pub fn event_name<'a>(&self, entry: &'a Entry) -> Option<&'a str> {
        let field = self.event.as_deref();
        field.and_then(|field| frame::event_name(entry.value(field)))
    }
}

/// The filters `filter=FIELD:VALUE`. For each named field, an entry must have one of the values.
///
/// ```
/// use streamgate::model::entry::Entry;
/// use streamgate::model::id::EntryId;
/// use streamgate::model::view::Filter;
///
/// let filter = Filter::parse(&["type:paid".to_owned(), "type:sent".to_owned()]).unwrap();
/// let entry = |kind: &str| Entry {
///     id: EntryId::new(1, 0),
///     fields: vec![(b"type".to_vec(), kind.as_bytes().to_vec())],
/// };
/// assert!(filter.takes(&entry("paid")));
/// assert!(!filter.takes(&entry("new")));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Filter(Vec<(String, Vec<String>)>);

/// The error for a filter without a colon or without a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a filter must be `FIELD:VALUE`")]
pub struct InvalidFilter;

impl Filter {
    /// Parses filters. The field ends at the first colon.
    ///
    /// # Errors
    /// Returns [`InvalidFilter`] with the index of the first invalid filter.
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

    /// Returns whether an entry is shown. Any value of a repeated field can match.
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
