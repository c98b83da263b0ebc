//! One token that was refused, remembered: clients try an expired or badly signed one again and again (a phone, an
//! event stream with its token in the URL), and judging it costs four times what telling it no costs.
//!
//! Only what stays true of these very bytes under these keys is kept (`Fault::lasts` says what), and never what newer
//! keys, the store or time might mend. A worker keeps few, and apart from the verified ones (`LocalTokens`), so that
//! garbage pushes out nothing but garbage; and only what came twice, since to keep and to drop each token of a flood costs
//! 0.4 us, a twentieth of what judging it does.

use std::sync::Arc;
use std::time::Instant;

use crate::clock::UnixSeconds;
use crate::identity::cache::Moment;
use crate::identity::sets::Kept;
use crate::refusal::Refusal;
use crate::secret::Secret;

/// One token that was refused.
#[derive(Debug)]
pub(crate) struct Refused {
    /// All of it.
    pub token: Secret<Arc<str>>,
    /// Why.
    pub refusal: Refusal,
    /// The sum of all key generations under which it was.
    pub generation: u64,
    /// When it was, by the wall clock: what has expired is good again where that clock was ahead and is set back.
    pub since: UnixSeconds,
    /// When it is forgotten, by the monotonic clock.
    pub until: Instant,
}

impl Refused {
    /// Whether it would be refused again for the same reason.
    pub(crate) fn holds(&self, moment: Moment, generation: u64) -> bool {
        self.since <= moment.wall && moment.monotonic < self.until && self.generation == generation
    }
}

impl Kept for Refused {
    fn token(&self) -> &str {
        self.token.expose()
    }
}

/// Marks of tokens that were refused, each in the one place that is its own: the last of those that share a place.
#[derive(Debug)]
pub(crate) struct Met(Box<[u64]>);

impl Met {
    pub(crate) fn none() -> Self {
        Self(vec![0; PLACES].into_boxed_slice())
    }

    /// Notes a mark; tells whether it was noted before.
    pub(crate) fn again(&mut self, mark: u64) -> bool {
        let place = &mut self.0[mark as usize % PLACES];
        std::mem::replace(place, mark) == mark
    }
}

/// How many of them a worker keeps, at most.
pub(crate) const MOST: usize = 128;

/// The longest that is kept, in bytes: no worker's refused tokens take more than 256 KiB.
pub(crate) const LONGEST: usize = 2048;

const PLACES: usize = 512;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_refusal_holds_until_a_clock_or_the_keys_say_otherwise() {
        let start = Instant::now();
        let refused = Refused {
            token: Secret::new("t".into()),
            refusal: Refusal::TokenExpired,
            generation: 3,
            since: 1000,
            until: start + Duration::from_secs(60),
        };
        let rows = [
            ("fresh", 1000, 0, 3, true),
            ("later", 1059, 59, 3, true),
            ("too long kept", 1060, 60, 3, false),
            ("the wall clock jumped back", 999, 0, 3, false),
            ("other keys", 1000, 0, 4, false),
        ];
        for (case, wall, seconds, generation, holds) in rows {
            let moment = Moment {
                wall,
                monotonic: start + Duration::from_secs(seconds),
            };
            assert_eq!(refused.holds(moment, generation), holds, "{case}");
        }
    }

    #[test]
    fn a_mark_is_met_again_until_another_takes_its_place() {
        let mut met = Met::none();
        assert!(!met.again(7));
        assert!(met.again(7));
        assert!(!met.again(8));
        assert!(met.again(7));
        assert!(!met.again(7 + PLACES as u64));
        assert!(!met.again(7));
    }

    #[test]
    fn debug_shows_no_token() {
        let refused = Refused {
            token: Secret::new("eyJ.secret".into()),
            refusal: Refusal::TokenExpired,
            generation: 0,
            since: 0,
            until: Instant::now(),
        };
        assert!(!format!("{refused:?}").contains("eyJ"));
    }
}
