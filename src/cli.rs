//! The command line: which command, with which settings.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::auth::command::NewKey;
use crate::config::{Layers, Mode, Problem, SPECS, Settings};

/// What to do.
#[derive(Debug)]
pub enum Action {
    /// Run a gateway.
    Run(Box<Settings>, Mode),
    /// Print the OpenAPI document.
    OpenApi,
    /// Ask a running gateway whether it is ready.
    HealthCheck(Box<Settings>),
    /// Print that the settings are right.
    CheckConfig,
    /// Print the effective settings.
    PrintConfig(String),
    /// Make an API key, with its record in this file.
    NewKey(NewKey, Option<PathBuf>),
    /// Print the hash of the key on the standard input.
    HashKey,
}

/// What the command line is.
#[must_use]
pub fn command() -> Command {
    let mut root = Command::new("streamgate")
        .about("The HTTP gateway for Redis Streams")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(Command::new("serve").about("Run the gateway"))
        .subcommand(
            Command::new("dev")
                .about("Run the gateway on a private Redis, to try it or to develop against it"),
        )
        .subcommand(Command::new("openapi").about("Print the OpenAPI document"))
        .subcommand(
            Command::new("healthcheck")
                .about("Ask the gateway at --listen whether it is ready: exit 0 if so"),
        )
        .subcommand(
            Command::new("config")
                .about("Look at the settings")
                .subcommand_required(true)
                .subcommand(Command::new("check").about("Say what is wrong with them, if anything"))
                .subcommand(Command::new("print").about("Print them, with where each comes from")),
        )
        .subcommand(
            Command::new("keys")
                .about("Make API keys")
                .subcommand_required(true)
                .subcommand(
                    Command::new("new")
                        .about("Make a key and show it, once; with --auth-file its record goes in there")
                        .arg(
                            Arg::new("name")
                                .value_name("NAME")
                                .required(true)
                                .help("What to call it"),
                        )
                        .arg(
                            Arg::new("grant")
                                .long("grant")
                                .value_name("GRANT")
                                .action(ArgAction::Append)
                                .help("Like 'publish,subscribe orders:*' (repeatable) [default: '* *', everything]"),
                        )
                        .arg(
                            Arg::new("prefix")
                                .long("prefix")
                                .value_name("PREFIX")
                                .help("The part of the key space it works in, which it does not see, like acme:"),
                        ),
                )
                .subcommand(
                    Command::new("hash").about("Print the hash of the key on the standard input"),
                ),
        )
        .arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .global(true)
                .help("A TOML file with settings (or STREAMGATE_CONFIG)"),
        );
    for spec in SPECS {
        let default = if spec.default.is_empty() {
            String::new()
        } else {
            format!(" [default: {}]", spec.default)
        };
        let mut arg = Arg::new(spec.name)
            .long(spec.name)
            .global(true)
            .help(format!("{}{default}", spec.help));
        arg = match (spec.value, spec.many) {
            ("", _) => arg.action(ArgAction::SetTrue),
            (value, true) => arg.value_name(value).action(ArgAction::Append),
            (value, false) => arg.value_name(value).action(ArgAction::Set),
        };
        root = root.arg(arg);
    }
    root
}

/// Why nothing is done.
#[derive(Debug)]
pub enum Refused {
    /// Clap's words, with its exit code; also help and version.
    Usage(clap::Error),
    /// Settings that cannot be.
    Settings(Vec<Problem>),
}

/// From arguments and environment to what is to be done.
///
/// # Errors
/// [`Refused`], to be shown.
pub fn parse(
    args: impl IntoIterator<Item = OsString>,
    environment: &[(String, String)],
) -> Result<Action, Refused> {
    let matches = command().try_get_matches_from(args).map_err(Refused::Usage)?;
    let (name, of_command) = matches.subcommand().unwrap_or(("serve", &matches));
    if name == "openapi" {
        return Ok(Action::OpenApi);
    }
    let deepest = of_command.subcommand().map_or(of_command, |(_, deeper)| deeper);
    let layers = layers(deepest, environment);
    let mode = if name == "dev" { Mode::Dev } else { Mode::Serve };
    let settings = |mode| Settings::load(&layers, mode).map(Box::new).map_err(Refused::Settings);
    match (name, of_command.subcommand_name()) {
        ("keys", Some("hash")) => Ok(Action::HashKey),
        ("keys", _) => {
            let new = NewKey {
                name: deepest.get_one::<String>("name").cloned().unwrap_or_default(),
                grants: deepest
                    .get_many::<String>("grant")
                    .into_iter()
                    .flatten()
                    .cloned()
                    .collect(),
                prefix: deepest.get_one::<String>("prefix").cloned(),
            };
            Ok(Action::NewKey(new, layers.one("auth-file").map(|(path, _)| path.into())))
        }
        ("config", Some("print")) => Ok(Action::PrintConfig(layers.print())),
        ("config", _) => settings(Mode::Serve).map(|_| Action::CheckConfig),
        ("healthcheck", _) => settings(Mode::Ask).map(Action::HealthCheck),
        _ => settings(mode).map(|settings| Action::Run(settings, mode)),
    }
}

fn layers(matches: &ArgMatches, environment: &[(String, String)]) -> Layers {
    let mut layers = Layers::default();
    for spec in SPECS {
        if spec.value.is_empty() {
            if matches.get_flag(spec.name) {
                layers.flag(spec.name, "true".to_owned());
            }
            continue;
        }
        for value in matches.get_many::<String>(spec.name).into_iter().flatten() {
            layers.flag(spec.name, value.clone());
        }
    }
    layers.environment(environment.iter().cloned());
    let named = environment
        .iter()
        .find(|(name, _)| name == "STREAMGATE_CONFIG")
        .map(|(_, path)| path.clone());
    if let Some(path) = matches.get_one::<String>("config").cloned().or(named) {
        match std::fs::read_to_string(PathBuf::from(&path)) {
            Ok(text) => layers.file(&path, &text),
            Err(error) => layers.problem(format!("{path} cannot be read: {error}")),
        }
    }
    layers
}
