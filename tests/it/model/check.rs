//! Checks the log of a subscriber against the ledger of a stream.
//!
//! Each entry must arrive at most once, and in order. An entry that does not arrive must have been
//! removed. If the entry was trimmed, a `$gap` must have reported it. A gap states exactly how many
//! entries were gone at that time and not reported before. It may omit the number only if the
//! position has no count. A recreated stream is reported by a `$reset`.
//!
//! The check does not require what a gateway cannot know. One such case is a recreated stream whose
//! counters have already passed those of the position. That case counts as `blind`.

use streamgate::model::cursor::StreamsCursor;
use streamgate::model::name::StreamName;

use super::ledger::{Gone, Id, Ledger, Life, State};
use super::subscriber::{Seen, Wish};
use crate::support::sse::Event;

/// Counts of what subscribers received, summed over all subscribers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Told {
    pub entries: usize,
    pub gaps: usize,
    pub uncounted: usize,
    pub resets: usize,
    pub blind: usize,
    pub connections: usize,
}

impl std::ops::AddAssign for Told {
    fn add_assign(&mut self, other: Self) {
        self.entries += other.entries;
        self.gaps += other.gaps;
        self.uncounted += other.uncounted;
        self.resets += other.resets;
        self.blind += other.blind;
        self.connections += other.connections;
    }
}

/// A position as the gateway writes it.
#[derive(Clone, Copy, Debug)]
struct Position {
    id: Id,
    n: Option<u64>,
}

impl Position {
    fn parse(text: &str) -> Result<Self, String> {
        let (id, n) = text
            .split_once(':')
            .map_or((text, None), |(id, n)| (id, Some(n)));
        let wrong = || format!("no position: {text}");
        let n = n.map(|n| n.parse().map_err(|_| wrong())).transpose()?;
        Ok(Self {
            id: id.parse().map_err(|_| wrong())?,
            n,
        })
    }
}

/// State of a subscriber in one stream.
struct Reader<'a> {
    wish: &'a Wish,
    stream: &'a str,
    ledger: &'a Ledger,
    /// Index of the incarnation of the stream.
    life: usize,
    /// Number of entries of this incarnation that the subscriber has passed.
    at: usize,
    /// Step up to which all removals have been reported.
    told_by: usize,
    /// Earliest step whose state the subscriber can still be shown.
    since: usize,
    /// Position in the last event.
    position: Position,
    /// Whether the subscriber asked for the oldest entry available and has not received an entry
    /// yet.
    takes_any: bool,
    told: Told,
}

/// Checks what the log of a subscriber says about one stream. An error carries the index in the
/// log.
pub fn check(
    wish: &Wish,
    stream: &str,
    log: &[Seen],
    ledger: &Ledger,
) -> Result<Told, (usize, String)> {
    let mut reader: Option<Reader> = None;
    let mut asked = 0;
    for (index, seen) in log.iter().enumerate() {
        let event = match seen {
            Seen::Asks(step) => {
                asked = *step;
                continue;
            }
            Seen::Refused(status) => return Err((index, format!("refused with {status}"))),
            Seen::Told(event) if is_of_another(event, stream) => continue,
            Seen::Told(event) => event,
        };
        let stepped = match &mut reader {
            Some(reader) => reader.step(event),
            None if event.event == "$open" => {
                Reader::open(wish, stream, ledger, asked, event).map(|open| reader = Some(open))
            }
            None if event.event == "$end" => Ok(()),
            None => Err("the first event is not $open".to_owned()),
        };
        stepped.map_err(|wrong| (index, wrong))?;
    }
    let reader = reader.ok_or((0, "it never opened".to_owned()))?;
    reader.finish().map_err(|wrong| (log.len(), wrong))
}

impl<'a> Reader<'a> {
    fn open(
        wish: &'a Wish,
        stream: &'a str,
        ledger: &'a Ledger,
        asked: usize,
        event: &Event,
    ) -> Result<Self, String> {
        let position = position_of(event, stream)?;
        let alive = |life: &Life| life.ended.is_none_or(|ended| ended > asked);
        let life = ledger.lives.iter().position(alive).ok_or("no life")?;
        let at = ledger.lives[life].up_to(position.id);
        let takes_any = position.id == Id(0, 0) && position.n.is_none();
        let told = Told {
            connections: 1,
            ..Told::default()
        };
        Ok(Self {
            wish,
            stream,
            ledger,
            life,
            at,
            told_by: 0,
            since: asked,
            position,
            takes_any,
            told,
        })
    }

