//! `portcullis explain`: what would become of a request, and why, step by step.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use http::{HeaderMap, Request};

use crate::clock::Clock;
use crate::config::{Capture, CaptureFrom, Scope, Unknown};
use crate::gate::Gate;
use crate::jobs::guard::Asked;
use crate::jobs::named::Named;
use crate::policy::Permit;
use crate::refusal::{Language, Refusal};
use crate::rehearsal::Rehearsal;
use crate::request::peer::Peer;
use crate::resources::Resources;
use crate::route::Route;

/// Tells for a request and a token: the route, the credential, each check, the decision, the headers.
#[derive(clap::Args)]
pub struct Explain {
    /// The configuration [default: $PORTCULLIS_CONFIG, else portcullis.toml]
    #[arg(long, short)]
    config: Option<PathBuf>,
    /// The request line: "GET /api/x", or a target alone for GET.
    request: String,
    /// A header, "name: value"; may be given again.
    #[arg(long = "header", short = 'H', value_name = "HEADER")]
    headers: Vec<String>,
    /// A bearer token; "-" reads it from standard input, so that it stays out of the shell's history.
    #[arg(long, short)]
    token: Option<String>,
    /// The address that the request comes from.
    #[arg(long, default_value = "127.0.0.1")]
    from: std::net::IpAddr,
    /// It comes over TLS.
    #[arg(long)]
    tls: bool,
}

/// Explains. The exit code is 0 where the request passes, 2 where it is refused.
///
/// # Errors
/// When the configuration or the request cannot be read.
pub fn run(args: Explain) -> anyhow::Result<ExitCode> {
    let config = crate::config::load(&super::check::config_path(args.config.clone()))?;
    let gate = Gate::build(config, &Resources::offline(Clock::System))?;
    let peer = Peer {
        address: Some(args.from),
        secure: args.tls,
    };
    let rehearsal = Rehearsal::of(&gate, request(&args)?, peer, None);
    let mut text = Vec::new();
    print(&mut text, &gate, &rehearsal)?;
    super::say(text)?;
    Ok(ExitCode::from(if rehearsal.decision.is_ok() {
        0
    } else {
        2
    }))
}

fn request(args: &Explain) -> anyhow::Result<Request<()>> {
    let mut words = args.request.split_whitespace();
    let (method, target) = match (words.next(), words.next()) {
        (Some(target), None) => ("GET", target),
        (Some(method), Some(target)) => (method, target),
        _ => anyhow::bail!("the request is empty; try \"GET /\""),
    };
    let mut request = Request::builder().method(method).uri(target);
    let mut has_host = false;
    for header in &args.headers {
        let (name, value) = header
            .split_once(':')
            .context("a header is written \"name: value\"")?;
        has_host |= name.trim().eq_ignore_ascii_case("host");
        request = request.header(name.trim(), value.trim());
    }
    if !has_host {
        request = request.header("host", "localhost");
    }
    if let Some(token) = &args.token {
        let token = match token.as_str() {
            "-" => std::io::read_to_string(std::io::stdin())?,
            given => given.to_owned(),
        };
        request = request.header("authorization", format!("Bearer {}", token.trim()));
    }
    request.body(()).context("the request cannot be read")
}

fn print(out: &mut impl Write, gate: &Gate, rehearsal: &Rehearsal<'_>) -> io::Result<()> {
    match &rehearsal.head {
        None => writeln!(out, "head        refused")?,
        Some(head) => {
            let (method, path, host) = (head.method(), head.path(), head.host().as_str());
            writeln!(out, "head        {method} {path} at {host}")?;
        }
    }
    match &rehearsal.route {
        None if rehearsal.head.is_none() => {}
        None => writeln!(out, "route       none")?,
        Some((route, params)) => {
            let answers = match route.carriage() {
                Some(carriage) => format!("upstream {}", carriage.upstream().config.name),
                None => "the gateway itself".to_owned(),
            };
            writeln!(out, "route       {} -> {answers}", route.name)?;
            for (name, value) in params {
                writeln!(out, "            {{{name}}} = {value}")?;
            }
        }
    }
    if let Some((route, _)) = &rehearsal.route {
        writeln!(out, "credential  {}", credential(route, rehearsal))?;
    }
    for step in &rehearsal.steps {
        match &step.outcome {
            Ok(found) => writeln!(out, "  {:<10}{found}", step.what)?,
            Err(refusal) => writeln!(out, "  {:<10}refused: {}", step.what, refusal.word())?,
        }
    }
    for asked in &rehearsal.asked {
        writeln!(out, "guard       {}", guard(asked, rehearsal))?;
    }
    match &rehearsal.decision {
        Err(refusal) => {
            let (status, word) = (refusal.status().as_u16(), refusal.word());
            let text = refusal.text(Language::En);
            writeln!(out, "decision    refused: {status} {word} ({text})")
        }
        Ok(permit) => {
            let asked = |asked: &Asked<'_>| asked.is_for_the_store(permit);
            let condition = match rehearsal.asked.iter().any(asked) {
                true => ", if the store says that what it names is the caller's to name",
                false => "",
            };
            let status = permit.status().word();
            writeln!(out, "decision    passes as {status}{condition}")?;
            writeln!(out, "limits      {}", limits(gate, rehearsal, permit))?;
            print_target(out, rehearsal)
        }
    }
}

