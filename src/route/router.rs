//! Finds the route of a request: by host (exact, then `*.`, then any), by path (literal before `{name}`
//! before `{*name}`), by method. A tree of hash maps, so that the number of routes costs nothing.
//!
//! Every path is also looked up in the form in which a lenient upstream may read it (`/API/`, `/api;x`,
//! `/api.` for `/api`). Where that leads to another route, the stricter of the two decides.

mod demand;
mod tree;

use rustc_hash::FxHashMap;

use self::demand::{Demand, Demands};
use self::tree::{Hit, Tree};
use crate::config::{self, HostPattern, PathPattern, Segment};
use crate::request::head::Head;
use crate::request::host::after_first_label;
use crate::request::path;

/// All routes, compiled.
#[derive(Debug)]
pub struct Router {
    exact: Views,
    /// As a lenient upstream may read paths; `None` where every pattern reads the same both ways.
    loose: Views,
    /// Some pattern is not in its loose form, so that a path in its loose form may mean it too.
    always_loose: bool,
    demands: Vec<Demand>,
    /// The index of the gateway's own routes begins here: no other reading leads past them, nor to them.
    own: usize,
    names: Vec<Box<[Box<str>]>>,
}

/// The trees of one reading of paths, by host.
#[derive(Debug, Default)]
struct Views {
    hosts: FxHashMap<Box<str>, Tree>,
    suffixes: FxHashMap<Box<str>, Tree>,
    any: Tree,
}

/// A route that matches, and what its parameters stand for.
#[derive(Debug)]
pub struct Match<'a> {
    /// The route's index in the config.
    pub route: usize,
    /// The path's parameters.
    pub params: Params<'a>,
}

/// The parameters of a path, as they stand in it.
#[derive(Clone, Debug)]
pub struct Params<'a> {
    names: &'a [Box<str>],
    values: tree::Values<'a>,
}

/// What is wrong among the routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The route that is at fault, by its name.
    pub route: Box<str>,
    /// The line where it begins.
    pub line: usize,
    /// The other route, where there is one: its name and line.
    pub other: Option<(Box<str>, usize)>,
    /// What is wrong.
    pub what: Box<str>,
    /// How to mend it.
    pub mend: &'static str,
}

impl Conflict {
    /// Line, what is wrong, and how to mend it, as a configuration's problem has them.
    pub fn parts(&self) -> (usize, String, String) {
        let what = format!("[route {:?}] {}", self.route, self.what);
        (self.line, what, self.mend.to_owned())
    }
}

impl Router {
    /// Compiles the routes; the gateway's own come last. They stand before every other of their path, at
    /// every host.
    ///
    /// # Errors
    /// Every pair of routes that matches the same requests, and every route that can never match.
    pub fn build(routes: &[config::Route]) -> Result<Self, Vec<Conflict>> {
        let mut router = Self {
            exact: Views::default(),
            loose: Views::default(),
            always_loose: false,
            demands: Demands::default().of(routes),
            own: routes.iter().take_while(|route| !is_own(route)).count(),
            names: routes.iter().map(|route| names(&route.path)).collect(),
        };
        let mut conflicts = Vec::new();
        for (index, route) in routes.iter().enumerate() {
            conflicts.extend(unreachable(route));
            if is_own(route) {
                conflicts.extend(router.exact.insert_everywhere((index, route), routes));
                continue;
            }
            let tree = router.exact.tree_mut(route.host.as_ref());
            let doubles = tree.insert(&route.path.0, route.methods.as_deref(), index);
            conflicts.extend(
                doubles
                    .into_iter()
                    .map(|other| double(route, &routes[other])),
            );
            let loose = loosen(&route.path);
            router.always_loose |= loose != route.path.0;
            let tree = router.loose.tree_mut(route.host.as_ref());
            let demands = &router.demands;
            tree.insert_strictest(&loose, route.methods.as_deref(), index, &|one, other| {
                demands[one].rank() < demands[other].rank()
            });
        }
        match conflicts.is_empty() {
            true => Ok(router),
            false => Err(conflicts),
        }
    }

    /// The route of a request. `None` where no route matches, and where two readings of the path lead to
    /// routes whose demands cannot be compared.
    pub fn find<'a>(&'a self, head: &'a Head) -> Option<Match<'a>> {
        let hit = self.exact.find(head, head.path())?;
        let hit = match head.loose_path() {
            _ if hit.route >= self.own => hit,
            None if !self.always_loose => hit,
            loose => self.stricter(hit, self.loose.find(head, loose.unwrap_or(head.path())))?,
        };
        Some(Match {
            route: hit.route,
            params: Params {
                names: &self.names[hit.route],
                values: hit.values,
            },
        })
    }

    /// The one whose demands are higher; none where they differ and neither is higher.
    fn stricter<'a>(&self, exact: Hit<'a>, loose: Option<Hit<'a>>) -> Option<Hit<'a>> {
        let Some(loose) = loose.filter(|loose| loose.route != exact.route) else {
            return Some(exact);
        };
        let (one, other) = (&self.demands[exact.route], &self.demands[loose.route]);
        if one.is_guarded() || other.is_guarded() {
            return None;
        }
        match one.rank().cmp(&other.rank()) {
            std::cmp::Ordering::Less => Some(loose),
            std::cmp::Ordering::Greater => Some(exact),
            std::cmp::Ordering::Equal => one.asks_the_same(other).then_some(exact),
        }
    }
}

