//! `portcullis probe`: one GET, success by the status. For health checks in images that hold nothing else.

use std::process::ExitCode;
use std::time::Duration;

/// `portcullis probe`
#[derive(clap::Args)]
pub struct Probe {
    /// What to ask.
    #[arg(default_value = "http://127.0.0.1:9901/readyz")]
    url: String,
}

/// Asks, and says no more than the exit code.
///
/// # Errors
/// When nobody answers within five seconds.
pub fn run(args: Probe) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let status = runtime.block_on(async {
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(5))
            .build()?;
        client
            .get(&args.url)
            .send()
            .await
            .map(|answer| answer.status())
    })?;
    Ok(if status.is_success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