fn print_target(out: &mut impl Write, rehearsal: &Rehearsal<'_>) -> io::Result<()> {
    if rehearsal.target.is_empty() {
        return writeln!(out, "answer      by the gateway itself");
    }
    writeln!(out, "upstream    {}", rehearsal.target)?;
    print_headers(out, &rehearsal.sent)?;
    if !rehearsal.removed.is_empty() {
        let names: Vec<&str> = rehearsal.removed.iter().map(|it| it.as_str()).collect();
        writeln!(out, "not sent    {} as it came", names.join(", "))?;
    }
    for capture in rehearsal.captures() {
        writeln!(out, "capture     {}", listened(capture))?;
    }
    Ok(())
}

/// Where it was found, or why there is none.
fn credential(route: &Route, rehearsal: &Rehearsal<'_>) -> &'static str {
    match (&rehearsal.credential, &rehearsal.decision) {
        (Some(credential), _) => credential.place.told(),
        (None, Err(Refusal::CredentialsConflict)) => "two that differ",
        (None, _) if !route.verifies() => "not looked at: the route is public",
        (None, _) => "none",
    }
}

/// What a guard asks for, what the request names there, and what only the store can tell, which is not asked here: it may be
/// in use, or be another one than the gateway's.
fn guard(asked: &Asked<'_>, rehearsal: &Rehearsal<'_>) -> String {
    let guard = asked.guard;
    let kind = guard.kind.word();
    let named = match &asked.named {
        None => format!("{kind} in the body, which is not here"),
        Some(Err(refusal)) => return format!("{kind}: refused: {}", refusal.word()),
        Some(Ok(Named::Nothing)) => return format!("{kind}: none is named"),
        Some(Ok(Named::Names(names))) => {
            let names: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
            format!("{kind} {}", names.join(", "))
        }
    };
    if asked.is_public() {
        return format!("{named}: everybody's");
    }
    let terms = match guard.scope {
        Scope::User => "its owner's alone",
        Scope::Session => "its session's alone",
    };
    let permit = rehearsal.decision.as_ref();
    if permit.is_ok_and(|permit| !asked.is_for_the_store(permit)) {
        return format!("{named}: {terms}, and of roles that the caller has");
    }
    let unknown = match guard.unknown {
        Unknown::Deny => "is refused",
        Unknown::Allow => "passes",
        Unknown::Claim => "becomes the caller's",
    };
    format!(
        "{named}: {terms}; the gateway would ask its store whose it is, and what nobody has {unknown}"
    )
}

/// What an answer is listened to for.
fn listened(capture: &Capture) -> String {
    let from = match capture.from {
        CaptureFrom::Json => "a JSON answer",
        CaptureFrom::Sse => "events",
        CaptureFrom::Websocket => "WebSocket messages",
    };
    let becomes = match capture.claim {
        true => "becomes the caller's",
        false => "is told of, if somebody has it",
    };
    format!("a {} in {from} {becomes}", capture.kind.word())
}

/// Its class and what counts for it; not what was asked before.
fn limits(gate: &Gate, rehearsal: &Rehearsal<'_>, permit: &Permit) -> String {
    let rules = rehearsal.route.as_ref();
    let Some(rules) = rules.and_then(|(route, _)| route.limits.as_ref()) else {
        return "none: not counted here".to_owned();
    };
    match gate.limits().terms(rules, permit.caller()) {
        None => "none: no class takes this caller".to_owned(),
        Some(terms) => terms.to_string(),
    }
}

fn print_headers(out: &mut impl Write, headers: &HeaderMap) -> io::Result<()> {
    for (name, value) in headers {
        // A route with `credentials = "pass"` sends them on; they are not for the terminal.
        let shown = match name.as_str() {
            "authorization" | "cookie" | "token" | "x-session-token" => "***".into(),
            // So is an assertion: it was signed for real.
            _ if value.is_sensitive() => "***".into(),
            _ => String::from_utf8_lossy(value.as_bytes()),
        };
        writeln!(out, "            {name}: {shown}")?;
    }
    Ok(())
}
