//! What a capture makes of a JSON document: the jobs in it, as far as it tells of them. Pure.

use serde_json::{Map, Value};

use crate::config::{Capture, FileNames, FilePart, JobId, Pointer};
use crate::records::Object;
use crate::request::path;

/// A job as a document tells of it.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "as in `Job`")]
pub struct Finding {
    pub id: Box<str>,
    pub status: Option<Box<str>>,
    pub progress: Option<Value>,
    pub extra: Object,
    pub files: Vec<Box<str>>,
}

/// Why nothing was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// No id stands there.
    NoId,
    /// What stands there is no id.
    BadId,
}

/// The jobs that `capture` finds in `document`; `param`: the path's parameter where that is the id.
///
/// # Errors
/// When there is none.
pub fn read(
    capture: &Capture,
    document: &Value,
    param: Option<&str>,
) -> Result<Vec<Finding>, Miss> {
    let mut findings = Vec::new();
    let mut miss = Miss::NoId;
    for job in capture.jobs.find(document) {
        if capture.id == JobId::File {
            let files = capture.files.iter().flat_map(|it| names(it, job));
            findings.extend(files.take(MOST_FILES).map(|id| Finding {
                id,
                ..Finding::default()
            }));
            continue;
        }
        for id in ids(&capture.id, job, param) {
            match id {
                Some(id) if findings.len() < MOST_JOBS => findings.push(finding(capture, job, id)),
                Some(_) => {}
                None => miss = Miss::BadId,
            }
        }
    }
    match findings.is_empty() {
        true => Err(miss),
        false => Ok(findings),
    }
}

/// The ids there; `None`: something else.
fn ids(place: &JobId, job: &Value, param: Option<&str>) -> Vec<Option<Box<str>>> {
    match place {
        JobId::File => Vec::new(),
        JobId::Param(_) => param.map(name).into_iter().collect(),
        JobId::At(pointer) => pointer
            .find(job)
            .into_iter()
            .filter(|value| !value.is_null())
            .map(id)
            .collect(),
    }
}

/// A text or a whole number as an id.
pub fn id(value: &Value) -> Option<Box<str>> {
    match value {
        Value::String(text) => name(text),
        Value::Number(number) if number.is_i64() || number.is_u64() => {
            Some(number.to_string().into())
        }
        _ => None,
    }
}

/// A text that may name something: one that a database can find again, and a log can show.
pub fn name(text: &str) -> Option<Box<str>> {
    let fits = !text.is_empty() && text.len() <= LONGEST_ID;
    (fits && !text.chars().any(char::is_control)).then(|| text.into())
}

/// Several parts as one name, that no other parts make.
pub fn composite(parts: &[Box<str>]) -> Option<Box<str>> {
    match parts {
        [part] => name(part),
        parts => {
            name(&Value::from(parts.iter().map(|part| &**part).collect::<Vec<_>>()).to_string())
        }
    }
}

fn finding(capture: &Capture, job: &Value, id: Box<str>) -> Finding {
    let at = |pointer: &Option<Pointer>| pointer.as_ref().and_then(|it| it.first(job));
    let mut extra = Map::new();
    for (path, pointer) in &capture.extra {
        let small = |value: &&Value| value.to_string().len() <= LONGEST_EXTRA;
        if let Some(value) = pointer.first(job).filter(small) {
            set(&mut extra, path, value.clone());
        }
    }
    let mut files: Vec<Box<str>> = Vec::new();
    for file in capture.files.iter().flat_map(|it| names(it, job)) {
        if files.len() < MOST_FILES && !files.contains(&file) {
            files.push(file);
        }
    }
    Finding {
        id,
        status: at(&capture.status).and_then(status),
        progress: at(&capture.progress).and_then(progress),
        extra,
        files,
    }
}

fn status(value: &Value) -> Option<Box<str>> {
    match value {
        Value::String(text) => Some(clipped(text).into()),
        Value::Number(number) => Some(number.to_string().into()),
        Value::Bool(flag) => Some(flag.to_string().into()),
        _ => None,
    }
}

fn progress(value: &Value) -> Option<Value> {
    match value {
        Value::String(text) => Some(clipped(text).into()),
        Value::Number(_) => Some(value.clone()),
        _ => None,
    }
}

fn clipped(text: &str) -> &str {
    &text[..text.floor_char_boundary(LONGEST_STATUS)]
}

/// Sets a member within members.
fn set(object: &mut Object, path: &[Box<str>], value: Value) {
    match path {
        [] => {}
        [last] => drop(object.insert(last.to_string(), value)),
        [first, rest @ ..] => {
            let inner = object.entry(&**first).or_insert_with(|| Map::new().into());
            if let Value::Object(inner) = inner {
                set(inner, rest, value);
            }
        }
    }
}

/// The names of a job's files.
fn names(files: &FileNames, job: &Value) -> Vec<Box<str>> {
    let places = files.at.find(job);
    match &files.name[..] {
        [only] => places
            .into_iter()
            .flat_map(|place| only.find(place))
            .filter_map(|value| {
                let text = value.as_str()?;
                let text = text.strip_prefix(&*files.strip).unwrap_or(text);
                match files.part {
                    FilePart::Whole => name(text),
                    FilePart::Last => last(text),
                }
            })
            .collect(),
        several => places
            .into_iter()
            .filter_map(|place| {
                let part = |pointer: &Pointer| Some(pointer.first(place)?.as_str()?.into());
                let parts: Option<Vec<Box<str>>> = several.iter().map(part).collect();
                composite(&parts?)
            })
            .collect(),
    }
}

/// What stands behind the last slash of a URL or a path; a name without a slash is one already.
fn last(text: &str) -> Option<Box<str>> {
    if !text.contains('/') {
        return name(text);
    }
    let path = text.split(['?', '#']).next().unwrap_or_default();
    let last = path.rsplit('/').next().unwrap_or_default();
    name(&path::percent_decode(last).unwrap_or(last.into()))
}

const LONGEST_ID: usize = 512;
const LONGEST_STATUS: usize = 200;
/// Bytes of JSON of one field.
const LONGEST_EXTRA: usize = 4096;
const MOST_JOBS: usize = 64;
const MOST_FILES: usize = 256;

#[cfg(test)]
pub(crate) mod tests;
