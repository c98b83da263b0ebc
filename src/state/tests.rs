use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;

fn user(number: u8) -> UserId {
    UserId(Uuid::from_bytes([number; 16]))
}

fn session(number: u8) -> SessionId {
    SessionId(Uuid::from_bytes([number; 16]))
}

fn standing(revocations: &Revocations, (who, of, token): (u8, u8, Option<i64>)) -> Standing {
    Standing::new(user(who), session(of), token, revocations.version())
}

#[test]
fn each_end_ends_what_it_names_and_nothing_else() {
    let things = [(1, 1, None), (1, 2, Some(7)), (1, 2, Some(8)), (2, 3, None)];
    let rows = [
        (Ended::Session(session(1)), [false, true, true, true]),
        (Ended::Session(session(2)), [true, false, false, true]),
        (Ended::User(user(1)), [false, false, false, true]),
        (
            Ended::UserExceptSession(user(1), session(1)),
            [true, false, false, true],
        ),
        (
            Ended::UserExceptToken(user(1), 8),
            [false, false, true, true],
        ),
        (Ended::Token(7), [true, false, true, true]),
        (Ended::Session(session(9)), [true; 4]),
    ];
    for (ended, holds) in rows {
        let revocations = Revocations::new();
        let standings = things.map(|thing| standing(&revocations, thing));
        revocations.end(ended);
        let held = standings.each_ref().map(|it| revocations.holds(it));
        assert_eq!(held, holds, "{ended:?}");
        // What was verified afterwards is good: a log-in right after a log-out everywhere.
        for thing in things {
            assert!(revocations.holds(&standing(&revocations, thing)));
        }
    }
}

#[test]
fn what_was_spared_once_ends_by_the_next_that_does_not_spare_it() {
    let revocations = Revocations::new();
    let (one, two) = (
        standing(&revocations, (1, 1, None)),
        standing(&revocations, (1, 2, None)),
    );
    revocations.end(Ended::UserExceptSession(user(1), session(1)));
    revocations.end(Ended::UserExceptSession(user(1), session(2)));
    assert!(!revocations.holds(&one) && !revocations.holds(&two));
}

#[test]
fn an_end_does_not_come_undone_by_looking() {
    let revocations = Revocations::new();
    let ended = standing(&revocations, (1, 1, None));
    revocations.end(Ended::Session(session(1)));
    for other in 2..5 {
        assert!(!revocations.holds(&ended));
        revocations.end(Ended::Session(session(other)));
    }
}

#[test]
fn what_was_checked_before_a_dropped_end_must_be_asked_of_the_store() {
    let revocations = Revocations::new();
    let (ended, other) = (
        standing(&revocations, (1, 1, None)),
        standing(&revocations, (2, 2, None)),
    );
    let used = standing(&revocations, (3, 3, None));
    revocations.end(Ended::User(user(1)));
    assert!(revocations.holds(&used));
    revocations.prune(Duration::ZERO);
    assert!(!revocations.holds(&ended) && !revocations.holds(&other));
    assert!(revocations.holds(&used));
    // A stream that lives heard of what ended; one that would begin did not.
    assert!(!revocations.has_ended(&other));
    assert_eq!(revocations.meanwhile(&other), Effect::Doubt);
    revocations.recheck(user(1));
    revocations.prune(Duration::ZERO);
    assert!(revocations.read().users.is_empty());
}

#[test]
fn the_register_is_bounded() {
    let revocations = Revocations::new();
    let first = standing(&revocations, (1, 1, None));
    for number in 0..=MOST as i64 {
        revocations.end(Ended::Token(number));
    }
    for token in 0..100 {
        revocations.end(Ended::UserExceptToken(user(2), token));
    }
    let register = revocations.read();
    assert_eq!(register.order.len(), MOST);
    assert!(register.tokens.len() <= MOST);
    assert_eq!(register.users[&user(2)].except.len(), MOST_OF_USER);
    drop(register);
    assert!(!revocations.holds(&first));
}

#[test]
fn listeners_hear_of_each_end_and_tell_what_was_verified_afterwards() {
    let revocations = Revocations::new();
    let before = standing(&revocations, (1, 1, None));
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hears = heard.clone();
    revocations.subscribe(move |notice: &Notice| hears.lock().unwrap().push(*notice));
    revocations.end(Ended::User(user(1)));
    let after = standing(&revocations, (1, 1, None));
    revocations.recheck(user(1));
    let heard = heard.lock().unwrap();
    let effects = |standing| [0, 1].map(|at: usize| heard[at].effect(standing));
    assert_eq!(heard.len(), 2);
    assert_eq!(effects(&before), [Effect::End, Effect::Doubt]);
    assert_eq!(effects(&after), [Effect::None, Effect::Doubt]);
    // Not ended, and yet the store is to be asked what the user is like now.
    assert!(!revocations.holds(&after));
    assert!(!revocations.has_ended(&after) && revocations.has_ended(&before));
    assert_eq!(revocations.meanwhile(&after), Effect::Doubt);
    assert_eq!(revocations.meanwhile(&before), Effect::End);
}

#[test]
fn what_another_process_tells_late_ends_for_sure_only_what_cannot_live_again() {
    let revocations = Revocations::new();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hears = heard.clone();
    revocations.subscribe(move |notice: &Notice| hears.lock().unwrap().push(*notice));
    for (ended, effect) in [
        (Ended::User(user(1)), Effect::Doubt),
        (Ended::UserExceptSession(user(1), session(2)), Effect::Doubt),
        (Ended::UserExceptToken(user(1), 7), Effect::Doubt),
        (Ended::Session(session(1)), Effect::End),
        (Ended::Token(3), Effect::End),
        (Ended::User(user(2)), Effect::None),
    ] {
        let standing = standing(&revocations, (1, 1, Some(3)));
        revocations.hear(News::Ended(ended));
        let notice = heard.lock().unwrap().pop().unwrap();
        assert_eq!(notice.effect(&standing), effect, "{ended:?}");
        assert_eq!(revocations.meanwhile(&standing), effect, "{ended:?}");
        // Whatever it is, the store is asked before what is remembered counts again.
        assert_eq!(revocations.holds(&standing), effect == Effect::None);
    }
}

