//! Log events: JSON or human, to stderr, through a writer thread of their own.

use std::io::{self, IsTerminal};

use tracing::Subscriber;
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
    subscriber(format.resolve(&io::stderr()), level, writer).try_init()?;
    Ok(flush)
}

/// What hears the events; a `Human` format is coloured where stderr is a terminal.
fn subscriber(format: Format, level: LevelFilter, writer: Writer) -> impl Subscriber + Send + Sync {
    let events = tracing_subscriber::fmt::layer()
        .with_writer(move || writer.clone())
        .with_timer(Stamp);
    let events = match format {
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
    tracing_subscriber::registry().with(events.with_filter(filter(level)))
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

    use super::super::writer::tests::Memory;
    use super::*;

    #[test]
    fn an_event_is_one_line_whatever_it_holds() {
        for format in [Format::Json, Format::Human] {
            let memory = Memory::default();
            let (writer, flush) =
                Writer::start("test-log", memory.clone()).expect("a thread starts");
            let subscriber = subscriber(format, LevelFilter::INFO, writer);
            tracing::subscriber::with_default(subscriber, || {
                tracing::warn!(host = "a\r\n\u{1b}[2Jb", "the upstream is away");
                tracing::debug!("not heard");
            });
            drop(flush);
            let text = memory.text();
            assert_eq!(text.lines().count(), 1, "{text:?}");
            assert!(!text.contains(['\r', '\u{1b}']), "{text:?}");
            assert!(text.contains("the upstream is away"), "{text}");
            if format == Format::Json {
                let event: serde_json::Value = serde_json::from_str(&text).expect("valid JSON");
                assert_eq!(event["level"], "WARN");
                assert!(
                    event["timestamp"]
                        .as_str()
                        .is_some_and(|time| time.ends_with('Z'))
                );
            }
        }
    }

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
