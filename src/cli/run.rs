//! `portcullis run`: the gateway, until SIGTERM or SIGINT.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use crate::observe::log;
use crate::server::{Running, Source, reload};

/// `portcullis run`
#[derive(clap::Args)]
pub struct Run {
    /// The configuration; otherwise $PORTCULLIS_CONFIG, otherwise ./portcullis.toml.
    #[arg(long, short)]
    config: Option<PathBuf>,
}

/// Runs the gateway.
///
/// # Errors
/// When it cannot start.
pub fn run(args: Run) -> anyhow::Result<ExitCode> {
    let source = Source::File(super::check::config_path(args.config));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .context("the runtime could not be made")?;
    runtime.block_on(serve(source))
}

async fn serve(source: Source) -> anyhow::Result<ExitCode> {
    let settings = source.read()?;
    let _flush = log::start(settings.log.format, settings.log.level)?;
    reload::tell_warnings(&settings);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let (sink, _lines) = crate::observe::access::Sink::start(std::io::stdout())?;
    let running = Running::start(source, sink).await?;
    announce(&running)?;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => reload::reload_and_tell(running.station()),
        }
    }
    tracing::info!("draining");
    tokio::select! {
        () = running.stop() => {}
        // Asked twice, it goes at once.
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// The addresses on standard output, one a line, so that whoever started it with port 0 learns them.
fn announce(running: &Running) -> std::io::Result<()> {
    for address in &running.public {
        super::say(format!("portcullis listening on {address}\n"))?;
    }
    match running.admin {
        Some(address) => super::say(format!("portcullis admin on http://{address}\n")),
        None => Ok(()),
    }
}