/// A store whose sessions are of an era: the end of an era is written first, and told then.
#[derive(Default)]
struct Eras {
    revocations: Revocations,
    stored: AtomicU64,
    told: AtomicU64,
    over: AtomicBool,
}

impl Eras {
    fn end(&self) {
        let era = self.stored.fetch_add(1, Ordering::SeqCst) + 1;
        self.revocations.end(Ended::User(user(1)));
        self.told.store(era, Ordering::SeqCst);
    }

    /// As a verifier does: the version, then the store.
    fn verify(&self) -> (Standing, u64) {
        let standing = standing(&self.revocations, (1, 1, None));
        (standing, self.stored.load(Ordering::SeqCst))
    }

    fn watch(&self) -> usize {
        let mut held = 0;
        while !self.over.load(Ordering::SeqCst) {
            let told = self.told.load(Ordering::SeqCst);
            let (standing, era) = self.verify();
            for _ in 0..4 {
                let ended = self.told.load(Ordering::SeqCst) > era;
                let holds = self.revocations.holds(&standing);
                assert!(!(ended && holds), "it outlived its end");
                if era == told && !holds {
                    let now = self.stored.load(Ordering::SeqCst);
                    assert!(now > era, "it was refused though nothing ended");
                }
                held += usize::from(holds);
            }
        }
        held
    }
}

#[test]
fn nothing_verified_before_an_end_survives_it_and_what_was_verified_after_lives() {
    let eras = Eras::default();
    std::thread::scope(|scope| {
        let watchers: Vec<_> = (0..3).map(|_| scope.spawn(|| eras.watch())).collect();
        for _ in 0..20_000 {
            eras.end();
            if eras.stored.load(Ordering::SeqCst).is_multiple_of(64) {
                eras.revocations.prune(Duration::ZERO);
                std::thread::yield_now();
            }
        }
        eras.over.store(true, Ordering::SeqCst);
        for watcher in watchers {
            watcher.join().unwrap();
        }
    });
}

#[derive(Clone, Debug)]
enum Step {
    Verify((u8, u8, Option<i64>)),
    End(Ended),
    Use(usize),
    Prune,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let ended = prop_oneof![
        (0..6_u8).prop_map(|it| Ended::Session(session(it))),
        (0..3_u8).prop_map(|it| Ended::User(user(it))),
        (0..3_u8, 0..6_u8).prop_map(|(who, it)| Ended::UserExceptSession(user(who), session(it))),
        (0..3_u8, 0..6_i64).prop_map(|(who, it)| Ended::UserExceptToken(user(who), it)),
        (0..6_i64).prop_map(Ended::Token),
    ];
    let thing = (0..3_u8, 0..2_u8, proptest::option::of(0..6_i64))
        .prop_map(|(who, of, token)| Step::Verify((who, who * 2 + of, token)));
    let step = prop_oneof![
        4 => thing,
        4 => ended.prop_map(Step::End),
        4 => (0..20_usize).prop_map(Step::Use),
        1 => Just(Step::Prune),
    ];
    proptest::collection::vec(step, 0..60)
}

proptest! {
    #[test]
    fn it_agrees_with_a_list_of_everything_that_ended(steps in steps()) {
        let revocations = Revocations::new();
        let mut made: Vec<(Standing, bool)> = Vec::new();
        let mut pruned = false;
        for step in steps {
            match step {
                Step::Verify(thing) => made.push((standing(&revocations, thing), true)),
                Step::Use(at) => {
                    if let Some((standing, _)) = made.get(at) {
                        revocations.holds(standing);
                    }
                }
                Step::Prune => {
                    revocations.prune(Duration::ZERO);
                    pruned = true;
                }
                Step::End(ended) => {
                    revocations.end(ended);
                    for (standing, good) in &mut made {
                        *good &= !ended.covers(standing);
                    }
                }
            }
            for (standing, good) in &made {
                let holds = revocations.holds(&standing.clone());
                prop_assert!(*good || !holds);
                prop_assert!(pruned || *good == holds);
            }
        }
    }
}

#[test]
fn after_a_gap_all_that_was_checked_before_is_unknown_and_nothing_has_ended() {
    let revocations = Revocations::new();
    let before = standing(&revocations, (1, 1, None));
    revocations.forget();
    assert!(!revocations.holds(&before));
    assert!(!revocations.has_ended(&before));
    assert_eq!(revocations.meanwhile(&before), Effect::Doubt);
    assert!(revocations.holds(&standing(&revocations, (1, 1, None))));
    // Dropping what was told earlier brings nothing back.
    revocations.end(Ended::Token(1));
    revocations.prune(Duration::ZERO);
    assert!(!revocations.holds(&before));
}

#[test]
fn while_others_may_end_things_unheard_nothing_that_is_remembered_counts() {
    let revocations = Revocations::new();
    let known = standing(&revocations, (1, 1, None));
    revocations.trust().depend();
    assert!(!revocations.holds(&known));
    // A stream begins on what was asked just now.
    assert_eq!(revocations.meanwhile(&known), Effect::None);
    revocations
        .trust()
        .extend(Instant::now(), Duration::from_secs(60));
    assert!(revocations.holds(&known));
}
