//! The file's text as a tree of values that know their lines, with `${ENV}` replaced. Replacing happens
//! after TOML was parsed, so that a value from the environment cannot bring TOML of its own.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::Report;

/// The environment that `${NAME}` is looked up in.
pub(super) type Environment<'e> = &'e dyn Fn(&str) -> Option<String>;

/// A value and where it stands.
#[derive(Debug)]
pub(super) struct Node {
    /// The line of its key.
    pub(super) line: usize,
    /// The offset of its key: the order of the file, which a map of nodes does not keep.
    pub(super) offset: usize,
    pub(super) value: Value,
}

/// A TOML value.
#[derive(Debug)]
pub(super) enum Value {
    Text(Text),
    Integer(i64),
    Float(f64),
    Flag(bool),
    Date,
    List(Vec<Node>),
    Table(Tree),
    /// Already reported; whoever reads it keeps quiet.
    Broken,
}

/// The members of a table.
pub(super) type Tree = BTreeMap<String, Node>;

/// A string.
#[derive(Debug)]
pub(super) struct Text {
    /// With the environment's values in it.
    pub(super) value: String,
    /// As it stands in the file: what a problem may show, since the environment holds secrets.
    pub(super) written: String,
}

impl Value {
    /// What it is, for a problem: "an integer".
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a number with a fraction",
            Self::Flag(_) => "true or false",
            Self::Date => "a date",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
            Self::Broken => "unreadable",
        }
    }
}

/// Reads `text` as TOML. Syntax errors and missing variables go to `report`.
pub(super) fn read(text: &str, environment: Environment<'_>, report: &Report) -> Option<Tree> {
    let reader = Reader {
        lines: std::iter::once(0)
            .chain(memchr::memchr_iter(b'\n', text.as_bytes()).map(|at| at + 1))
            .collect(),
        environment,
        report,
    };
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let line = error.span().map_or(0, |span| reader.line(span.start));
        report.problem(line, format!("not TOML: {}", error.message()), "");
    }
    errors.is_empty().then(|| reader.tree(table.into_inner()))
}

struct Reader<'r> {
    /// Where each line begins.
    lines: Vec<usize>,
    environment: Environment<'r>,
    report: &'r Report,
}

impl Reader<'_> {
    fn line(&self, offset: usize) -> usize {
        self.lines.partition_point(|begin| *begin <= offset)
    }

    fn tree(&self, table: DeTable<'_>) -> Tree {
        table
            .into_iter()
            .map(|(key, value)| {
                let node = self.node(key.span().start, value.into_inner());
                (key.into_inner().into_owned(), node)
            })
            .collect()
    }

    fn node(&self, offset: usize, value: DeValue<'_>) -> Node {
        let line = self.line(offset);
        Node {
            line,
            offset,
            value: self.value(value, line),
        }
    }

    fn value(&self, value: DeValue<'_>, line: usize) -> Value {
        match value {
            DeValue::String(text) => self.text(&text, line),
            DeValue::Integer(integer) => {
                match i64::from_str_radix(integer.as_str(), integer.radix()) {
                    Ok(integer) => Value::Integer(integer),
                    Err(_) => self.broken(
                        line,
                        "an integer is too large",
                        "write at most 9223372036854775807",
                    ),
                }
            }
            DeValue::Float(float) => match float.as_str().parse() {
                Ok(float) => Value::Float(float),
                Err(_) => self.broken(line, "a number cannot be read", ""),
            },
            DeValue::Boolean(flag) => Value::Flag(flag),
            DeValue::Datetime(_) => Value::Date,
            DeValue::Array(list) => Value::List(
                list.into_iter()
                    .map(|value: Spanned<_>| self.node(value.span().start, value.into_inner()))
                    .collect(),
            ),
            DeValue::Table(table) => Value::Table(self.tree(table)),
        }
    }

    fn broken(&self, line: usize, what: &str, mend: &str) -> Value {
        self.report.problem(line, what, mend);
        Value::Broken
    }

    fn text(&self, written: &str, line: usize) -> Value {
        match substitute(written, self.environment) {
            Ok(value) => Value::Text(Text {
                value,
                written: written.to_owned(),
            }),
            Err(Unresolved::Missing(name)) => {
                self.report.problem(
                    line,
                    format!("the environment has no {name}"),
                    format!("set {name}, or write $${{ for a literal ${{"),
                );
                Value::Broken
            }
            Err(Unresolved::Malformed) => {
                self.report.problem(
                    line,
                    "a ${ is not followed by a variable's name and }",
                    "write ${NAME}, or $${ for a literal ${",
                );
                Value::Broken
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Unresolved {
    Missing(String),
    Malformed,
}

/// `text` with each `${NAME}` replaced once, and `$${` made `${`.
fn substitute(text: &str, environment: Environment<'_>) -> Result<String, Unresolved> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            out.push_str(&rest[..at - 1]);
            out.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        out.push_str(&rest[..at]);
        let (name, after) = rest[at + 2..]
            .split_once('}')
            .ok_or(Unresolved::Malformed)?;
        if !is_name(name) {
            return Err(Unresolved::Malformed);
        }
        let value = environment(name).ok_or_else(|| Unresolved::Missing(name.to_owned()))?;
        out.push_str(&value);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

fn is_name(name: &str) -> bool {
    !name.starts_with(|first: char| first.is_ascii_digit())
        && !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_replaced_once_and_can_be_escaped() {
        let environment = |name: &str| match name {
            "A" => Some("one".to_owned()),
            "NESTED" => Some("${A}".to_owned()),
            _ => None,
        };
        let missing = || Err(Unresolved::Missing("GONE".to_owned()));
        for (text, expected) in [
            ("plain $ and {}", Ok("plain $ and {}".to_owned())),
            ("${A}-${A}", Ok("one-one".to_owned())),
            ("$${A}", Ok("${A}".to_owned())),
            ("$$${A}", Ok("$${A}".to_owned())),
            ("${NESTED}", Ok("${A}".to_owned())),
            ("x${GONE}", missing()),
            ("${A", Err(Unresolved::Malformed)),
            ("${}", Err(Unresolved::Malformed)),
            ("${9A}", Err(Unresolved::Malformed)),
            ("${A B}", Err(Unresolved::Malformed)),
        ] {
            assert_eq!(substitute(text, &environment), expected, "{text}");
        }
    }
}
