//! JSON with repeated names. General parsers keep only the last one.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// The structure of a JSON value, as far as JSON pointers need it.
pub enum Tree {
    /// A value other than an array or an object.
    Leaf,
    /// An array.
    Items(Vec<Tree>),
    /// An object, with members in their original order.
    Members(Vec<(String, Tree)>),
}

impl Tree {
    /// Returns whether a JSON pointer leads to a value. With repeated names, any of the values
    /// counts.
    pub fn has(&self, pointer: &str) -> bool {
        let Some(rest) = pointer.strip_prefix('/') else {
            return pointer.is_empty();
        };
        let (first, rest) = match rest.split_once('/') {
            Some((first, _)) => (first, &rest[first.len()..]),
            None => (rest, ""),
        };
        let first = first.replace("~1", "/").replace("~0", "~");
        match self {
            Self::Leaf => false,
            Self::Items(items) => {
                let index = first.parse::<usize>().ok();
                index
                    .and_then(|index| items.get(index))
                    .is_some_and(|item| item.has(rest))
            }
            Self::Members(members) => members
                .iter()
                .any(|(name, value)| *name == first && value.has(rest)),
        }
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Tree, E> {
        Ok(Tree::Leaf)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Tree, E> {
        Ok(Tree::Leaf)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Tree, E> {
        Ok(Tree::Leaf)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Tree, E> {
        Ok(Tree::Leaf)
    }

    fn visit_str<E>(self, _: &str) -> Result<Tree, E> {
        Ok(Tree::Leaf)
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Leaf)
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<Tree, S::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Tree::Items(items))
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Tree, M::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Tree::Members(members))
    }
}
