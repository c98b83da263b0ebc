//! How Redis is: asked every second on the control thread, told to the readiness board, the log and the metrics.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Away, Redis};
use crate::observe::readiness::Reporter;

impl Redis {
    /// Whether it answered when it was last asked.
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// Asks it every second, until the process ends.
    pub async fn watch(self: Arc<Self>, board: Reporter) {
        // Neither up nor down was told yet.
        let mut told = None;
        loop {
            let answer = self.ping().await;
            self.up.store(answer.is_ok(), Ordering::Relaxed);
            match answer {
                Ok(()) => board.ready(),
                Err(away) => board.not_ready(away.to_string()),
            }
            if told != Some(answer) {
                match (told, answer) {
                    (None, Ok(())) => tracing::info!("Redis is there"),
                    (Some(_), Ok(())) => tracing::info!("Redis is there again"),
                    (_, Err(error)) => {
                        let cause = self.dial.cause().map(tracing::field::display);
                        tracing::error!(%error, cause, "Redis is away");
                    }
                }
                told = Some(answer);
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Whether it takes a write: one that only reads is of no use.
    async fn ping(&self) -> Result<(), Away> {
        self.set("alive", b"1", EVERY).await
    }
}

const EVERY: Duration = Duration::from_secs(1);