impl Views {
    fn tree_mut(&mut self, host: Option<&HostPattern>) -> &mut Tree {
        match host {
            None => &mut self.any,
            Some(HostPattern::Exact(name)) => self.hosts.entry(name.clone()).or_default(),
            Some(HostPattern::Suffix(name)) => self.suffixes.entry(name.clone()).or_default(),
        }
    }

    /// Adds one of the gateway's own routes to its host, or to every host: those included that have routes of
    /// their own, which would hide it.
    fn insert_everywhere(
        &mut self,
        (index, route): (usize, &config::Route),
        routes: &[config::Route],
    ) -> Vec<Conflict> {
        if let Some(host) = &route.host {
            self.tree_mut(Some(host));
        }
        let wanted = |exact: Option<&str>, suffix: Option<&str>| match &route.host {
            None => true,
            Some(HostPattern::Exact(name)) => exact == Some(name),
            Some(HostPattern::Suffix(name)) => {
                suffix == Some(name) || exact.and_then(after_first_label) == Some(name)
            }
        };
        let hosts = self.hosts.iter_mut();
        let hosts = hosts.filter(|(name, _)| wanted(Some(name), None));
        let suffixes = self.suffixes.iter_mut();
        let suffixes = suffixes.filter(|(name, _)| wanted(None, Some(name)));
        let any = wanted(None, None).then_some(&mut self.any);
        let trees = hosts.map(|(_, tree)| tree);
        trees
            .chain(suffixes.map(|(_, tree)| tree))
            .chain(any)
            .flat_map(|tree| tree.insert(&route.path.0, None, index))
            .map(|other| double(&routes[other], route))
            .collect()
    }

    /// By the nearest host that has a route for this path and method.
    fn find<'a>(&self, head: &Head, path: &'a str) -> Option<Hit<'a>> {
        let name = head.host().name();
        let exact = || self.hosts.get(name)?.find(path, head);
        let suffix = || {
            self.suffixes
                .get(after_first_label(name)?)?
                .find(path, head)
        };
        let named = match (self.hosts.is_empty(), self.suffixes.is_empty()) {
            (true, true) => None,
            (false, true) => exact(),
            _ => exact().or_else(suffix),
        };
        named.or_else(|| self.any.find(path, head))
    }
}

impl<'a> Params<'a> {
    /// The parameter's text as it stands in the path: escapes are not decoded.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        let at = self.names.iter().position(|known| **known == *name)?;
        self.values.get(at)
    }

    /// The parameter's value, decoded once; `None` also where that is no text.
    pub fn decoded(&self, name: &str) -> Option<std::borrow::Cow<'a, str>> {
        path::percent_decode(self.get(name)?)
    }

    /// Names and texts, in the order of the path.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let named = self.names.iter().enumerate();
        named.filter_map(|(at, name)| Some((&**name, self.values.get(at)?)))
    }
}

fn is_own(route: &config::Route) -> bool {
    matches!(
        route.target,
        config::Target::Own(_) | config::Target::Api(_)
    )
}

/// The names of a pattern's parameters, in their order.
fn names(pattern: &PathPattern) -> Box<[Box<str>]> {
    let name = |segment: &Segment| match segment {
        Segment::Literal(_) => None,
        Segment::One(name) | Segment::Rest(name) => Some(name.clone()),
    };
    pattern.0.iter().filter_map(name).collect()
}

/// The pattern as it is in the loose tree: what `path::loosen` does to paths.
fn loosen(pattern: &PathPattern) -> Vec<Segment> {
    let segments = pattern.0.iter().filter_map(|segment| match segment {
        Segment::Literal(text) => {
            let text = format!("/{text}");
            let loose = path::loosen(&text).unwrap_or(text.into());
            (loose.len() > 1).then(|| Segment::Literal(loose[1..].into()))
        }
        parameter => Some(parameter.clone()),
    });
    let mut segments: Vec<_> = segments.collect();
    if segments.is_empty() {
        segments.push(Segment::Literal("".into()));
    }
    segments
}

/// Two routes that match the same requests.
fn double(route: &config::Route, other: &config::Route) -> Conflict {
    Conflict {
        route: (*route.name).into(),
        line: route.line,
        other: Some(((*other.name).into(), other.line)),
        what: format!(
            "matches requests that route {:?} (line {}) matches too: same host, path and method",
            other.name, other.line
        )
        .into(),
        mend: "give one of them another path, other methods or another host",
    }
}

/// Why a route can never match, where it cannot: its path is not one that a request can have.
fn unreachable(route: &config::Route) -> Option<Conflict> {
    let segments: Vec<&str> = route
        .path
        .0
        .iter()
        .map(|segment| match segment {
            Segment::Literal(text) => text,
            Segment::One(_) | Segment::Rest(_) => "x",
        })
        .collect();
    let sample = format!("/{}", segments.join("/"));
    let reachable = path::normalize(&sample).is_ok_and(|normal| *normal == *sample);
    (!reachable).then(|| Conflict {
        route: (*route.name).into(),
        line: route.line,
        other: None,
        what: "can never match: requests with such a path are refused or rewritten before".into(),
        mend: "write the path in its normal form, with no empty and no dot segments",
    })
}

#[cfg(test)]
mod tests;
