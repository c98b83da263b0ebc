//! `portcullis schema`: prints the JSON Schema of the configuration, for editors.

use std::process::ExitCode;

use crate::config;

/// Prints the JSON Schema of the configuration file, for editors.
#[derive(Debug, clap::Args)]
pub struct Schema {}

/// Prints the schema.
pub fn run(_args: Schema) -> anyhow::Result<ExitCode> {
    super::say(format!("{:#}\n", config::schema()))?;
    Ok(ExitCode::SUCCESS)
}
