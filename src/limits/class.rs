//! Which class a caller is in, and the figures of a route for it. Pure.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use http::HeaderValue;

use crate::config::{self, Bucket, Callers, LimitClass, LimitFigures, RedisAway, StreamsExceeded};
use crate::identity::{Caller, Identity};
use crate::lasting;
use crate::policy::holds;

/// A route's limits, compiled: what counts for each class.
#[derive(Clone, Debug)]
pub struct Rules {
    /// In the order of the classes.
    figures: Box<[Terms]>,
    /// The name of its bucket; empty: the one that all routes share.
    pub bucket: Arc<str>,
    /// Whether each of its requests opens a stream.
    pub opens_stream: bool,
}

/// What counts for a class on a route.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The class's name.
    pub class: Arc<str>,
    /// How much.
    pub figures: LimitFigures,
    /// What becomes of a stream too many.
    pub streams_exceeded: StreamsExceeded,
    /// What becomes of its requests while Redis is away.
    pub redis_away: RedisAway,
    /// `RateLimit-Policy`.
    pub policy: HeaderValue,
}

impl Rules {
    /// Those of a route; `None`: it is not limited.
    pub fn build(route: &config::Route, limits: &config::Limits) -> Option<Self> {
        if !limits.enabled || !route.limits.enabled {
            return None;
        }
        let terms = limits.classes.iter().map(|class| {
            let figures = route.limits.changes.to(class.figures);
            Terms {
                class: Arc::clone(&class.name),
                figures,
                streams_exceeded: class.streams_exceeded,
                redis_away: class.redis_away,
                policy: policy(&class.name, &figures),
            }
        });
        Some(Self {
            figures: terms.collect(),
            bucket: match route.limits.bucket {
                Bucket::Shared => "".into(),
                Bucket::Own => Arc::clone(&route.name),
            },
            opens_stream: route.limits.opens_stream,
        })
    }

    /// What counts for the class at this index.
    pub fn terms(&self, class: usize) -> &Terms {
        &self.figures[class]
    }
}

/// For `explain`: `class team: 50 at once, then one every 20ms; 10 streams; 1000 a day`.
impl fmt::Display for Terms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "class {}: ", self.class)?;
        let LimitFigures {
            rate,
            streams,
            daily,
        } = self.figures;
        match rate {
            Some(rate) => write!(
                f,
                "{} at once, then one every {:?}",
                rate.burst, rate.interval
            )?,
            None => f.write_str("any rate")?,
        }
        if let Some(streams) = streams {
            write!(f, "; {streams} streams")?;
        }
        match daily {
            Some(daily) => write!(f, "; {daily} a day"),
            None => Ok(()),
        }
    }
}

/// The first class that takes a caller; `None`: it is not limited.
pub fn find(classes: &[LimitClass], caller: &Caller) -> Option<usize> {
    classes.iter().position(|class| takes(class, caller))
}

fn takes(class: &LimitClass, caller: &Caller) -> bool {
    match caller {
        Caller::Guest | Caller::Unverified(..) => {
            let plain = class.roles.is_empty() && class.require.is_empty();
            class.callers.guests && plain
        }
        Caller::Known(identity) => is_of(class.callers, identity) && meets(class, identity),
    }
}

fn is_of(callers: Callers, identity: &Identity) -> bool {
    match identity.anonymous {
        true => callers.anonymous,
        false => callers.users,
    }
}

fn meets(class: &LimitClass, identity: &Identity) -> bool {
    let has = |role| identity.roles.contains(role);
    (class.roles.is_empty() || class.roles.iter().any(has))
        && class
            .require
            .iter()
            .all(|condition| holds(condition, identity))
}

/// The policies of a class (draft-ietf-httpapi-ratelimit-headers, section 3): `"team";q=50;w=1`.
fn policy(class: &str, figures: &LimitFigures) -> HeaderValue {
    let mut text = String::new();
    let mut push = |item: std::fmt::Arguments<'_>| {
        let comma = if text.is_empty() { "" } else { ", " };
        // Writing to a String can not fail.
        let _ = write!(text, "{comma}{item}");
    };
    if let Some(rate) = figures.rate {
        let window = (rate.interval * rate.burst).as_secs_f64().ceil().max(1.0);
        push(format_args!("\"{class}\";q={};w={window}", rate.burst));
    }
    if let Some(daily) = figures.daily {
        push(format_args!("\"{class}-daily\";q={daily};w=86400"));
    }
    if let Some(streams) = figures.streams {
        let unit = "concurrent-requests";
        push(format_args!(
            "\"{class}-streams\";q={streams};qu=\"{unit}\""
        ));
    }
    // A class's name is plain, so that it always fits.
    HeaderValue::from_str(&text).map_or(HeaderValue::from_static(""), |policy| {
        lasting::value(&policy)
    })
}

#[cfg(test)]
mod tests;
