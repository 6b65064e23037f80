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
    /// List the keys of this file.
    ListKeys(PathBuf),
    /// Remove the key of this name from this file.
    RevokeKey(String, PathBuf),
    /// Print the hash of the key on the standard input.
    HashKey,
}

/// The command line, with the settings that each command reads.
#[must_use]
pub fn command() -> Command {
    let any = |_: &str| true;
    let auth_file = |name: &str| name == "auth-file";
    let address = |name: &str| matches!(name, "listen" | "tls-cert" | "tls-key");
    let config = Command::new("config")
        .about("Check or print the settings")
        .subcommand_required(true)
        .subcommand(with_settings(
            Command::new("check").about("Report every problem of the settings"),
            any,
        ))
        .subcommand(with_settings(
            Command::new("print").about("Print the effective settings and their sources"),
            any,
        ));
    let keys = Command::new("keys")
        .about("Make, list and revoke API keys")
        .subcommand_required(true)
        .subcommand(with_settings(new_key(), auth_file))
        .subcommand(with_settings(
            Command::new("list").about("List the keys of --auth-file, with their grants"),
            auth_file,
        ))
        .subcommand(with_settings(
            Command::new("revoke")
                .about("Remove a key from --auth-file; running gateways follow within a second")
                .arg(
                    Arg::new("name")
                        .value_name("NAME")
                        .required(true)
                        .help("Name of the key"),
                ),
            auth_file,
        ))
        .subcommand(Command::new("hash").about("Print the hash of the key on standard input"));
    Command::new("streamgate")
        .about("The HTTP gateway for Redis Streams")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(with_settings(
            Command::new("serve").about("Run the gateway"),
            any,
        ))
        .subcommand(with_settings(
            Command::new("dev")
                .about("Run the gateway on a private Redis, to try or develop with it"),
            any,
        ))
        .subcommand(Command::new("openapi").about("Print the OpenAPI document"))
        .subcommand(with_settings(
            Command::new("healthcheck").about("Exit 0 when the gateway at --listen is ready"),
            address,
        ))
        .subcommand(config)
        .subcommand(keys)
}

fn new_key() -> Command {
    Command::new("new")
        .about("Make a key and print it, once; with --auth-file its record is added there")
        .arg(
            Arg::new("name")
                .value_name("NAME")
                .required(true)
                .help("Name of the key"),
        )
        .arg(
            Arg::new("grant")
                .long("grant")
                .value_name("GRANT")
                .action(ArgAction::Append)
                .help("Rights and streams, like 'publish,subscribe orders:*' (repeatable)"),
        )
        .arg(
            Arg::new("admin")
                .long("admin")
                .action(ArgAction::SetTrue)
                .help("Grant every right on every stream, in place of --grant"),
        )
        .arg(
            Arg::new("prefix")
                .long("prefix")
                .value_name("PREFIX")
                .help("Prefix of the streams it works in, hidden from it, like acme:"),
        )
}

/// Adds the flags of the settings that `read` accepts, and `--config`.
fn with_settings(mut command: Command, read: impl Fn(&str) -> bool) -> Command {
    for spec in SPECS.iter().filter(|spec| read(spec.name)) {
        let default = match spec.default {
            "" => String::new(),
            default => format!(" [default: {default}]"),
        };
        let arg = Arg::new(spec.name)
            .long(spec.name)
            .help(format!("{}{default}", spec.help));
        command = command.arg(match (spec.value, spec.many) {
            ("", _) => arg.action(ArgAction::SetTrue),
            (value, true) => arg.value_name(value).action(ArgAction::Append),
            (value, false) => arg.value_name(value).action(ArgAction::Set),
        });
    }
    command.arg(
        Arg::new("config")
            .long("config")
            .value_name("FILE")
            .help("TOML file with settings (or STREAMGATE_CONFIG)"),
    )
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
    let matches = command()
        .try_get_matches_from(args)
        .map_err(Refused::Usage)?;
    let (name, of_command) = matches.subcommand().unwrap_or(("serve", &matches));
    if name == "openapi" {
        return Ok(Action::OpenApi);
    }
    let deepest = of_command
        .subcommand()
        .map_or(of_command, |(_, deeper)| deeper);
    let layers = layers(deepest, environment);
    let mode = if name == "dev" {
        Mode::Dev
    } else {
        Mode::Serve
    };
    let settings = |mode| {
        Settings::load(&layers, mode)
            .map(Box::new)
            .map_err(Refused::Settings)
    };
    match (name, of_command.subcommand_name()) {
        ("keys", Some("hash")) => Ok(Action::HashKey),
        ("keys", of) => {
            let file = layers.one("auth-file").map(|(path, _)| PathBuf::from(path));
            let name = || {
                deepest
                    .get_one::<String>("name")
                    .cloned()
                    .unwrap_or_default()
            };
            match (of, file) {
                (Some("list"), Some(file)) => Ok(Action::ListKeys(file)),
                (Some("revoke"), Some(file)) => Ok(Action::RevokeKey(name(), file)),
                (Some("list" | "revoke"), None) => {
                    let text = "the keys of which file? name it with --auth-file";
                    Err(Refused::Settings(vec![Problem::new(text)]))
                }
                (_, file) => {
                    let grants = deepest
                        .get_many::<String>("grant")
                        .into_iter()
                        .flatten()
                        .cloned();
                    let new = NewKey {
                        name: name(),
                        grants: grants.collect(),
                        admin: deepest.get_flag("admin"),
                        prefix: deepest.get_one::<String>("prefix").cloned(),
                    };
                    Ok(Action::NewKey(new, file))
                }
            }
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
        // A command has the flags of the settings it reads, and no others.
        if spec.value.is_empty() {
            if matches
                .try_get_one::<bool>(spec.name)
                .is_ok_and(|given| given == Some(&true))
            {
                layers.flag(spec.name, "true".to_owned());
            }
        } else if let Ok(values) = matches.try_get_many::<String>(spec.name) {
            for value in values.into_iter().flatten() {
                layers.flag(spec.name, value.clone());
            }
        }
    }
    layers.environment(environment.iter().cloned());
    let named = environment
        .iter()
        .find(|(name, _)| name == "STREAMGATE_CONFIG")
        .map(|(_, path)| path.clone());
    let given = matches
        .try_get_one::<String>("config")
        .ok()
        .flatten()
        .cloned();
    if let Some(path) = given.or(named) {
        match std::fs::read_to_string(PathBuf::from(&path)) {
            Ok(text) => layers.file(&path, &text),
            Err(error) => layers.problem(format!("{path} cannot be read: {error}")),
        }
    }
    layers
}