    fn life(&self) -> &'a Life {
        &self.ledger.lives[self.life]
    }

    fn step(&mut self, event: &Event) -> Result<(), String> {
        match event.event.as_str() {
            "message" => self.entry(event),
            "$gap" => self.gap(event),
            "$reset" => self.reset(event),
            "$open" => {
                self.told.connections += 1;
                self.move_to(position_of(event, self.stream)?)
            }
            // `$end` and `$progress` carry a position that may have advanced without an event.
            "$end" if event.id.is_none() => Ok(()),
            "$end" | "$progress" => self.move_to(position_of(event, self.stream)?),
            other => Err(format!("told {other}: {}", event.data)),
        }
    }

    fn entry(&mut self, event: &Event) -> Result<(), String> {
        let data = event.json();
        let value = self
            .wish
            .view
            .value(&data)
            .ok_or("an entry without its value")?;
        let (life, at) = self
            .ledger
            .find(value)
            .ok_or("an entry that nobody wrote")?;
        let mut blind = false;
        if life < self.life {
            return Err("an entry of a stream that is no more".to_owned());
        }
        if life > self.life {
            blind = self.at > 0;
            if blind && !self.is_blind_to(life) {
                return Err("a stream made anew, without $reset".to_owned());
            }
            (self.life, self.at, self.told_by) = (life, 0, 0);
            self.told.blind += usize::from(blind);
        }
        let entry = &self.life().entries[at];
        if at < self.at {
            return Err("an entry again, or out of order".to_owned());
        }
        if !blind {
            self.pass_over(at)?;
        }
        if data["id"] != entry.id.to_string() {
            return Err(format!("entry {} has another id", entry.id));
        }
        let position = position_of(event, self.stream)?;
        // Entries reported as gone count as passed, wherever they are in the stream.
        let behind = self.life().entries[at..]
            .iter()
            .filter(|entry| entry.is_gone_by(self.told_by));
        let (n, with_told) = (at as u64 + 1, (at + 1 + behind.count()) as u64);
        let right = position
            .n
            .is_none_or(|said| blind || said == n || said == with_told);
        if position.id != entry.id || !right {
            return Err(format!(
                "{} is number {n} or {with_told}, told {position:?}",
                entry.id
            ));
        }
        (self.at, self.position, self.takes_any) = (at + 1, position, false);
        self.since = self.since.max(entry.added);
        self.told.entries += 1;
        Ok(())
    }

    /// Checks that every entry skipped up to index `to` was removed and, if it was trimmed,
    /// reported.
    fn pass_over(&self, to: usize) -> Result<(), String> {
        for missing in &self.life().entries[self.at..to] {
            let told = self.takes_any || missing.is_gone_by(self.told_by);
            match missing.gone {
                None => return Err(format!("{} ({}) is left out", missing.id, missing.value)),
                Some((_, Gone::Trimmed)) if !told => {
                    return Err(format!(
                        "{} ({}) is left out, untold",
                        missing.id, missing.value
                    ));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Advances without an event, over entries that can no longer be delivered.
    fn move_to(&mut self, position: Position) -> Result<(), String> {
        if position.id < self.position.id {
            return Err(format!("back to {position:?} from {:?}", self.position));
        }
        if position.id > self.position.id {
            let at = self.life().up_to(position.id);
            self.pass_over(at)?;
            (self.at, self.position) = (at, position);
        }
        Ok(())
    }

    fn gap(&mut self, event: &Event) -> Result<(), String> {
        let data = event.json();
        let after = Position::parse(data["after"].as_str().ok_or("a gap after nothing")?)?;
        let oldest: Option<Id> = match data["oldest"].as_str() {
            Some(id) => Some(id.parse().map_err(|_| "no id")?),
            None => None,
        };
        self.move_to(after)?;
        let position = position_of(event, self.stream)?;
        let Some(state) = self.state(self.life, oldest, position, self.since) else {
            let later = (self.life + 1..self.ledger.lives.len()).find_map(|life| {
                self.state(life, oldest, position, 0)
                    .filter(|_| self.is_blind_to(life))
                    .map(|state| (life, state))
            });
            let (life, state) = later.ok_or("a gap that never was")?;
            self.told.blind += 1;
            self.life = life;
            self.pass_gap(state, position);
            return Ok(());
        };
        let counts = |entry: &&super::ledger::Entry| {
            entry.added <= state.step
                && entry.is_gone_by(state.step)
                && !entry.is_gone_by(self.told_by)
        };
        let gone = self.life().entries[self.at..].iter().filter(counts).count() as u64;
        match data["lost"].as_u64() {
            Some(lost) if lost != gone || lost == 0 => {
                return Err(format!("{gone} were gone in a gap of {lost}"));
            }
            None if after.n.is_some() => {
                return Err(format!("{gone} were gone, uncounted after {after:?}"));
            }
            Some(_) if after.n.is_none() => {
                return Err(format!("a guess: a count after {after:?}"));
            }
            Some(_) => self.told.gaps += 1,
            None => self.told.uncounted += 1,
        }
        self.pass_gap(state, position);
        Ok(())
    }

    fn pass_gap(&mut self, state: State, position: Position) {
        let before = |oldest: Id| {
            self.life()
                .entries
                .partition_point(|entry| entry.id < oldest)
        };
        let added = self
            .life()
            .entries
            .partition_point(|entry| entry.added <= state.step);
        self.at = state.oldest.map_or(added, before);
        (self.told_by, self.since, self.position) = (state.step, state.step, position);
        self.takes_any = false;
    }

    /// Returns the state that a gap describes. `oldest` is its oldest entry, and `position` states
    /// how many entries are gone.
    fn state(
        &self,
        life: usize,
        oldest: Option<Id>,
        position: Position,
        since: usize,
    ) -> Option<State> {
        let gone = |state: &State| match oldest {
            Some(_) => state.added - state.length,
            None => state.added,
        };
        let fits =
            |state: &&State| state.oldest == oldest && position.n.is_none_or(|n| n == gone(state));
        let states = &self.ledger.lives[life].states;
        // The state in effect at `since` may have begun earlier.
        let from = states
            .partition_point(|state| state.step <= since)
            .saturating_sub(1);
        states[from..].iter().find(fits).copied()
    }

    fn reset(&mut self, event: &Event) -> Result<(), String> {
        let Some(ended) = self.life().ended else {
            return Err("a reset of a stream that is still there".to_owned());
        };
        // A subscriber that asked for the oldest entry may have reached the end of an emptied
        // stream.
        if self.at == 0 && self.position.id == Id(0, 0) && !self.takes_any {
            return Err("a reset before anything was seen".to_owned());
        }
        self.life += 1;
        (self.at, self.told_by, self.since, self.takes_any) = (0, 0, self.since.max(ended), false);
        self.position = position_of(event, self.stream)?;
        self.told.resets += 1;
        match self.position.id == Id(0, 0) {
            true => Ok(()),
            false => Err(format!("a reset to {:?}", self.position)),
        }
    }

    /// Returns whether a later incarnation may have passed the position before the gateway could
    /// look.
    fn is_blind_to(&self, life: usize) -> bool {
        let added = self.ledger.lives[life].entries.len() as u64;
        self.position.n.is_none_or(|n| added >= n)
    }

    fn finish(self) -> Result<Told, String> {
        let whole =
            self.life + 1 == self.ledger.lives.len() && self.at == self.life().entries.len();
        match whole {
            true => Ok(self.told),
            false => Err(format!(
                "it stands at {} of {} in life {} of {}",
                self.at,
                self.life().entries.len(),
                self.life + 1,
                self.ledger.lives.len()
            )),
        }
    }
}

/// Returns whether an event names a different stream.
fn is_of_another(event: &Event, stream: &str) -> bool {
    event.json()["stream"]
        .as_str()
        .is_some_and(|named| named != stream)
}

/// Returns the position in `stream` at which the id of an event resumes.
fn position_of(event: &Event, stream: &str) -> Result<Position, String> {
    let id = event.id.as_deref().ok_or("an event without an id")?;
    if !id.starts_with("m1.") {
        return Position::parse(id);
    }
    let name = StreamName::new(stream).map_err(|error| error.to_string())?;
    let cursor = StreamsCursor::parse(id).map_err(|error| error.to_string())?;
    let position = cursor
        .of(&name)
        .ok_or("a cursor without one of its streams")?;
    Position::parse(&position.to_string())
}
