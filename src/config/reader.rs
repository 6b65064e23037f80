//! The reader of settings: it parses values, checks their ranges and collects problems.

use std::time::Duration;

use crate::config::specs::find;
use crate::config::values::size;
use crate::config::{Layers, Problem, Source};
use crate::model::duration;

/// A reader that parses settings one by one and collects all problems.
pub(super) struct Reader<'a> {
    pub(super) layers: &'a Layers,
    pub(super) problems: Vec<Problem>,
}

impl Reader<'_> {
    /// Parses the value of a setting; `None` if it is not set or invalid.
    pub(super) fn get<T>(
        &mut self,
        name: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let (text, source) = self.layers.one(name)?;
        self.keep(name, &text, &source, read)
    }

    fn keep<T>(
        &mut self,
        name: &str,
        text: &str,
        source: &Source,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        match read(text) {
            Ok(value) => Some(value),
            Err(wrong) => {
                self.problems
                    .push(Problem(format!("{name} ({source}): {wrong}")));
                None
            }
        }
    }

    /// Parses an ordered value and checks the range of the setting in the table.
    pub(super) fn ranged<T: PartialOrd>(
        &mut self,
        name: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let (least, most) = find(name).map_or(("", ""), |spec| spec.range);
        let in_range = |text: &str| {
            let value = read(text)?;
            let low = read(least).is_ok_and(|least| value < least);
            let high = read(most).is_ok_and(|most| value > most);
            match low || high {
                true => Err(format!("{text:?} is not between {least} and {most}")),
                false => Ok(value),
            }
        };
        self.get(name, in_range)
    }

    /// Parses all values of a setting, without those that are invalid.
    pub(super) fn all<T>(
        &mut self,
        name: &str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let values = self.layers.many(name);
        values
            .iter()
            .filter_map(|(text, source)| self.keep(name, text, source, &read))
            .collect()
    }

    pub(super) fn duration(&mut self, name: &str) -> Duration {
        self.duration_if_any(name).unwrap_or(Duration::from_secs(1))
    }

    /// Parses a duration; `None` for 0.
    pub(super) fn duration_if_any(&mut self, name: &str) -> Option<Duration> {
        let read = |text: &str| duration::parse(text).map_err(|error| error.to_string());
        self.ranged(name, read)
            .filter(|duration| !duration.is_zero())
    }

    pub(super) fn size(&mut self, name: &str) -> usize {
        self.ranged(name, size).unwrap_or(1)
    }

    pub(super) fn count(&mut self, name: &str) -> usize {
        let count = |text: &str| {
            text.parse::<usize>()
                .map_err(|_| format!("{text:?} is not a whole number"))
        };
        self.ranged(name, count).unwrap_or(1)
    }
}
