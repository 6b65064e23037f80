//! The reader of settings: it parses values, checks their ranges and collects problems.

use std::cmp::Ordering;

use crate::config::kinds::{Field, Kind};
use crate::config::{ConfigProblem, Layers, Spec};

/// A reader that parses settings one by one and collects all problems.
pub(super) struct SettingsReader<'a> {
    pub(super) layers: &'a Layers,
    pub(super) problems: Vec<ConfigProblem>,
    /// Names of settings with an invalid value. Only `field` adds to it.
    invalid: Vec<&'static str>,
}

impl<'a> SettingsReader<'a> {
    pub(super) fn new(layers: &'a Layers) -> Self {
        Self {
            layers,
            problems: layers.problems(),
            invalid: Vec::new(),
        }
    }

    pub(super) fn problem(&mut self, text: impl Into<String>) {
        self.problems.push(ConfigProblem(text.into()));
    }

    /// Returns whether the value of a setting could be parsed. The field of an invalid one holds its
    /// default.
    pub(super) fn is_valid(&self, spec: &Spec) -> bool {
        !self.invalid.contains(&spec.name)
    }

    /// Parses the values of a setting, without those that are invalid.
    pub(super) fn field<F: Field>(&mut self, spec: &'static Spec) -> F {
        let mut parsed = Vec::new();
        for (text, source) in self.layers.many(spec) {
            match in_range(&text, spec.range) {
                Ok(value) => parsed.push(value),
                Err(wrong) => {
                    self.problem(format!("{} ({source}): {wrong}", spec.name));
                    self.invalid.push(spec.name);
                }
            }
        }
        F::of(parsed, spec.default)
    }

    /// Returns two settings that require each other.
    pub(super) fn both<T>(
        &mut self,
        one: (&Spec, Option<T>),
        other: (&Spec, Option<T>),
    ) -> Option<(T, T)> {
        match (one, other) {
            ((_, Some(one)), (_, Some(other))) => Some((one, other)),
            ((given, Some(_)), (missing, None)) | ((missing, None), (given, Some(_))) => {
                self.problem(format!("{} requires {}", given.name, missing.name));
                None
            }
            ((_, None), (_, None)) => None,
        }
    }
}

/// Parses a value and checks its range, if values of its kind have an order.
fn in_range<K: Kind>(text: &str, (least, most): (&str, &str)) -> Result<K, String> {
    let value = K::parse(text)?;
    let is = |order, limit| K::parse(limit).is_ok_and(|limit| value.order(&limit) == Some(order));
    match is(Ordering::Less, least) || is(Ordering::Greater, most) {
        true => Err(format!("{text:?} is not between {least} and {most}")),
        false => Ok(value),
    }
}
