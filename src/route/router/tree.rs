//! The tree of path segments. Backtracks from a literal to a parameter, never deeper than its patterns are.

use http::Method;
use rustc_hash::FxHashMap;

use crate::config::Segment;
use crate::request::head::Head;

/// The patterns of one host.
#[derive(Debug, Default)]
pub(super) struct Tree {
    root: Node,
}

/// Everything below one segment.
#[derive(Debug, Default)]
struct Node {
    literals: FxHashMap<Box<str>, Node>,
    one: Option<Box<Node>>,
    /// Routes whose pattern ends here with `{*name}`.
    rest: Leaf,
    /// Routes whose pattern ends here.
    end: Leaf,
}

/// The routes of one pattern, by method.
#[derive(Debug, Default)]
struct Leaf {
    methods: Vec<(Method, usize)>,
    any: Option<usize>,
}

/// A route, and what its parameters stand for.
#[derive(Debug)]
pub(super) struct Hit<'a> {
    pub(super) route: usize,
    pub(super) values: Values<'a>,
}

/// The texts of the parameters; the first four need no allocation.
#[derive(Clone, Debug, Default)]
pub(super) struct Values<'a> {
    first: [&'a str; 4],
    len: usize,
    more: Vec<&'a str>,
}

impl Tree {
    /// Adds a route; tells which routes have its pattern and one of its methods already.
    pub(super) fn insert(
        &mut self,
        pattern: &[Segment],
        methods: Option<&[Method]>,
        route: usize,
    ) -> Vec<usize> {
        self.root.leaf(pattern).insert(methods, route)
    }

    /// Adds a route; where another has its pattern and method already, the stricter one stays.
    /// `is_laxer(a, b)`: whether `a` asks less than `b`.
    pub(super) fn insert_strictest(
        &mut self,
        pattern: &[Segment],
        methods: Option<&[Method]>,
        route: usize,
        is_laxer: &dyn Fn(usize, usize) -> bool,
    ) {
        let leaf = self.root.leaf(pattern);
        leaf.insert_strictest(methods, route, is_laxer);
    }

    /// The route of `path`, which begins with a slash.
    pub(super) fn find<'a>(&self, path: &'a str, head: &Head) -> Option<Hit<'a>> {
        let mut values = Values::default();
        let route = self.root.find(path.strip_prefix('/')?, head, &mut values)?;
        Some(Hit { route, values })
    }
}

impl Node {
    fn leaf(&mut self, pattern: &[Segment]) -> &mut Leaf {
        match pattern.split_first() {
            None => &mut self.end,
            Some((Segment::Literal(text), below)) => {
                self.literals.entry(text.clone()).or_default().leaf(below)
            }
            Some((Segment::One(_), below)) => self.one.get_or_insert_default().leaf(below),
            Some((Segment::Rest(_), _)) => &mut self.rest,
        }
    }

    /// `rest` is the path from this node's next segment on.
    fn find<'a>(&self, rest: &'a str, head: &Head, values: &mut Values<'a>) -> Option<usize> {
        let (segment, below) = match memchr::memchr(b'/', rest.as_bytes()) {
            Some(at) => (&rest[..at], Some(&rest[at + 1..])),
            None => (rest, None),
        };
        let descend = |node: &Self, values: &mut Values<'a>| match below {
            Some(below) => node.find(below, head, values),
            None => node.end.find(head),
        };
        if let Some(node) = self.literals.get(segment)
            && let Some(route) = descend(node, values)
        {
            return Some(route);
        }
        let before = values.len;
        // A segment is something; what is left of a path may be nothing.
        if let Some(node) = self.one.as_ref().filter(|_| !segment.is_empty()) {
            values.push(segment);
            if let Some(route) = descend(node, values) {
                return Some(route);
            }
            values.cut(before);
        }
        let route = self.rest.find(head)?;
        values.push(rest);
        Some(route)
    }
}

impl Leaf {
    fn insert(&mut self, methods: Option<&[Method]>, route: usize) -> Vec<usize> {
        let Some(methods) = methods else {
            return self.any.replace(route).into_iter().collect();
        };
        let mut doubles: Vec<usize> = Vec::new();
        for method in methods {
            let known = self.methods.iter().find(|(known, _)| known == method);
            doubles.extend(
                known
                    .map(|(_, route)| *route)
                    .filter(|known| *known != route),
            );
            self.methods.push((method.clone(), route));
        }
        doubles.dedup();
        doubles
    }

    fn insert_strictest(
        &mut self,
        methods: Option<&[Method]>,
        route: usize,
        is_laxer: &dyn Fn(usize, usize) -> bool,
    ) {
        let Some(methods) = methods else {
            if self.any.is_none_or(|known| is_laxer(known, route)) {
                self.any = Some(route);
            }
            return;
        };
        for method in methods {
            match self.methods.iter_mut().find(|(known, _)| known == method) {
                Some((_, known)) if is_laxer(*known, route) => *known = route,
                Some(_) => {}
                None => self.methods.push((method.clone(), route)),
            }
        }
    }

    /// By the request's method; `HEAD` also as `GET`, a CORS preflight also as the method that it asks for.
    fn find(&self, head: &Head) -> Option<usize> {
        if self.methods.is_empty() {
            return self.any;
        }
        let listed = |method: &Method| {
            let known = self.methods.iter().find(|(known, _)| known == method);
            known.map(|(_, route)| *route)
        };
        let stands_for = match *head.method() {
            Method::HEAD => Some(&Method::GET),
            _ => head.preflight(),
        };
        listed(head.method())
            .or_else(|| stands_for.and_then(listed))
            .or(self.any)
    }
}

impl<'a> Values<'a> {
    pub(super) fn get(&self, at: usize) -> Option<&'a str> {
        match at {
            _ if at >= self.len => None,
            0..4 => Some(self.first[at]),
            _ => self.more.get(at - 4).copied(),
        }
    }

    fn push(&mut self, value: &'a str) {
        match self.len {
            0..4 => self.first[self.len] = value,
            _ => self.more.push(value),
        }
        self.len += 1;
    }

    fn cut(&mut self, len: usize) {
        self.len = len;
        self.more.truncate(len.saturating_sub(4));
    }
}
