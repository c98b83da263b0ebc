//! `portcullis store`: the database brought forward, and copied while it is in use.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use super::opened::{Opened, Place};

/// Look after the database of users, sessions and keys.
#[derive(clap::Args)]
pub struct Store {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    call: Call,
}

#[derive(clap::Subcommand)]
enum Call {
    /// Write a whole copy to a file that does not exist yet, while gateways go on (SQLite).
    Backup {
        /// The copy. It holds password hashes; without the accounts' secret its keys open nothing.
        file: PathBuf,
    },
    /// Make the store, or bring it to the form of this version, as every start does.
    Migrate,
}

/// Runs `portcullis store …`.
///
/// # Errors
/// When the store cannot be opened, or the copy not be written.
pub fn run(args: Store) -> anyhow::Result<ExitCode> {
    let call = args.call;
    args.place.run(async |opened| {
        match call {
            Call::Backup { file } => back_up(opened, &file).await?,
            Call::Migrate => migrate(opened).await?,
        }
        Ok(ExitCode::SUCCESS)
    })
}

async fn back_up(opened: &Opened, file: &std::path::Path) -> anyhow::Result<()> {
    opened.store.back_up(file).await?;
    let bytes = std::fs::metadata(file)?.len();
    let path = file.display().to_string();
    opened.print(&json!({ "file": path, "bytes": bytes }), || {
        format!("wrote {path} ({bytes} bytes)")
    })
}

async fn migrate(opened: &Opened) -> anyhow::Result<()> {
    // Opening it has done it.
    opened.store.ping().await?;
    let engine = opened.store.engine();
    opened.print(&json!({ "engine": engine, "ok": true }), || {
        format!("the store ({engine}) has the form of this version")
    })
}
