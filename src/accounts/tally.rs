//! How many log-ins went how, for the metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::AccountError;
use crate::observe::metrics::{Metrics, Registration};
use crate::records::Api;

/// Counts log-ins by API and result, and refresh tokens that came again.
pub(super) struct Tally {
    counts: Vec<(Api, &'static str, Arc<AtomicU64>)>,
    thefts: Vec<(Api, Arc<AtomicU64>)>,
    _shown: Vec<Registration>,
}

impl Tally {
    /// All at zero, and shown at each scrape.
    pub(super) fn new(metrics: &Metrics) -> Self {
        let apis = [Api::App, Api::Session, Api::Token, Api::Supabase];
        let places = apis
            .into_iter()
            .flat_map(|api| RESULTS.into_iter().map(move |result| (api, result)));
        let mut counts = Vec::new();
        let mut shown = Vec::new();
        for (api, result) in places {
            let count = Arc::new(AtomicU64::new(0));
            let read = Arc::clone(&count);
            shown.push(metrics.counter(
                "portcullis_logins",
                "Log-ins by API and result",
                &[("api", api.word()), ("result", result)],
                move || read.load(Ordering::Relaxed) as f64,
            ));
            counts.push((api, result, count));
        }
        let mut thefts = Vec::new();
        for api in [Api::Token, Api::Supabase] {
            let count = Arc::new(AtomicU64::new(0));
            let read = Arc::clone(&count);
            shown.push(metrics.counter(
                "portcullis_refresh_reuses",
                "Sessions that ended because a spent refresh token came again, by API",
                &[("api", api.word())],
                move || read.load(Ordering::Relaxed) as f64,
            ));
            thefts.push((api, count));
        }
        Self {
            counts,
            thefts,
            _shown: shown,
        }
    }

    /// A spent refresh token came again.
    pub(super) fn count_theft(&self, api: Api) {
        if let Some((_, count)) = self.thefts.iter().find(|(known, _)| *known == api) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A log-in is over. Answers the word of its result.
    pub(super) fn count<T>(&self, api: Api, outcome: &Result<T, AccountError>) -> &'static str {
        let word = outcome.as_ref().map_or_else(AccountError::word, |_| OK);
        let result = RESULTS.into_iter().find(|known| *known == word);
        let result = result.unwrap_or(OTHER);
        let found = self
            .counts
            .iter()
            .find(|(known, its, _)| *known == api && *its == result);
        if let Some((_, _, count)) = found {
            count.fetch_add(1, Ordering::Relaxed);
        }
        word
    }
}

/// The word of what went well.
pub(super) const OK: &str = "ok";
const OTHER: &str = "other";
const RESULTS: [&str; 9] = [
    OK,
    "invalid_credentials",
    "too_many",
    "busy",
    "user_disabled",
    "user_banned",
    "email_not_confirmed",
    "unavailable",
    OTHER,
];
