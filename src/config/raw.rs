//! One table of the file, read key by key: each reader says what its key must hold and notes a problem
//! where it does not, so that one bad value hides no other. A key that nobody read is unknown.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::problem::Report;
use super::shape::Kind;
use super::source::{Node, Text, Tree, Value};
use super::units::{self, Wrong};

/// A table being read. When it is dropped, the keys that nobody asked for are reported.
pub(super) struct Table<'c> {
    pub(super) report: &'c Report,
    /// How problems call it: `[route "x"]`.
    pub(super) label: String,
    /// Where its keys stand in the schema: `route.sse.`.
    path: String,
    pub(super) line: usize,
    tree: &'c Tree,
    known: Vec<&'static str>,
    given: bool,
}

/// What a table is that the file leaves out.
static EMPTY: Tree = BTreeMap::new();

impl<'c> Table<'c> {
    /// The file's top.
    pub(super) fn top(tree: &'c Tree, report: &'c Report) -> Self {
        Self::new(report, (String::new(), String::new()), (0, tree))
    }

    /// A table that the file does not have, at `path` of the schema: every key is its default.
    pub(super) fn nothing(&self, path: &str) -> Self {
        Self::new(self.report, (String::new(), path.to_owned()), (0, &EMPTY))
    }

    fn new(
        report: &'c Report,
        (label, path): (String, String),
        (line, tree): (usize, &'c Tree),
    ) -> Self {
        Self {
            report,
            label,
            path,
            line,
            tree,
            known: Vec::new(),
            given: !std::ptr::eq(tree, &raw const EMPTY),
        }
    }

    /// Whether the file has this table at all.
    pub(super) fn is_given(&self) -> bool {
        self.given
    }

    /// Whether the file has `key`.
    pub(super) fn has(&self, key: &str) -> bool {
        self.tree.contains_key(key)
    }

    /// The line of `key`, or of the table.
    pub(super) fn line_of(&self, key: &str) -> usize {
        self.tree.get(key).map_or(self.line, |node| node.line)
    }

    /// A problem with `key`.
    pub(super) fn problem(&self, key: &str, what: &str, mend: impl Into<String>) {
        self.note(self.line_of(key), what, mend);
    }

    /// A warning about `key`.
    pub(super) fn warning(&self, key: &str, what: &str, mend: impl Into<String>) {
        let what = self.labelled(what);
        self.report.warning(self.line_of(key), what, mend);
    }

    /// A problem at a line of this table.
    pub(super) fn note(&self, line: usize, what: &str, mend: impl Into<String>) {
        self.report.problem(line, self.labelled(what), mend);
    }

    fn labelled(&self, what: &str) -> String {
        match self.label.as_str() {
            "" => what.to_owned(),
            label => format!("{label} {what}"),
        }
    }

    /// The value of `key`, which is now known.
    fn node(&mut self, key: &'static str, kind: Kind) -> Option<&'c Node> {
        self.known.push(key);
        self.report.see(format!("{}{key}", self.path), kind);
        self.tree.get(key)
    }

    fn wrong_type(&self, node: &Node, key: &str, wanted: &str) {
        if !matches!(node.value, Value::Broken) {
            let what = format!("`{key}` must be {wanted}, not {}", node.value.kind());
            self.note(node.line, &what, of_type(key, wanted));
        }
    }

    /// Reports a missing `key`.
    pub(super) fn require(&self, key: &str, example: &str) {
        self.report.see_required(&format!("{}{key}", self.path));
        if !self.has(key) {
            self.note(
                self.line,
                &format!("`{key}` is missing"),
                format!("add {key} = {example}"),
            );
        }
    }

    /// A string that `read` understands. Problems show it as it stands in the file.
    pub(super) fn text<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&str) -> Result<T, Wrong>,
    ) -> Option<T> {
        self.text_of(key, Kind::Text, read)
    }

    fn text_of<T>(
        &mut self,
        key: &'static str,
        kind: Kind,
        read: impl FnOnce(&str) -> Result<T, Wrong>,
    ) -> Option<T> {
        let node = self.node(key, kind)?;
        let text = self.as_text(node, key)?;
        self.understand(node, text, key, read)
    }

