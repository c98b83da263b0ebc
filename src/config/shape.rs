//! The file's shape as a JSON Schema, for editors. Nothing is listed twice: the keys, their types and what
//! is required come from the check itself, which is asked what it reads; the prose and the defaults come
//! from `config/portcullis.toml`.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::check;
use super::problem::Report;
use super::raw::Table;
use super::source;

/// What a key must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Duration,
    Size,
    Texts,
    /// From, to.
    Integer(String, String),
    Flag,
    Choice(Vec<&'static str>),
    Table,
    Tables,
    /// A table of texts whose keys are free.
    TextMembers,
    /// A table whose keys are free.
    Members,
    Any,
}

/// A key that the check reads.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) kind: Kind,
    pub(super) required: bool,
}

/// Keys by path: `route.sse.heartbeat`.
pub(super) type Keys = BTreeMap<String, Key>;

/// The reference: every key with its prose and its default.
const REFERENCE: &str = include_str!("../../config/portcullis.toml");

/// A file with one of every table that is one of a list.
const ONE_OF_EACH: &str = "[[limits.class]]\nrequire = [{}]\n[[issuer]]\n[[upstream]]\n[[route]]\nrequire = [{}]\n[[route.guard]]\n[[route.capture]]\n[[route.capture.file]]\n[[test]]\n";

/// Every key that the check reads.
fn keys() -> Keys {
    let report = Report::new(Path::new("schema"));
    if let Some(tree) = source::read(ONE_OF_EACH, &|_| None, &report) {
        // Its problems are of no interest, only what was asked for.
        drop(check::file(Table::top(&tree, &report)));
    }
    report.into_keys()
}

/// The JSON Schema (2020-12) of the configuration file.
pub fn schema() -> Value {
    let keys = keys();
    let prose = reference(REFERENCE);
    let mut schema = object(&keys, &prose, "");
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("Portcullis");
    schema
}

/// The table whose keys begin with `prefix`.
fn object(keys: &Keys, prose: &BTreeMap<String, Entry>, prefix: &str) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for (path, key) in keys {
        let Some(name) = path.strip_prefix(prefix).filter(|name| !name.contains('.')) else {
            continue;
        };
        let mut property = match key.kind {
            Kind::Table => object(keys, prose, &format!("{path}.")),
            Kind::Tables => {
                json!({ "type": "array", "items": object(keys, prose, &format!("{path}.")) })
            }
            _ => leaf(&key.kind),
        };
        if let Some(entry) = prose.get(path) {
            entry.describe(&mut property, key);
        }
        if key.required {
            required.push(name);
        }
        properties.insert(name.to_owned(), property);
    }
    let mut object = json!({ "type": "object", "additionalProperties": false });
    if !required.is_empty() {
        object["required"] = json!(required);
    }
    object["properties"] = Value::Object(properties);
    object
}

fn leaf(kind: &Kind) -> Value {
    match kind {
        Kind::Text => json!({ "type": "string" }),
        Kind::Duration => json!({ "type": "string", "pattern": r"^[0-9]+(ms|s|m|h|d)$|\$\{" }),
        Kind::Size => json!({ "type": "string", "pattern": r"^[0-9]+(B|KiB|MiB|GiB)$|\$\{" }),
        Kind::Texts => json!({ "type": "array", "items": { "type": "string" } }),
        Kind::Integer(low, high) => json!({
            "type": "integer",
            "minimum": low.parse::<u64>().unwrap_or(0),
            "maximum": high.parse::<u64>().unwrap_or(u64::MAX),
        }),
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Choice(words) => json!({ "enum": words }),
        Kind::TextMembers => {
            json!({ "type": "object", "additionalProperties": { "type": "string" } })
        }
        Kind::Members | Kind::Table => json!({ "type": "object" }),
        Kind::Tables => json!({ "type": "array" }),
        Kind::Any => json!(true),
    }
}

/// What the reference says of one key.
#[derive(Debug, Default)]
struct Entry {
    prose: String,
    /// The value of a key that is not commented out: its default, unless the key is required.
    default: Option<Value>,
}

