//! Ledger of a stream: a plain list, kept beside Redis, of every entry and when it was removed.

use std::fmt;
use std::str::FromStr;

/// A Redis stream id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id(pub u64, pub u64);

impl FromStr for Id {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (ms, seq) = text.split_once('-').unwrap_or((text, "0"));
        Ok(Self(ms.parse()?, seq.parse()?))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0, self.1)
    }
}

/// The way an entry was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// Trimmed, together with everything before it.
    Trimmed,
    /// Deleted individually.
    Deleted,
}

/// An entry. Steps are numbered across all streams, and each step is one Redis command.
#[derive(Clone, Debug)]
pub struct Entry {
    pub id: Id,
    /// Unique among all values written in a run.
    pub value: u64,
    pub added: usize,
    pub gone: Option<(usize, Gone)>,
}

impl Entry {
    pub fn is_gone_by(&self, step: usize) -> bool {
        self.gone.is_some_and(|(gone, _)| gone <= step)
    }
}

/// State of a stream after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    pub step: usize,
    pub added: u64,
    pub length: u64,
    pub oldest: Option<Id>,
}

/// One incarnation of a stream, from its creation to its deletion.
#[derive(Clone, Debug)]
pub struct Life {
    pub entries: Vec<Entry>,
    pub states: Vec<State>,
    pub ended: Option<usize>,
}

impl Life {
    fn begin(step: usize) -> Self {
        let nothing = State {
            step,
            added: 0,
            length: 0,
            oldest: None,
        };
        Self {
            entries: Vec::new(),
            states: vec![nothing],
            ended: None,
        }
    }

    /// Returns the number of entries with an id of at most `id`.
    pub fn up_to(&self, id: Id) -> usize {
        self.entries.partition_point(|entry| entry.id <= id)
    }

    fn kept(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.gone.is_none())
    }
}

/// One stream name, with all its incarnations.
#[derive(Clone, Debug)]
pub struct Ledger {
    pub lives: Vec<Life>,
}

impl Ledger {
    pub fn new(step: usize) -> Self {
        Self {
            lives: vec![Life::begin(step)],
        }
    }

    pub fn life(&self) -> &Life {
        self.lives.last().unwrap()
    }

    fn life_mut(&mut self) -> &mut Life {
        self.lives.last_mut().unwrap()
    }

    /// Returns the ids of the retained entries.
    pub fn kept(&self) -> Vec<Id> {
        self.life().kept().map(|entry| entry.id).collect()
    }

    pub fn last_id(&self) -> Id {
        self.life()
            .entries
            .last()
            .map_or(Id(0, 0), |entry| entry.id)
    }

    pub fn add(&mut self, step: usize, id: Id, value: u64) {
        assert!(
            id > self.last_id(),
            "the ledger is wrong: {id} after {}",
            self.last_id()
        );
        self.life_mut().entries.push(Entry {
            id,
            value,
            added: step,
            gone: None,
        });
    }

    /// Marks every entry below `oldest` as trimmed, or every entry if there is no oldest.
    pub fn trim(&mut self, step: usize, oldest: Option<Id>) {
        for entry in &mut self.life_mut().entries {
            if oldest.is_none_or(|oldest| entry.id < oldest) && entry.gone.is_none() {
                entry.gone = Some((step, Gone::Trimmed));
            }
        }
    }

    pub fn delete(&mut self, step: usize, id: Id) {
        let at = self.life().up_to(id) - 1;
        self.life_mut().entries[at].gone = Some((step, Gone::Deleted));
    }

    /// Completes a step. `length` is the number of entries in Redis and must match the ledger.
    pub fn settle(&mut self, step: usize, length: usize) {
        let life = self.life_mut();
        let (kept, oldest) = (
            life.kept().count(),
            life.kept().next().map(|entry| entry.id),
        );
        assert_eq!(kept, length, "the ledger is wrong");
        let (added, length) = (life.entries.len() as u64, length as u64);
        life.states.push(State {
            step,
            added,
            length,
            oldest,
        });
    }

    /// Records that the stream was deleted or recreated.
    pub fn end(&mut self, step: usize) {
        self.life_mut().ended = Some(step);
        self.lives.push(Life::begin(step));
    }

    /// Returns the incarnation and the index of the entry with this value.
    pub fn find(&self, value: u64) -> Option<(usize, usize)> {
        self.lives.iter().enumerate().find_map(|(life, entries)| {
            let at = entries
                .entries
                .iter()
                .position(|entry| entry.value == value)?;
            Some((life, at))
        })
    }
}
