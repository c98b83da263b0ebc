//! What a client is told of its limits, in an answer's head: `RateLimit` and `RateLimit-Policy`
//! (draft-ietf-httpapi-ratelimit-headers), and the three fields of the older drafts that many clients read.

use std::fmt::Write as _;
use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::limits::class::Terms;
use crate::limits::meter::{Exceeded, Limit, Moment, Spent};

/// What an answer tells.
#[derive(Clone, Debug)]
pub struct Told {
    policy: HeaderValue,
    state: HeaderValue,
    limit: u64,
    remaining: u64,
    reset: u64,
    /// Seconds, of a refusal.
    retry_after: Option<u64>,
}

/// One limit as it stands.
struct Standing {
    limit: u64,
    remaining: u64,
    /// Until there is more; `None`: nobody knows.
    reset: Option<Duration>,
}

impl Told {
    /// Of a request that was let in.
    pub fn passed(terms: &Terms, spent: Spent, now: Moment) -> Option<Self> {
        let which = match terms.figures.rate {
            Some(_) => Limit::Rate,
            None => Limit::Daily,
        };
        Self::of(terms, spent, (which, now.day_left))
    }

    /// Of one that was not.
    pub fn refused(terms: &Terms, exceeded: &Exceeded, now: Moment) -> Option<Self> {
        let told = Self::of(terms, exceeded.spent, (exceeded.limit, now.day_left))?;
        let wait = seconds(exceeded.wait);
        Some(Self {
            reset: wait,
            retry_after: Some(wait),
            ..told
        })
    }

    fn of(terms: &Terms, spent: Spent, (which, day_left): (Limit, Duration)) -> Option<Self> {
        let mut state = String::new();
        let mut first = None;
        for (limit, suffix) in [
            (Limit::Rate, ""),
            (Limit::Daily, "-daily"),
            (Limit::Streams, "-streams"),
        ] {
            // How many streams there are is not known of every request.
            if limit == Limit::Streams && which != limit {
                continue;
            }
            let Some(standing) = standing(limit, terms, (spent, day_left)) else {
                continue;
            };
            let comma = if state.is_empty() { "" } else { ", " };
            // Writing to a String can not fail.
            let (class, remaining) = (&terms.class, standing.remaining);
            let _ = write!(state, "{comma}\"{class}{suffix}\";r={remaining}");
            if let Some(reset) = standing.reset {
                let _ = write!(state, ";t={}", seconds(reset));
            }
            if limit == which {
                first = Some(standing);
            }
        }
        let first = first?;
        Some(Self {
            policy: terms.policy.clone(),
            state: HeaderValue::from_str(&state).ok()?,
            limit: first.limit,
            remaining: first.remaining,
            reset: first.reset.map_or(0, seconds),
            retry_after: None,
        })
    }

    /// Seconds after which a refused client may try again.
    pub fn retry_after(&self) -> Option<u64> {
        self.retry_after
    }

    /// Tells it. What the upstream says of limits of its own gives way.
    pub fn put(self, status: StatusCode, headers: &mut HeaderMap) {
        headers.insert(RATE_LIMIT_POLICY, self.policy);
        headers.insert(RATE_LIMIT, self.state);
        headers.insert(RATE_LIMIT_LIMIT, self.limit.into());
        headers.insert(RATE_LIMIT_REMAINING, self.remaining.into());
        headers.insert(RATE_LIMIT_RESET, self.reset.into());
        if let Some(after) = self.retry_after
            && status == StatusCode::TOO_MANY_REQUESTS
        {
            headers.insert(RETRY_AFTER, after.into());
        }
    }
}

fn standing(limit: Limit, terms: &Terms, (spent, day_left): (Spent, Duration)) -> Option<Standing> {
    let figures = &terms.figures;
    Some(match limit {
        Limit::Rate => {
            let rate = figures.rate?;
            let free = (rate.interval * rate.burst).saturating_sub(spent.ahead);
            let remaining = free.as_nanos() / rate.interval.as_nanos().max(1);
            Standing {
                limit: u64::from(rate.burst),
                remaining: u64::try_from(remaining).unwrap_or(u64::MAX),
                reset: Some(spent.ahead),
            }
        }
        Limit::Daily => {
            let daily = figures.daily?;
            Standing {
                limit: daily,
                remaining: daily.saturating_sub(spent.today),
                reset: Some(day_left),
            }
        }
        Limit::Streams => {
            let streams = u64::from(figures.streams?);
            Standing {
                limit: streams,
                remaining: streams.saturating_sub(u64::from(spent.streams)),
                reset: None,
            }
        }
    })
}

/// Whole seconds, rounded up: who comes back then does not come too early.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATE_LIMIT_LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const RATE_LIMIT_REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RATE_LIMIT_RESET: HeaderName = HeaderName::from_static("ratelimit-reset");