impl Entry {
    fn describe(&self, property: &mut Value, key: &Key) {
        let Some(members) = property.as_object_mut() else {
            return;
        };
        if !self.prose.is_empty() {
            members.insert("description".to_owned(), json!(self.prose));
        }
        if let Some(default) = self.default.as_ref().filter(|_| !key.required) {
            members.insert("default".to_owned(), default.clone());
        }
    }
}

/// Reads the reference line by line: tables and keys, commented out or not, with the prose before them
/// or behind them.
fn reference(text: &str) -> BTreeMap<String, Entry> {
    let mut entries = BTreeMap::new();
    let mut table = String::new();
    let mut prose: Vec<&str> = Vec::new();
    for line in text.lines() {
        let bare = line.strip_prefix("# ").unwrap_or(line);
        if let Some(name) = table_name(bare) {
            table = format!("{name}.");
            let prose = std::mem::take(&mut prose).join(" ");
            entries.entry(name.to_owned()).or_insert(Entry {
                prose,
                default: None,
            });
        } else if let Some((key, value, comment)) = key_line(bare) {
            let live = line == bare;
            let example = table.starts_with("test.") || bare.contains("${");
            prose.extend(comment);
            let entry = Entry {
                prose: std::mem::take(&mut prose).join(" "),
                default: Some(value).filter(|_| live && !example),
            };
            entries.insert(format!("{table}{key}"), entry);
        } else if line != bare && !line.starts_with("# ──") {
            prose.push(bare.trim());
        } else {
            prose.clear();
        }
    }
    entries
}

/// `[a.b]` or `[[a]]`.
fn table_name(line: &str) -> Option<&str> {
    let name = line.strip_prefix('[')?.strip_suffix(']')?;
    let inner = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'));
    let name = inner.unwrap_or(name);
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'.';
    name.bytes().all(plain).then_some(name)
}

/// `key = value`, and the comment behind it.
fn key_line(line: &str) -> Option<(&str, Value, Option<&str>)> {
    let (key, rest) = line.split_once(" = ")?;
    let plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte);
    if !key.bytes().all(plain) {
        return None;
    }
    let mut table: toml::Table = line.parse().ok()?;
    let value = serde_json::to_value(table.remove(key)?).ok()?;
    let comment = rest.rsplit_once("  # ").map(|(_, comment)| comment.trim());
    Some((key, value, comment))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys within tables whose keys are free are nobody's.
    fn is_free(keys: &Keys, path: &str) -> bool {
        path.rsplit_once('.').is_some_and(|(table, _)| {
            keys.get(table)
                .is_some_and(|key| matches!(key.kind, Kind::Members | Kind::TextMembers))
        })
    }

    #[test]
    fn the_reference_documents_every_key_and_no_other() {
        let keys = keys();
        let mut documented: Vec<String> = reference(REFERENCE).into_keys().collect();
        documented.retain(|path| !is_free(&keys, path));
        // Conditions are shown in one line.
        let read: Vec<String> = keys
            .keys()
            .filter(|path| !path.contains(".require."))
            .cloned()
            .collect();
        assert_eq!(documented, read);
    }

    #[test]
    fn the_schema_carries_types_prose_and_defaults() {
        let schema = schema();
        let server = &schema["properties"]["server"];
        assert_eq!(server["additionalProperties"], json!(false));
        let timeout = &server["properties"]["header_timeout"];
        assert_eq!(timeout["default"], json!("15s"));
        assert!(
            timeout["description"]
                .as_str()
                .unwrap()
                .starts_with("The time a client has")
        );
        let route = &schema["properties"]["route"]["items"];
        assert_eq!(route["required"], json!(["name", "path", "upstream"]));
        assert_eq!(
            route["properties"]["auth"]["enum"],
            json!(["public", "optional", "required"])
        );
        let secret = &schema["properties"]["issuer"]["items"]["properties"]["secret"];
        assert_eq!(secret["default"], Value::Null);
    }
}
