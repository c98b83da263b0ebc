//! How much a route asks of a caller, so that two routes can be compared.

use crate::config::{self, Auth, Condition, OnInvalid};

/// What one route asks.
#[derive(Debug)]
pub(super) struct Demand {
    rank: Rank,
    /// Routes with the same number ask for the same roles, conditions and issuers.
    kind: usize,
    /// It is asked whose something is by what stands in its path.
    guarded: bool,
}

/// From the laxest to the strictest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    Public,
    Guests,
    GuestsUnlessInvalid,
    AnyUser,
    SomeUsers,
}

impl Demand {
    pub(super) fn rank(&self) -> Rank {
        self.rank
    }

    /// Whether another reading of a path must not lead here, nor away: what it names would be read so too.
    pub(super) fn is_guarded(&self) -> bool {
        self.guarded
    }

    pub(super) fn asks_the_same(&self, other: &Self) -> bool {
        self.rank == other.rank && (self.rank == Rank::Public || self.kind == other.kind)
    }
}

/// The kinds of demands that were met so far.
#[derive(Default)]
pub(super) struct Demands<'r> {
    kinds: Vec<Terms<'r>>,
}

/// Roles, conditions, issuers and guards.
type Terms<'r> = (
    &'r [Box<str>],
    &'r [Condition],
    Option<&'r [usize]>,
    &'r [config::Guard],
);

impl<'r> Demands<'r> {
    /// The demand of each route.
    pub(super) fn of(mut self, routes: &'r [config::Route]) -> Vec<Demand> {
        let demand = |route: &'r config::Route| {
            let terms: Terms<'r> = (
                &route.roles,
                &route.require,
                route.issuers.as_deref(),
                &route.guards,
            );
            let limited = !route.roles.is_empty() || !route.require.is_empty() || terms.2.is_some();
            Demand {
                rank: rank(route, limited),
                kind: self.kind(terms),
                guarded: !route.guards.is_empty(),
            }
        };
        routes.iter().map(demand).collect()
    }

    fn kind(&mut self, terms: Terms<'r>) -> usize {
        let known = self.kinds.iter().position(|known| *known == terms);
        known.unwrap_or_else(|| {
            self.kinds.push(terms);
            self.kinds.len() - 1
        })
    }
}

fn rank(route: &config::Route, limited: bool) -> Rank {
    match (route.auth, route.on_invalid) {
        (Auth::Public, _) => Rank::Public,
        (Auth::Optional, OnInvalid::Guest | OnInvalid::Face) => Rank::Guests,
        (Auth::Optional, OnInvalid::Reject) => Rank::GuestsUnlessInvalid,
        (Auth::Required, _) if limited => Rank::SomeUsers,
        (Auth::Required, _) => Rank::AnyUser,
    }
}
