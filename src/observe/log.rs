//! Log events: JSON or human, to stderr, through a writer thread of their own.

use std::io::{self, IsTerminal};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer as Formatted;
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use super::text;
use super::writer::{Flush, Writer};
use crate::clock::Clock;

/// `[log] format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Human on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// One JSON object a line.
    Json,
    /// For eyes.
    Human,
}

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// No thread for the writer.
    #[error("the log's writer thread cannot be started: {0}")]
    Thread(#[from] io::Error),
    /// Something else in this process took the log before.
    #[error("the log was set up before: {0}")]
    Taken(#[from] TryInitError),
}

impl Format {
    /// `Auto` resolved for a sink: human on a terminal, JSON elsewhere.
    #[must_use]
    pub fn resolve(self, sink: &impl IsTerminal) -> Self {
        match self {
            Self::Auto if sink.is_terminal() => Self::Human,
            Self::Auto => Self::Json,
            chosen => chosen,
        }
    }
}

/// Starts the log of the process, on stderr. Keep the guard until the end: dropping it writes what is left.
///
/// Libraries are heard from `warn` upwards only, whatever the level: hyper and h2 print whole header blocks,
/// tokens included, at `debug` and `trace`.
pub fn start(format: Format, level: LevelFilter) -> Result<Flush, LogError> {
    let (writer, flush) = Writer::start("portcullis-log", io::stderr())?;
    let events = tracing_subscriber::fmt::layer()
        .with_writer(move || writer.clone())
        .with_timer(Stamp);
    let events = match format.resolve(&io::stderr()) {
        Format::Human => events
            .with_ansi(io::stderr().is_terminal())
            .with_target(false)
            .boxed(),
        Format::Json | Format::Auto => events
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .boxed(),
    };
    tracing_subscriber::registry()
        .with(events.with_filter(filter(level)))
        .try_init()?;
    Ok(flush)
}

fn filter(level: LevelFilter) -> Targets {
    Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target("portcullis", level)
}

/// The time of an event, in the form of the access lines.
struct Stamp;

impl FormatTime for Stamp {
    fn format_time(&self, out: &mut Formatted<'_>) -> std::fmt::Result {
        let mut time = String::with_capacity(24);
        text::push_time(&mut time, Clock::System.since_epoch());
        out.write_str(&time)
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn libraries_are_never_heard_below_warn() {
        let filter = filter(LevelFilter::TRACE);
        assert!(filter.would_enable("portcullis::gate", &Level::TRACE));
        assert!(filter.would_enable("hyper", &Level::WARN));
        assert!(!filter.would_enable("h2::codec", &Level::DEBUG));
        assert!(!filter.would_enable("hyper", &Level::INFO));
    }

    #[test]
    fn a_level_above_warn_holds_for_libraries_too() {
        let filter = filter(LevelFilter::ERROR);
        assert!(!filter.would_enable("hyper", &Level::WARN));
        assert!(!filter.would_enable("portcullis", &Level::WARN));
    }
}
