//! The meters of all callers, in shards; a lock is held for one look into a map. Bounded: what was idle longest is
//! forgotten first, and never what is in use. Outlives every configuration, so that a reload gives nobody anything.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::limits::figures::Refused;
use crate::limits::meter::{Meter, Moment};

/// Whose meter it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject<'s> {
    /// A user, by its issuer's name and `sub`.
    User(&'s str, &'s str),
    /// Whoever comes from an address; `None`: through a unix socket.
    Address(Option<IpAddr>),
}

/// All meters of the process.
#[derive(Debug)]
pub struct Meters {
    shards: Box<[Mutex<Halves>]>,
    hashers: [RandomState; 2],
    begun: Instant,
    capacity: AtomicUsize,
    /// Decisions that were made here since Redis was away.
    alone: AtomicU64,
    /// By the names of classes.
    refused: Mutex<BTreeMap<Box<str>, Arc<Refused>>>,
}

/// Meters by their marks, in two halves: what is used moves to the younger, and the older one is dropped when the
/// younger is full.
#[derive(Debug, Default)]
struct Halves {
    young: Map,
    old: Map,
    /// Meters of the older half that could not be dropped, since they are in use.
    carried: usize,
}

/// A mark is as good as random already.
type Map = HashMap<u128, Arc<Meter>, BuildHasherDefault<Low>>;

impl Default for Meters {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hashers: [RandomState::new(), RandomState::new()],
            begun: Instant::now(),
            capacity: AtomicUsize::new(usize::MAX),
            alone: AtomicU64::new(0),
            refused: Mutex::default(),
        }
    }
}

impl Meters {
    /// From now on so many are remembered.
    pub fn hold(&self, capacity: usize) {
        self.capacity.store(capacity, Ordering::Relaxed);
    }

    /// A time of the monotonic clock as meters count it.
    pub fn nanos(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.begun).as_nanos();
        u64::try_from(since).unwrap_or(u64::MAX)
    }

    /// This gateway decides alone once more.
    pub(super) fn alone(&self) {
        self.alone.fetch_add(1, Ordering::Relaxed);
    }

    /// How often it did.
    pub(super) fn times_alone(&self) -> u64 {
        self.alone.load(Ordering::Relaxed)
    }

    /// The refusals of a class.
    pub(super) fn refused(&self, class: &str) -> Arc<Refused> {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(refused.entry(class.into()).or_default())
    }

    /// The meter of `subject` in the bucket of this name; a new one where there is none. `now` is asked where some must
    /// be forgotten.
    pub fn obtain(
        &self,
        subject: Subject<'_>,
        bucket: &str,
        now: impl FnOnce() -> Moment,
    ) -> Arc<Meter> {
        let mark = self.mark(subject, bucket);
        let half = self.capacity.load(Ordering::Relaxed) / SHARDS / 2;
        let shard = &self.shards[(mark >> 64) as usize % SHARDS];
        lock(shard).obtain(mark, half.max(1), now)
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        let sizes = self.shards.iter().map(|shard| {
            let shard = lock(shard);
            shard.young.len() + shard.old.len()
        });
        sizes.sum()
    }

    /// Whether nobody is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Two hashes whose keys nobody knows: no caller can choose to have another's meter, and no name is kept.
    fn mark(&self, subject: Subject<'_>, bucket: &str) -> u128 {
        let [high, low] = self.hashers.each_ref().map(|hasher| {
            let mut hasher = hasher.build_hasher();
            match subject {
                Subject::User(issuer, user) => {
                    hasher.write_u8(1);
                    write_text(&mut hasher, issuer);
                    write_text(&mut hasher, user);
                }
                Subject::Address(Some(address)) => {
                    hasher.write_u8(2);
                    hasher.write_u128(network(address));
                }
                Subject::Address(None) => hasher.write_u8(3),
            }
            write_text(&mut hasher, bucket);
            hasher.finish()
        });
        (u128::from(high) << 64) | u128::from(low)
    }
}

/// No two texts run into each other.
fn write_text(hasher: &mut impl Hasher, text: &str) {
    hasher.write_usize(text.len());
    hasher.write(text.as_bytes());
}

/// What one client holds: an IPv4 address, or the /64 of an IPv6 address, within which a host may choose any.
pub fn network(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(address) => Ipv6Addr::to_bits(address.to_ipv6_mapped()),
        IpAddr::V6(address) => address.to_bits() >> 64 << 64,
    }
}

