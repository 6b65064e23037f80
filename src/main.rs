//! The streamgate binary: runs the command and returns an exit code.

use std::io::{ErrorKind, Write as _};
use std::process::ExitCode;

use streamgate::auth::command;
use streamgate::cli::{self, Action, CliError};
use streamgate::http::openapi;
use streamgate::net::tls;
use streamgate::{health, run, telemetry};

/// The allocator of glibc keeps freed memory that lies between used memory. This one returns it to
/// the system within seconds (ADR 11).
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    tls::install_provider();
    // No setting has a variable whose name or value is not valid UTF-8.
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let variables: Vec<_> = variables.collect();
    let action = match cli::parse(std::env::args_os(), &variables) {
        Ok(action) => action,
        Err(CliError::Usage(error)) => error.exit(),
        Err(CliError::Settings(problems)) => {
            for problem in problems {
                eprintln!("streamgate: {problem}");
            }
            return ExitCode::from(2);
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("streamgate: {error}");
            return ExitCode::FAILURE;
        }
    };
    match action {
        Action::Run(settings, mode) => {
            telemetry::init(settings.log);
            runtime.block_on(run::run(*settings, mode))
        }
        Action::HealthCheck(settings) => match runtime.block_on(health::check(&settings.server)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("streamgate: {error}");
                ExitCode::FAILURE
            }
        },
        Action::OpenApi => say(&openapi::text()),
        Action::CheckConfig => say("the settings are valid\n"),
        Action::NewKey(new, file) => print(command::make(&new, file.as_deref()).map(|created| {
            eprint!("{}", created.note);
            created.output
        })),
        Action::ListKeys(file) => print(command::list(&file)),
        Action::RevokeKey(name, file) => print(command::revoke(&name, &file)),
        Action::HashKey => print(command::hash()),
        Action::PrintConfig(text) => say(&text),
    }
}

/// Writes to standard output. A closed pipe, as by `head`, is not an error.
fn say(text: &str) -> ExitCode {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            eprintln!("streamgate: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

fn print(text: Result<String, String>) -> ExitCode {
    match text {
        Ok(text) => say(&text),
        Err(error) => {
            eprintln!("streamgate: {error}");
            ExitCode::FAILURE
        }
    }
}
