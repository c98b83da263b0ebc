//! A preflight asks for leave before any credential, so nobody can tell whose the thing is that it names. It goes on for a
//! name that is nobody's, of the same shape: so what an upstream answers it tells nothing of what there is, and where it
//! answers by pattern, as nearly all do, browsers are answered as ever.

use http::Uri;
use http::uri::PathAndQuery;

use crate::config::{self, GuardPlace, Segment};
use crate::refusal::Refusal;

/// Where a route's guards read names out of its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Veil(Box<[Covered]>);

/// What happens to one segment of a route's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Covered {
    No,
    One,
    /// And all behind it.
    Rest,
}

impl Veil {
    /// `None`: nothing is guarded.
    pub(super) fn build(route: &config::Route) -> Option<Self> {
        let is_named = |name: &str| {
            let names = route.guards.iter().filter_map(|guard| match &guard.place {
                GuardPlace::Path(names) => Some(names),
                GuardPlace::Query(_) | GuardPlace::Body(..) => None,
            });
            names.flatten().any(|known| **known == *name)
        };
        let covered = |segment: &Segment| match segment {
            Segment::One(name) if is_named(name) => Covered::One,
            Segment::Rest(name) if is_named(name) => Covered::Rest,
            Segment::Literal(_) | Segment::One(_) | Segment::Rest(_) => Covered::No,
        };
        let segments = route.path.0.iter().map(covered);
        (!route.guards.is_empty()).then(|| Self(segments.collect()))
    }

    /// The target without what it names. The query goes as a whole: a browser is given leave for none of it.
    ///
    /// # Errors
    /// When what is left is no target.
    pub(super) fn over(&self, uri: &Uri) -> Result<Uri, Refusal> {
        let mut path = String::with_capacity(uri.path().len());
        let segments = uri.path().split('/').skip(1);
        let last = self.0.last().copied().filter(|it| *it == Covered::Rest);
        let covered = self.0.iter().copied();
        let covered = covered.chain(std::iter::repeat(last.unwrap_or(Covered::No)));
        for (segment, covered) in segments.zip(covered) {
            path.push('/');
            match covered {
                Covered::No => path.push_str(segment),
                Covered::One | Covered::Rest => push_shape(&mut path, segment),
            }
        }
        let target = PathAndQuery::try_from(path).map_err(|_| Refusal::RequestMalformed)?;
        Ok(Uri::from(target))
    }
}

/// Writes a segment with 0 for everything but what parts numbers, UUIDs and file names, so that upstreams which look
/// at the shape of an id still know it.
fn push_shape(path: &mut String, segment: &str) {
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'-' | b'.' | b'_' => path.push(char::from(byte)),
            b'%' => {
                rest.nth(1);
                path.push('0');
            }
            _ => path.push('0'),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::capture::tests::route;

    /// What a preflight for `target` goes on as, on a route with these lines in a `[[route.guard]]` each.
    fn over(path: &str, guards: &[&str], target: &str) -> String {
        let guards = guards
            .iter()
            .map(|lines| format!("[[route.guard]]\n{lines}\n"));
        let veil = Veil::build(&route(path, &guards.collect::<String>())).unwrap();
        veil.over(&target.parse().unwrap()).unwrap().to_string()
    }

    #[test]
    fn names_are_covered_and_nothing_else() {
        let (job, file) = ("path = [\"job_id\"]", "query = [\"filename\"]");
        for (path, guards, target, expected) in [
            (
                "/api/status/{job_id}",
                &[job][..],
                "/api/status/a1",
                "/api/status/00",
            ),
            (
                "/{v}/jobs/{job_id}/pick",
                &[job],
                "/v1/jobs/7/pick",
                "/v1/jobs/0/pick",
            ),
            (
                "/jobs/{job_id}",
                &[job],
                "/jobs/3f2504e0-4f89-41d3-9a0c-0305e82c3301",
                "/jobs/00000000-0000-0000-0000-000000000000",
            ),
            (
                "/jobs/{job_id}",
                &[job],
                "/jobs/%C3%BC;a=%2F1?x=1",
                "/jobs/0000000",
            ),
            (
                "/file=/{*path}",
                &["path = [\"path\"]"],
                "/file=/tmp/a_1/b.png",
                "/file=/000/0_0/0.000",
            ),
            (
                "/files/{*rest}",
                &[file],
                "/files/a/b?filename=c",
                "/files/a/b",
            ),
            ("/view", &[file], "/view?filename=a&x=1", "/view"),
            ("/", &[file], "/?filename=a", "/"),
            ("/view/", &[file, "body = [\"/a\"]"], "/view/", "/view/"),
            (
                "/{run}/{job_id}",
                &[job, "path = [\"run\"]\nkind = \"client\""],
                "/r/j.k",
                "/0/0.0",
            ),
        ] {
            assert_eq!(over(path, guards, target), expected, "{target}");
        }
    }
}