impl Halves {
    fn obtain(&mut self, mark: u128, half: usize, now: impl FnOnce() -> Moment) -> Arc<Meter> {
        if let Some(meter) = self.young.get(&mark) {
            return Arc::clone(meter);
        }
        let meter = self.old.remove(&mark).unwrap_or_default();
        if self.young.len() >= half + self.carried {
            self.turn(now());
        }
        self.young.insert(mark, Arc::clone(&meter));
        meter
    }

    /// Drops the older half. What somebody holds (a verified token, a stream) goes on: another meter in its place
    /// would count anew.
    fn turn(&mut self, now: Moment) {
        let old = std::mem::replace(&mut self.old, std::mem::take(&mut self.young));
        // What says nothing need not be kept either.
        self.old
            .retain(|_, meter| is_held(meter) || !meter.is_blank(now));
        let held = old.into_iter().filter(|(_, meter)| is_held(meter));
        self.young = held.collect();
        self.carried = self.young.len();
    }
}

fn is_held(meter: &Arc<Meter>) -> bool {
    Arc::strong_count(meter) > 1 || meter.has_streams()
}

/// A hash of what is one: its lower half.
#[derive(Debug, Default)]
struct Low(u64);

impl Hasher for Low {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {}

    #[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
    fn write_u128(&mut self, mark: u128) {
        self.0 = mark as u64;
    }
}

fn lock(shard: &Mutex<Halves>) -> MutexGuard<'_, Halves> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

const SHARDS: usize = 64;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::LimitFigures;

    fn now() -> Moment {
        Moment {
            nanos: 1,
            day: 1,
            day_left: Duration::from_secs(1),
        }
    }

    fn same(one: Subject<'_>, other: Subject<'_>) -> bool {
        let meters = Meters::default();
        let (one, other) = (meters.obtain(one, "", now), meters.obtain(other, "", now));
        Arc::ptr_eq(&one, &other)
    }

    #[test]
    fn each_subject_has_a_meter_of_its_own() {
        let user = |issuer, user| Subject::User(issuer, user);
        assert!(same(user("i", "u"), user("i", "u")));
        assert!(!same(user("i", "u"), user("i", "v")));
        assert!(!same(user("i", "u"), user("j", "u")));
        assert!(!same(user("ab", "c"), user("a", "bc")));
        let at = |text: &str| Subject::Address(Some(text.parse().unwrap()));
        for (one, other, expected) in [
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", true),
            ("2001:db8:0:1::1", "2001:db8:0:2::1", false),
        ] {
            assert_eq!(same(at(one), at(other)), expected, "{one} {other}");
        }
        assert!(!same(Subject::Address(None), at("::1")));
        let meters = Meters::default();
        let one = meters.obtain(user("i", "u"), "", now);
        let other = meters.obtain(user("i", "u"), "route", now);
        assert!(!Arc::ptr_eq(&one, &other));
    }

    #[test]
    fn what_was_idle_longest_is_forgotten_and_what_is_held_never() {
        let meters = Meters::default();
        meters.hold(2000);
        let figures = LimitFigures {
            daily: Some(10),
            ..LimitFigures::default()
        };
        let held = meters.obtain(Subject::User("i", "held"), "", now);
        for number in 0..20_000 {
            let user = number.to_string();
            let meter = meters.obtain(Subject::User("i", &user), "", now);
            meter.take(&figures, now()).unwrap();
            if number % 10 == 0 {
                let used = meters.obtain(Subject::User("i", "used"), "", now);
                used.take(&LimitFigures::default(), now()).unwrap();
            }
        }
        assert!(meters.len() < 2200, "{}", meters.len());
        let again = meters.obtain(Subject::User("i", "held"), "", now);
        assert!(Arc::ptr_eq(&held, &again));
        let forgotten = meters.obtain(Subject::User("i", "0"), "", now);
        assert!(forgotten.is_blank(now()));
        let late = meters.obtain(Subject::User("i", "19999"), "", now);
        assert!(!late.is_blank(now()));
    }

    #[test]
    fn meters_in_use_beyond_the_bound_are_all_kept() {
        let meters = Meters::default();
        meters.hold(1000);
        let name = |number: u32| number.to_string();
        let obtain = |number| meters.obtain(Subject::User("i", &name(number)), "", now);
        let held: Vec<_> = (0..5000).map(obtain).collect();
        for (number, meter) in (0..).zip(&held) {
            assert!(Arc::ptr_eq(meter, &obtain(number)), "{number}");
        }
    }
}
