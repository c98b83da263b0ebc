//! Reads `[tickets]`: single-use stand-ins for a token in the URL of a stream.

use super::check::seconds;
use super::raw::Table;

/// `[tickets]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "documented in config/portcullis.toml")]
pub struct Tickets {
    /// Whole seconds, at least one.
    pub lifetime: u64,
    pub resume: bool,
    pub per_user: usize,
}

/// `None`: there are none.
pub(super) fn tickets(mut table: Table<'_>) -> Option<Tickets> {
    let enabled = table.flag("enabled").unwrap_or(true);
    let lifetime = table.duration("lifetime").unwrap_or(seconds(30));
    if lifetime.subsec_nanos() > 0 || lifetime > seconds(600) {
        let what = "`lifetime` must be whole seconds, at most \"10m\"";
        table.problem("lifetime", what, "keep it short: \"30s\"");
    }
    let resume = table.flag("resume").unwrap_or(true);
    let per_user = table.integer("per_user", 1..=1000).unwrap_or(20);
    enabled.then_some(Tickets {
        lifetime: lifetime.as_secs(),
        resume,
        per_user,
    })
}
