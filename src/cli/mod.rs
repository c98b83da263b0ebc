//! The command line: one file for each command, all of one shape. The only place that prints.

pub mod check;
pub mod demo;
pub mod explain;
pub mod keys;
pub mod probe;
pub mod run;
pub mod schema;
pub mod session;
pub mod store;
pub mod token;
pub mod user;

mod import;
mod opened;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// An authentication gateway and reverse proxy for HTTP, SSE and WebSocket services.
#[derive(Parser)]
#[command(name = "portcullis", version, about, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the gateway.
    Run(run::Run),
    /// Check a configuration: every problem with its file, line and mend.
    Check(check::Check),
    /// Tell what would become of a request, and why.
    Explain(explain::Explain),
    /// Mint, inspect or verify tokens.
    Token(token::Token),
    /// Look after the gateway's own users.
    User(user::User),
    /// Look after sessions: list them, end them.
    Session(session::Session),
    /// Look after the gateway's own signing keys.
    Keys(keys::Keys),
    /// Look after the store of users, sessions and keys.
    Store(store::Store),
    /// Print the JSON Schema of the configuration.
    Schema(schema::Schema),
    /// Ask a running gateway whether it is ready; for container health checks.
    Probe(probe::Probe),
    /// Try it: a sample service, the gateway in front of it, a token and a page.
    Demo(demo::Demo),
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Run(args) => run::run(args),
        Command::Check(args) => check::run(args),
        Command::Explain(args) => explain::run(args),
        Command::Token(args) => token::run(args),
        Command::User(args) => user::run(args),
        Command::Session(args) => session::run(args),
        Command::Keys(args) => keys::run(args),
        Command::Store(args) => store::run(args),
        Command::Schema(args) => schema::run(args),
        Command::Probe(args) => probe::run(args),
        Command::Demo(args) => demo::run(args),
    };
    outcome.unwrap_or_else(|error| {
        fail(&error);
        ExitCode::FAILURE
    })
}

/// Prints to standard output. A reader that has gone away (`portcullis schema | head`) is no reason to fail.
fn say(text: impl AsRef<[u8]>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_ref()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed,
    }
}

#[expect(clippy::print_stderr, reason = "the command line talks to a person")]
fn fail(error: &anyhow::Error) {
    eprintln!("portcullis: {error:#}");
}
