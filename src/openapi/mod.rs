//! Calls of the gateway's own APIs, as rows of tables: method, path, what a call takes, what it answers. The
//! faces hold the tables; dispatch (`find`) and the OpenAPI document (`document.rs`) are made from them, so that
//! neither can say what the other does not do.

pub mod document;

use http::{HeaderValue, Method};
use schemars::{JsonSchema, Schema, SchemaGenerator};

/// A type's JSON Schema.
pub type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// The schema of `T`.
pub const fn schema<T: JsonSchema>() -> SchemaOf {
    |generator| generator.subschema_for::<T>()
}

/// A call. `O` is what its face knows it by.
#[derive(Clone, Debug)]
pub struct Row<O: 'static> {
    /// Which of the face's functions answers.
    pub op: O,
    /// `GET` answers `HEAD` too.
    pub method: Method,
    /// Below the mount; `{name}` is one segment.
    pub path: &'static str,
    /// One line for the document.
    pub summary: &'static str,
    /// Who may call.
    pub who: Who,
    /// Its body.
    pub takes: Takes,
    /// Its parameters: those of the path all, of the query and the headers as many as there are.
    pub params: &'static [Param],
    /// What it answers where it did what was asked.
    pub answers: &'static [Answer],
    /// Statuses of its own failures. Those that any call may have are added: see [`Row::failures`].
    pub fails: &'static [u16],
}

/// Who may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// Whoever can reach it; a credential makes no difference, or the call judges it itself.
    Anybody,
    /// The holder of a good credential; others get 401.
    Holder,
}

/// What body a call takes.
#[derive(Clone, Copy, Debug)]
pub enum Takes {
    /// None; one that comes is not read.
    Nothing,
    /// A JSON object.
    Json(SchemaOf),
    /// A JSON object, or nothing, which is an empty one.
    JsonOrNothing(SchemaOf),
    /// A JSON object, or the same members as a form.
    JsonOrForm(SchemaOf),
}

/// A parameter.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Param {
    pub place: ParamPlace,
    pub name: &'static str,
    pub what: &'static str,
    pub schema: SchemaOf,
}

/// Where a parameter stands. Those of a path are always there, the others may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum ParamPlace {
    Path,
    Query,
    Header,
}

/// What a call answers with one status.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// One line for the document.
    pub what: &'static str,
    /// Its JSON; `None`: no body.
    pub body: Option<SchemaOf>,
}

/// What is found of a request in a table.
#[derive(Debug)]
pub enum Found<'t, 'p, O: 'static> {
    /// This call, with the segments that its parameters stand for, in their order, as they came.
    Call(&'t Row<O>, Vec<&'p str>),
    /// `OPTIONS`: what may be asked here.
    Options(Allow),
    /// A call, but not with this method.
    Method(Allow),
    /// No call.
    Nothing,
}

/// The value of `Allow`: the methods of one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allow(HeaderValue);

impl Allow {
    /// The header's value.
    pub fn value(&self) -> HeaderValue {
        self.0.clone()
    }
}

/// Finds the call of a method and a path, which is what stands below the mount. Of two patterns the one with
/// more literal segments wins, whatever its methods are.
pub fn find<'t, 'p, O>(rows: &'t [Row<O>], method: &Method, path: &'p str) -> Found<'t, 'p, O> {
    let Some(pattern) = rows
        .iter()
        .filter(|row| matched(row.path, path).is_some())
        .map(|row| row.path)
        .min_by_key(|pattern| pattern.matches('{').count())
    else {
        return Found::Nothing;
    };
    let here = || rows.iter().filter(|row| row.path == pattern);
    let wanted = match *method {
        Method::HEAD => &Method::GET,
        _ => method,
    };
    match here().find(|row| row.method == *wanted) {
        Some(row) => Found::Call(row, matched(row.path, path).unwrap_or_default()),
        None if *method == Method::OPTIONS => Found::Options(allow(here())),
        None => Found::Method(allow(here())),
    }
}

