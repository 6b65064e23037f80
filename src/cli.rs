//! The command line: subcommands and their settings.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::auth::command::NewKey;
use crate::config::{ConfigProblem, Layers, SPECS, Settings, SettingsMode, Spec};

/// The action that the command line selects.
#[derive(Debug)]
pub enum Action {
    /// Run a gateway.
    Run(Box<Settings>, SettingsMode),
    /// Print the OpenAPI document.
    OpenApi,
    /// Check whether a running gateway is ready.
    HealthCheck(Box<Settings>),
    /// Report that the settings are valid.
    CheckConfig,
    /// Print the effective settings.
    PrintConfig(String),
    /// Create an API key and, with a file, add its record there.
    NewKey(NewKey, Option<PathBuf>),
    /// List the keys of an auth file.
    ListKeys(PathBuf),
    /// Remove the named key from an auth file.
    RevokeKey(String, PathBuf),
    /// Print the hash of the key on standard input.
    HashKey,
}

/// Returns the command line definition, with the settings that each subcommand reads.
#[must_use]
pub fn command() -> Command {
    let auth_file = || [&SPECS.auth_file];
    let address = [&SPECS.listen, &SPECS.tls_cert, &SPECS.tls_key];
    let config = Command::new("config")
        .about("Validate or print the settings")
        .subcommand_required(true)
        .subcommand(with_settings(
            Command::new("check").about("Validate the settings and report every problem"),
            SPECS.iter(),
        ))
        .subcommand(with_settings(
            Command::new("print").about("Print the effective settings and their sources"),
            SPECS.iter(),
        ));
    let keys = Command::new("keys")
        .about("Create, list and revoke API keys")
        .subcommand_required(true)
        .subcommand(with_settings(new_key(), auth_file()))
        .subcommand(with_settings(
            Command::new("list").about("List the keys of --auth-file, with their grants"),
            auth_file(),
        ))
        .subcommand(with_settings(
            Command::new("revoke")
                .about("Remove a key from --auth-file; running gateways reload it within a second")
                .arg(
                    Arg::new("name")
                        .value_name("NAME")
                        .required(true)
                        .help("Name of the key"),
                ),
            auth_file(),
        ))
        .subcommand(Command::new("hash").about("Print the hash of the key on standard input"));
    Command::new("streamgate")
        .about("The HTTP gateway for Redis Streams")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(with_settings(
            Command::new("serve").about("Run the gateway"),
            SPECS.iter(),
        ))
        .subcommand(with_settings(
            Command::new("dev").about("Run the gateway with a private Redis, for development"),
            SPECS.iter(),
        ))
        .subcommand(Command::new("openapi").about("Print the OpenAPI document"))
        .subcommand(with_settings(
            Command::new("healthcheck").about("Exit 0 if the gateway at --listen is ready"),
            address,
        ))
        .subcommand(config)
        .subcommand(keys)
}

fn new_key() -> Command {
    Command::new("new")
        .about("Create a key and print it once; with --auth-file, add its record there")
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
                .help("Rights and streams, such as 'publish,subscribe orders:*' (repeatable)"),
        )
        .arg(
            Arg::new("admin")
                .long("admin")
                .action(ArgAction::SetTrue)
                .help("Grant every right on every stream, instead of --grant"),
        )
        .arg(
            Arg::new("prefix")
                .long("prefix")
                .value_name("PREFIX")
                .help("Prefix of the key's streams, such as acme:; hidden from the key's clients"),
        )
}

/// Adds a flag for each of the settings, and `--config`.
fn with_settings(mut command: Command, specs: impl IntoIterator<Item = &'static Spec>) -> Command {
    for spec in specs {
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

/// The reason why the command line selects no action.
#[derive(Debug)]
pub enum CliError {
    /// A usage error from clap with its exit code; also help and version output.
    Usage(clap::Error),
    /// Problems of the settings.
    Settings(Vec<ConfigProblem>),
}

/// Parses arguments and environment variables into an action.
///
/// # Errors
/// [`CliError`], with the text to print.
pub fn parse(
    args: impl IntoIterator<Item = OsString>,
    environment: &[(String, String)],
) -> Result<Action, CliError> {
    let matches = command()
        .try_get_matches_from(args)
        .map_err(CliError::Usage)?;
    let (name, of_command) = matches.subcommand().unwrap_or(("serve", &matches));
    if name == "openapi" {
        return Ok(Action::OpenApi);
    }
    let deepest = of_command
        .subcommand()
        .map_or(of_command, |(_, deeper)| deeper);
    let layers = layers(deepest, environment);
    let mode = if name == "dev" {
        SettingsMode::Dev
    } else {
        SettingsMode::Serve
    };
    let settings = |mode| {
        Settings::load(&layers, mode)
            .map(Box::new)
            .map_err(CliError::Settings)
    };
    match (name, of_command.subcommand_name()) {
        ("keys", Some("hash")) => Ok(Action::HashKey),
        ("keys", of) => {
            let file = layers
                .one(&SPECS.auth_file)
                .map(|(path, _)| PathBuf::from(path));
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
                    let text = "--auth-file is missing: name the file that holds the keys";
                    Err(CliError::Settings(vec![ConfigProblem::new(text)]))
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
        ("config", _) => settings(SettingsMode::Serve).map(|_| Action::CheckConfig),
        ("healthcheck", _) => settings(SettingsMode::Ask).map(Action::HealthCheck),
        _ => settings(mode).map(|settings| Action::Run(settings, mode)),
    }
}

fn layers(matches: &ArgMatches, environment: &[(String, String)]) -> Layers {
    let mut layers = Layers::default();
    for spec in SPECS.iter() {
        // clap fails on unknown names: a subcommand defines only the settings it reads.
        if spec.value.is_empty() {
            if matches
                .try_get_one::<bool>(spec.name)
                .is_ok_and(|given| given == Some(&true))
            {
                layers.flag(spec, "true");
            }
        } else if let Ok(values) = matches.try_get_many::<String>(spec.name) {
            for value in values.into_iter().flatten() {
                layers.flag(spec, value.as_str());
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
            Err(error) => layers.problem(format!("cannot read {path}: {error}")),
        }
    }
    layers
}