    /// A size in bytes within `range`.
    pub(super) fn size<T>(&mut self, key: &'static str, range: RangeInclusive<T>) -> Option<T>
    where
        T: TryFrom<u64> + PartialOrd + std::fmt::Display,
    {
        self.text_of(key, Kind::Size, |text| {
            let size = T::try_from(units::size(text)?).ok();
            size.filter(|size| range.contains(size)).ok_or_else(|| {
                let (low, high) = range.into_inner();
                Wrong::new(
                    "is out of range",
                    format!("it must be from {low}B to {high}B"),
                )
            })
        })
    }

    /// A string that problems must not show.
    pub(super) fn secret<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&str) -> Result<T, Wrong>,
    ) -> Option<T> {
        let node = self.node(key, Kind::Text)?;
        let text = self.as_text(node, key)?;
        match read(&text.value) {
            Ok(value) => Some(value),
            Err(wrong) => {
                self.note(node.line, &format!("`{key}` {}", wrong.what), wrong.mend);
                None
            }
        }
    }

    /// The same, where the string itself is the secret.
    pub(super) fn own_secret<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&str) -> Result<T, Wrong>,
    ) -> Option<T> {
        self.warn_if_written_out(key, |_| true);
        self.secret(key, read)
    }

    /// A secret should not stand in a file that others can read; `key` holds a string or a list of them.
    pub(super) fn warn_if_written_out(&self, key: &str, is_secret: impl Fn(&str) -> bool) {
        let Some(node) = self.tree.get(key) else {
            return;
        };
        let nodes = match &node.value {
            Value::List(list) => list.as_slice(),
            _ => std::slice::from_ref(node),
        };
        let is_written_out = |node: &Node| match &node.value {
            Value::Text(text) => text.written == text.value && is_secret(&text.value),
            _ => false,
        };
        if nodes.iter().any(is_written_out)
            && let Some(mode) = self.report.open_to_others()
        {
            let what =
                format!("`{key}` is written out in a file that others can open (mode {mode:04o})");
            let mend = "chmod 600 it, or write ${NAME} and set that in the environment";
            self.warning(key, &what, mend);
        }
    }

    /// A list of strings.
    pub(super) fn texts<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&str) -> Result<T, Wrong>,
    ) -> Option<Vec<T>> {
        let node = self.node(key, Kind::Texts)?;
        let Value::List(list) = &node.value else {
            self.wrong_type(node, key, "a list of strings");
            return None;
        };
        let values: Vec<Option<T>> = list
            .iter()
            .map(|node| {
                let text = self.as_text(node, key)?;
                self.understand(node, text, key, &read)
            })
            .collect();
        values.into_iter().collect()
    }

    /// A list of strings that problems must not show.
    pub(super) fn secrets<T>(
        &mut self,
        key: &'static str,
        read: impl Fn(&str) -> Result<T, Wrong>,
    ) -> Option<Vec<T>> {
        let node = self.node(key, Kind::Texts)?;
        let Value::List(list) = &node.value else {
            self.wrong_type(node, key, "a list of strings");
            return None;
        };
        let values = list
            .iter()
            .map(|node| match read(&self.as_text(node, key)?.value) {
                Ok(value) => Some(value),
                Err(wrong) => {
                    self.note(node.line, &format!("`{key}` {}", wrong.what), wrong.mend);
                    None
                }
            });
        values.collect::<Vec<_>>().into_iter().collect()
    }

    fn as_text<'n>(&self, node: &'n Node, key: &str) -> Option<&'n Text> {
        if let Value::Text(text) = &node.value {
            return Some(text);
        }
        self.wrong_type(node, key, "a string");
        None
    }

    /// `text` read, or a problem that shows it as written.
    pub(super) fn understand<T>(
        &self,
        node: &Node,
        text: &Text,
        key: &str,
        read: impl FnOnce(&str) -> Result<T, Wrong>,
    ) -> Option<T> {
        match read(&text.value) {
            Ok(value) => Some(value),
            Err(wrong) => {
                let what = format!("`{key}`: \"{}\" {}", text.written, wrong.what);
                self.note(node.line, &what, wrong.mend);
                None
            }
        }
    }

    /// A whole number within `range`.
    pub(super) fn integer<T>(&mut self, key: &'static str, range: RangeInclusive<T>) -> Option<T>
    where
        T: TryFrom<i64> + PartialOrd + std::fmt::Display,
    {
        let kind = Kind::Integer(range.start().to_string(), range.end().to_string());
        let node = self.node(key, kind)?;
        let Value::Integer(integer) = node.value else {
            self.wrong_type(node, key, "an integer");
            return None;
        };
        match T::try_from(integer) {
            Ok(number) if range.contains(&number) => Some(number),
            _ => {
                let what = format!("`{key}` is {integer}");
                let (low, high) = range.into_inner();
                self.note(node.line, &what, format!("it must be from {low} to {high}"));
                None
            }
        }
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, key: &'static str) -> Option<bool> {
        let node = self.node(key, Kind::Flag)?;
        let Value::Flag(flag) = node.value else {
            self.wrong_type(node, key, "true or false");
            return None;
        };
        Some(flag)
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        words: &[(&'static str, T)],
    ) -> Option<T> {
        let kind = Kind::Choice(words.iter().map(|(word, _)| *word).collect());
        self.text_of(key, kind, |text| {
            words
                .iter()
                .find(|(word, _)| *word == text)
                .map(|(_, value)| *value)
                .ok_or_else(|| {
                    let known: Vec<_> = words.iter().map(|(word, _)| *word).collect();
                    Wrong::new("is not a word for this", suggest(text, &known))
                })
        })
    }

    /// A duration of more than nothing.
    pub(super) fn duration(&mut self, key: &'static str) -> Option<Duration> {
        self.text_of(key, Kind::Duration, |text| match units::duration(text)? {
            Duration::ZERO => Err(Wrong::new("is no time at all", "write at least \"1ms\"")),
            duration => Ok(duration),
        })
    }

    /// A duration where `"0s"` has a meaning of its own.
    pub(super) fn duration_or_zero(&mut self, key: &'static str) -> Option<Duration> {
        self.text_of(key, Kind::Duration, units::duration)
    }

    /// A table within this one; empty where the file has none.
    pub(super) fn table(&mut self, key: &'static str) -> Table<'c> {
        let names = (self.child_label(key), format!("{}{key}.", self.path));
        let node = self.node(key, Kind::Table);
        let tree = match node.map(|node| (node, &node.value)) {
            Some((node, Value::Table(tree))) => (node.line, tree),
            Some((node, _)) => {
                self.wrong_type(node, key, "a table");
                (node.line, &EMPTY)
            }
            None => (self.line, &EMPTY),
        };
        Table::new(self.report, names, tree)
    }

    fn child_label(&self, key: &str) -> String {
        match (self.label.as_str(), self.label.split_once(' ')) {
            ("", _) => format!("[{key}]"),
            (_, Some((head, name))) => {
                let name = name.trim_end_matches(']');
                format!("{head}.{key} {name}]")
            }
            (label, None) => format!("{}.{key}]", label.trim_end_matches(']')),
        }
    }

    /// The tables of a list: `[[key]]`. Each is labelled with its `name`, or its place in the list.
    pub(super) fn tables(&mut self, key: &'static str) -> Vec<Table<'c>> {
        let Some(node) = self.node(key, Kind::Tables) else {
            return Vec::new();
        };
        let Value::List(list) = &node.value else {
            self.wrong_type(node, key, "a list of tables");
            return Vec::new();
        };
        let mut tables = Vec::with_capacity(list.len());
        for (at, node) in list.iter().enumerate() {
            let Value::Table(tree) = &node.value else {
                self.wrong_type(node, key, "a table");
                continue;
            };
            let label = match tree.get("name").map(|name| &name.value) {
                Some(Value::Text(name)) => format!("[{key} \"{}\"]", name.written),
                _ => format!("[{key} {}]", at + 1),
            };
            let names = (label, format!("{}{key}.", self.path));
            tables.push(Table::new(self.report, names, (node.line, tree)));
        }
        tables
    }

    /// The members of a table whose keys are free, in the order of the file.
    pub(super) fn members(&mut self, key: &'static str) -> Vec<(&'c str, &'c Node)> {
        self.members_of(key, Kind::Members)
    }

    fn members_of(&mut self, key: &'static str, kind: Kind) -> Vec<(&'c str, &'c Node)> {
        let Some(node) = self.node(key, kind) else {
            return Vec::new();
        };
        let Value::Table(tree) = &node.value else {
            self.wrong_type(node, key, "a table");
            return Vec::new();
        };
        let mut members: Vec<_> = tree
            .iter()
            .map(|(key, node)| (key.as_str(), node))
            .collect();
        members.sort_by_key(|(_, node)| node.offset);
        members
    }

    /// The texts of a table whose keys are free.
    pub(super) fn text_members(&mut self, key: &'static str) -> Vec<(&'c str, &'c Node, &'c Text)> {
        self.members_of(key, Kind::TextMembers)
            .into_iter()
            .filter_map(|(name, node)| Some((name, node, self.as_text(node, name)?)))
            .collect()
    }

    /// Any value, as JSON.
    pub(super) fn json(&mut self, key: &'static str) -> Option<serde_json::Value> {
        let node = self.node(key, Kind::Any)?;
        self.as_json(node, key)
    }

    /// A value as JSON; dates and numbers that JSON cannot hold are problems.
    pub(super) fn as_json(&self, node: &Node, key: &str) -> Option<serde_json::Value> {
        use serde_json::Value as Json;
        Some(match &node.value {
            Value::Text(text) => Json::from(text.value.as_str()),
            Value::Integer(integer) => Json::from(*integer),
            Value::Flag(flag) => Json::from(*flag),
            Value::Float(float) if float.is_finite() => Json::from(*float),
            Value::List(list) => {
                let list: Option<Vec<_>> =
                    list.iter().map(|node| self.as_json(node, key)).collect();
                Json::from(list?)
            }
            Value::Table(tree) => {
                let members: Option<serde_json::Map<_, _>> = tree
                    .iter()
                    .map(|(name, node)| Some((name.clone(), self.as_json(node, key)?)))
                    .collect();
                Json::from(members?)
            }
            Value::Date | Value::Float(_) | Value::Broken => {
                self.wrong_type(node, key, "something that JSON can hold");
                return None;
            }
        })
    }
}

impl Drop for Table<'_> {
    fn drop(&mut self) {
        for (key, node) in self.tree {
            if self.known.iter().any(|known| known == key) {
                continue;
            }
            let mend = suggest(key, &self.known);
            self.note(node.line, &format!("unknown key `{key}`"), mend);
        }
    }
}

/// "did you mean …?" where one of `known` is near, else the list of them.
pub(super) fn suggest(word: &str, known: &[&str]) -> String {
    let distance =
        |known: &str| strsim::damerau_levenshtein(&word.to_lowercase(), &known.to_lowercase());
    let nearest = known.iter().map(|known| (distance(known), known)).min();
    match nearest {
        Some((distance, known)) if distance <= 1 + known.len().min(word.len()) / 4 => {
            format!("did you mean `{known}`?")
        }
        _ => format!("known here: {}", known.join(", ")),
    }
}

/// How a value of the type that `wanted` names is written. Strings and tables may be a list's items, so that
/// `key` does not stand before them.
fn of_type(key: &str, wanted: &str) -> String {
    match wanted {
        "a string" => "write it in quotes: \"…\"".to_owned(),
        "a list of strings" => format!("write it in brackets: {key} = [\"…\"]"),
        "an integer" => format!("write a whole number without quotes: {key} = 10"),
        "true or false" => format!("write it without quotes: {key} = true"),
        "a table" => "write it in braces: { … }".to_owned(),
        "a list of tables" => format!("write it in brackets: {key} = [{{ … }}]"),
        _ => String::new(),
    }
}