/// The segments that stand where the pattern has parameters.
fn matched<'p>(pattern: &str, path: &'p str) -> Option<Vec<&'p str>> {
    let mut values = Vec::new();
    let (mut patterns, mut segments) = (pattern.split('/'), path.split('/'));
    loop {
        match (patterns.next(), segments.next()) {
            (None, None) => return Some(values),
            (Some(pattern), Some(segment)) if pattern.starts_with('{') && !segment.is_empty() => {
                values.push(segment);
            }
            (Some(pattern), Some(segment)) if pattern == segment => {}
            _ => return None,
        }
    }
}

fn allow<'t, O: 'static>(rows: impl Iterator<Item = &'t Row<O>>) -> Allow {
    let mut text = String::new();
    for row in rows {
        text.push_str(row.method.as_str());
        text.push_str(match row.method {
            Method::GET => ", HEAD, ",
            _ => ", ",
        });
    }
    text.push_str("OPTIONS");
    // Method names are tokens.
    Allow(HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("OPTIONS")))
}

impl<O> Row<O> {
    /// Every status of a failure: its own, and those that any such call may have.
    pub fn failures(&self) -> Vec<u16> {
        let body: &[u16] = match self.takes {
            Takes::Nothing => &[],
            _ => &[408, 413, 415],
        };
        let credential: &[u16] = match self.who {
            Who::Anybody => &[],
            Who::Holder => &[401],
        };
        // 400: two credentials. 431: too many of other headers. 503: the store, or the gateway is ending.
        let mut all = [self.fails, body, credential, &[400, 429, 431, 500, 503]].concat();
        all.sort_unstable();
        all.dedup();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(op: u8, method: Method, path: &'static str) -> Row<u8> {
        Row {
            op,
            method,
            path,
            summary: "",
            who: Who::Anybody,
            takes: Takes::Nothing,
            params: &[],
            answers: &[],
            fails: &[],
        }
    }

    fn told(found: &Found<'_, '_, u8>) -> String {
        match found {
            Found::Call(row, values) => format!("{} {values:?}", row.op),
            Found::Options(allow) => format!("options {:?}", allow.value()),
            Found::Method(allow) => format!("allow {:?}", allow.value()),
            Found::Nothing => "nothing".to_owned(),
        }
    }

    #[test]
    fn a_call_is_found_by_method_and_path() {
        let rows = [
            row(1, Method::GET, ""),
            row(2, Method::POST, "/new"),
            row(3, Method::GET, "/{id}"),
            row(4, Method::DELETE, "/{id}"),
            row(5, Method::GET, "/{id}/of/{other}"),
        ];
        for (method, path, expected) in [
            (Method::GET, "", "1 []"),
            (Method::HEAD, "", "1 []"),
            (Method::POST, "/new", "2 []"),
            (Method::GET, "/new", r#"allow "POST, OPTIONS""#),
            (Method::GET, "/7", r#"3 ["7"]"#),
            (Method::HEAD, "/7", r#"3 ["7"]"#),
            (Method::DELETE, "/7", r#"4 ["7"]"#),
            (Method::GET, "/7/of/8", r#"5 ["7", "8"]"#),
            (Method::PUT, "/7", r#"allow "GET, HEAD, DELETE, OPTIONS""#),
            (
                Method::OPTIONS,
                "/7",
                r#"options "GET, HEAD, DELETE, OPTIONS""#,
            ),
            (Method::GET, "/", "nothing"),
            (Method::GET, "/7/", "nothing"),
            (Method::GET, "/7/of", "nothing"),
            (
                Method::POST,
                "/New",
                r#"allow "GET, HEAD, DELETE, OPTIONS""#,
            ),
        ] {
            assert_eq!(
                told(&find(&rows, &method, path)),
                expected,
                "{method} {path}"
            );
        }
    }
}
