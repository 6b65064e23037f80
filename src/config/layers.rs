//! The sources of values, in order of precedence.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;

use crate::config::{ConfigProblem, SPECS, Spec};
use crate::model::nearest::nearest;

const ENV_PREFIX: &str = "STREAMGATE_";
/// Variables with the prefix that are not settings: one names the settings file.
const NOT_SETTINGS: [&str; 1] = ["STREAMGATE_CONFIG"];

/// The source of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A flag on the command line.
    Flag(String),
    /// An environment variable.
    Variable(String),
    /// The settings file.
    File(String),
    /// The default value.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(f, "--{name}"),
            Self::Variable(name) | Self::File(name) => f.write_str(name),
            Self::Default => f.write_str("default"),
        }
    }
}

type LayerValues = HashMap<&'static str, Vec<(String, Source)>>;

/// Values of settings from each source.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    flags: LayerValues,
    variables: LayerValues,
    file: LayerValues,
    problems: Vec<ConfigProblem>,
}

impl Layers {
    /// Adds a value given as a flag.
    pub fn flag(&mut self, spec: &'static Spec, value: impl Into<String>) {
        let source = Source::Flag(spec.name.to_owned());
        let values = self.flags.entry(spec.name).or_default();
        values.push((value.into(), source));
    }

    /// Adds all variables with the prefix. Values of lists are separated by commas.
    pub fn environment(&mut self, variables: impl Iterator<Item = (String, String)>) {
        for (variable, value) in variables {
            let Some(rest) = variable.strip_prefix(ENV_PREFIX) else {
                continue;
            };
            if NOT_SETTINGS.contains(&variable.as_str()) {
                continue;
            }
            let name = rest.to_ascii_lowercase().replace('_', "-");
            let Some(spec) = find(&name) else {
                let near =
                    nearest(&name, names()).map(|near| near.to_ascii_uppercase().replace('-', "_"));
                let hint = near.map_or_else(String::new, |near| {
                    format!("; did you mean {ENV_PREFIX}{near}?")
                });
                self.problems.push(ConfigProblem(format!(
                    "there is no setting {variable}{hint}"
                )));
                continue;
            };
            let source = Source::Variable(variable);
            let values = self.variables.entry(spec.name).or_default();
            match spec.many {
                true => values.extend(
                    value
                        .split(',')
                        .map(|part| (part.trim().to_owned(), source.clone())),
                ),
                false => values.push((value, source)),
            }
        }
    }

    /// Adds the text of a settings file.
    pub fn file(&mut self, path: &str, text: &str) {
        let table = match text.parse::<toml::Table>() {
            Ok(table) => table,
            Err(error) => {
                self.problems
                    .push(ConfigProblem(format!("{path}: {}", error.message())));
                return;
            }
        };
        for (key, value) in table {
            let Some(spec) = find(&key.replace('_', "-")) else {
                let near =
                    nearest(&key.replace('_', "-"), names()).map(|near| near.replace('-', "_"));
                let hint = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
                self.problems.push(ConfigProblem(format!(
                    "{path}: there is no setting {key}{hint}"
                )));
                continue;
            };
            let texts = match value {
                toml::Value::Array(list) if spec.many => list.into_iter().map(text_of).collect(),
                other => vec![text_of(other)],
            };
            let source = Source::File(path.to_owned());
            let values = self.file.entry(spec.name).or_default();
            values.extend(texts.into_iter().map(|text| (text, source.clone())));
        }
    }

    /// Adds a problem that occurred while values were collected.
    pub fn problem(&mut self, text: String) {
        self.problems.push(ConfigProblem(text));
    }

    pub(super) fn problems(&self) -> Vec<ConfigProblem> {
        self.problems.clone()
    }

    /// Returns the value of a setting with the highest precedence, and its source.
    #[must_use]
    pub fn one(&self, spec: &Spec) -> Option<(String, Source)> {
        self.many(spec).into_iter().next_back()
    }

    /// Returns all values from the source with the highest precedence, or the default.
    #[must_use]
    pub fn many(&self, spec: &Spec) -> Vec<(String, Source)> {
        let given = [&self.flags, &self.variables, &self.file]
            .into_iter()
            .find_map(|layer| layer.get(spec.name));
        match given {
            Some(values) => values.clone(),
            None if spec.default.is_empty() => Vec::new(),
            None => vec![(spec.default.to_owned(), Source::Default)],
        }
    }

    /// Formats the effective settings as a file, without secrets, and with the sources in comments.
    #[must_use]
    pub fn print(&self) -> String {
        let mut lines = String::new();
        for spec in SPECS.iter() {
            let values = self.many(spec);
            let key = spec.name.replace('-', "_");
            let shown: Vec<String> = values
                .iter()
                .map(|(text, _)| toml_of(spec, &(spec.mask)(text)))
                .collect();
            let line = match (values.last(), spec.many) {
                (None, _) => format!("# {key} is not set\n"),
                (Some((_, source)), true) => format!("{key} = [{}] # {source}\n", shown.join(", ")),
                (Some((_, source)), false) => format!("{key} = {} # {source}\n", shown.concat()),
            };
            lines.push_str(&line);
        }
        lines
    }
}

/// Returns the setting with this name.
fn find(name: &str) -> Option<&'static Spec> {
    SPECS.iter().find(|spec| spec.name == name)
}

fn names() -> impl Iterator<Item = &'static str> {
    SPECS.iter().map(|spec| spec.name)
}

fn text_of(value: toml::Value) -> String {
    match value {
        toml::Value::String(text) => text,
        other => other.to_string(),
    }
}

fn toml_of(spec: &Spec, text: &str) -> String {
    let plain = spec.value.is_empty() || spec.value == "N";
    if plain {
        text.to_owned()
    } else {
        toml::Value::String(text.to_owned()).to_string()
    }
}

/// Returns the directory for application data on this platform.
#[expect(
    clippy::disallowed_methods,
    reason = "only `config` reads the environment"
)]
pub(super) fn data_dir() -> Option<PathBuf> {
    let var = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let home = || var("HOME").map(PathBuf::from);
    let base = if cfg!(target_os = "macos") {
        home()?.join("Library").join("Application Support")
    } else {
        var("XDG_DATA_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(home()?.join(".local").join("share")))?
    };
    Some(base.join("streamgate"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_masked_when_printed() {
        let mut layers = Layers::default();
        layers.flag(&SPECS.redis_url, "redis://me:s3cret@host:1/0");
        let printed = layers.print();
        assert!(
            printed.contains("redis_url = \"redis://me:***@host:1/0\" # --redis-url"),
            "{printed}"
        );
        assert!(!printed.contains("s3cret"));
    }

    #[test]
    fn what_is_printed_can_be_read_again() {
        let mut layers = Layers::default();
        layers.flag(&SPECS.allow_origin, "http://a");
        layers.flag(&SPECS.insecure, "true");
        let mut again = Layers::default();
        again.file("printed", &layers.print());
        assert_eq!(again.problems(), []);
        assert_eq!(again.one(&SPECS.allow_origin).unwrap().0, "http://a");
        assert_eq!(again.one(&SPECS.insecure).unwrap().0, "true");
    }
}
