//! Reads `[jobs]`, and what a route says of jobs: `[[route.capture]]`, what is kept of the answers that pass, and
//! `[[route.guard]]`, whose requests pass.

use std::sync::Arc;
use std::time::Duration;

use super::check::seconds;
use super::raw::Table;
use super::units::{self, Wrong};
use super::{PathPattern, Segment};
use crate::records::JobKind;

/// `[jobs]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "documented in config/portcullis.toml")]
pub struct Jobs {
    /// `None`: jobs are kept however old they are.
    pub max_age: Option<Duration>,
    /// `None`: any number.
    pub max_per_user: Option<u64>,
    pub store_timeout: Duration,
}

/// Where something stands in a JSON document (RFC 6901); `*` stands for every element of a list and for every member of
/// an object, `**` for everything within.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pointer(pub Box<[Step]>);

/// One step of a pointer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A member of this name, or the element of this number.
    Into(Box<str>),
    /// All of them.
    Each,
    /// What is here, and everything within it, at any depth.
    Deep,
}

/// `[[route.capture]]`: what is kept of an answer.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "documented in config/portcullis.toml")]
pub struct Capture {
    pub from: CaptureFrom,
    /// A job with its files, or files alone.
    pub kind: JobKind,
    /// The space's name; an upstream's own unless the file says another.
    pub space: Arc<str>,
    pub jobs: Pointer,
    pub id: JobId,
    pub status: Option<Pointer>,
    pub progress: Option<Pointer>,
    /// Members within members, and where each comes from.
    pub extra: Vec<(Box<[Box<str>]>, Pointer)>,
    pub files: Vec<FileNames>,
    pub claim: bool,
    pub max_size: usize,
    pub on_failure: OnFailure,
}

/// `from` of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "documented in config/portcullis.toml")]
pub enum CaptureFrom {
    Json,
    Sse,
    Websocket,
}

/// `id` of a capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobId {
    /// In the answer.
    At(Pointer),
    /// The parameter of this name in the request's path.
    Param(Box<str>),
    /// Each file's name: no job is told of.
    File,
}

/// `[[route.capture.file]]`, and each of `files`: where the names of a job's files are.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "documented in config/portcullis.toml")]
pub struct FileNames {
    pub at: Pointer,
    /// Never empty; several make one name together.
    pub name: Vec<Pointer>,
    pub part: FilePart,
    pub strip: Box<str>,
}

/// `part` of a file's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "documented in config/portcullis.toml")]
pub enum FilePart {
    Last,
    Whole,
}

/// `on_failure` of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "documented in config/portcullis.toml")]
pub enum OnFailure {
    Open,
    Closed,
}

/// `[[route.guard]]`: whose requests pass.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "documented in config/portcullis.toml")]
pub struct Guard {
    pub place: GuardPlace,
    pub kind: JobKind,
    pub space: Arc<str>,
    pub scope: Scope,
    pub unknown: Unknown,
    pub missing: Missing,
    /// Cut from the front of a name, where it is there.
    pub strip: Box<str>,
    pub except_roles: Vec<Box<str>>,
    /// Names that are everybody's.
    pub public: Vec<Box<str>>,
}

/// Where a guarded request names what it wants; several places make one name together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuardPlace {
    /// Parameters of the path.
    Path(Vec<Box<str>>),
    /// Parameters of the query, and what each is where it is not there.
    Query(Vec<(Box<str>, Option<Box<str>>)>),
    /// Members of the JSON body, of at most so many bytes.
    Body(Vec<Pointer>, usize),
}

/// `scope` of a guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "documented in config/portcullis.toml")]
pub enum Scope {
    User,
    Session,
}

/// `unknown` of a guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "documented in config/portcullis.toml")]
pub enum Unknown {
    Deny,
    Allow,
    Claim,
}

/// `missing` of a guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "documented in config/portcullis.toml")]
pub enum Missing {
    Deny,
    Allow,
}

/// Reads `[jobs]`.
pub(super) fn jobs(mut table: Table<'_>) -> Jobs {
    let max_age = table.duration_or_zero("max_age").unwrap_or(MAX_AGE);
    let max_per_user = table.integer("max_per_user", 0..=1_000_000);
    Jobs {
        max_age: Some(max_age).filter(|age| !age.is_zero()),
        max_per_user: Some(max_per_user.unwrap_or(10_000)).filter(|most| *most > 0),
        store_timeout: table.duration("store_timeout").unwrap_or(seconds(2)),
    }
}

const MAX_AGE: Duration = seconds(90 * 86_400);

/// What a route's captures and guards take from the rest of it.
pub(super) struct Around<'a> {
    pub(super) path: &'a PathPattern,
    /// The name of its upstream.
    pub(super) upstream: Option<&'a Arc<str>>,
    /// Nobody is asked who they are.
    pub(super) public: bool,
}

/// Reads `[[route.capture]]` and `[[route.guard]]`.
pub(super) fn of_route(table: &mut Table<'_>, around: &Around<'_>) -> (Vec<Capture>, Vec<Guard>) {
    let label = table.label.clone();
    let labelled = |kind: &str, at: usize| {
        let name = label.split_once(' ').map_or("]", |(_, name)| name);
        format!("[route.{kind} {} of {name}", at + 1)
    };
    let guards: Vec<Guard> = (table.tables("guard").into_iter().enumerate())
        .filter_map(|(at, mut table)| {
            table.label = labelled("guard", at);
            guard(&mut table, around)
        })
        .collect();
    // What a guarded route answers is of a job that somebody has.
    let claim = guards.iter().all(|guard| guard.kind == JobKind::Client);
    let captures: Vec<Capture> = (table.tables("capture").into_iter().enumerate())
        .filter_map(|(at, mut table)| {
            table.label = labelled("capture", at);
            capture(&mut table, around, claim)
        })
        .collect();
    for key in ["capture", "guard"] {
        if around.public && table.has(key) {
            let what = format!("`{key}` has no owner to ask for: a public route knows no caller");
            table.problem(key, &what, "set auth = \"required\" or \"optional\"");
        }
    }
    (captures, guards)
}

fn capture(table: &mut Table<'_>, around: &Around<'_>, claim: bool) -> Option<Capture> {
    let froms = [
        ("json", CaptureFrom::Json),
        ("sse", CaptureFrom::Sse),
        ("websocket", CaptureFrom::Websocket),
    ];
    let on_failures = [("open", OnFailure::Open), ("closed", OnFailure::Closed)];
    let kinds = [JobKind::Job, JobKind::File].map(|kind| (kind.word(), kind));
    let kind = table.choice("kind", &kinds).unwrap_or(JobKind::Job);
    let id = table.text("id", |text| job_id(text, around));
    let id = match kind {
        JobKind::File => {
            if table.has("id") {
                let what = "`id` is a job's, and kind = \"file\" tells of none";
                table.problem("id", what, "take one of them out");
            }
            Some(JobId::File)
        }
        _ => {
            if !table.has("id") {
                let mend = "add id = \"/job_id\", or kind = \"file\" where there are files alone";
                table.note(table.line, "`id` is missing", mend);
            }
            id
        }
    };
    let mut files: Vec<FileNames> = table
        .texts("files", pointer)
        .unwrap_or_default()
        .into_iter()
        .map(|name| FileNames {
            at: Pointer::default(),
            name: vec![name],
            part: FilePart::Last,
            strip: "".into(),
        })
        .collect();
    files.extend(table.tables("file").into_iter().filter_map(file));
    let max_size = table.size("max_size", 1..=64 << 20);
    if kind == JobKind::File && files.is_empty() {
        table.note(
            table.line,
            "there is nothing to be kept",
            "add files = [\"/filename\"]",
        );
    }
    let from = table.choice("from", &froms).unwrap_or(CaptureFrom::Json);
    let capture = Capture {
        from,
        kind,
        space: space(table, around),
        jobs: table.text("jobs", pointer).unwrap_or_default(),
        id: id.clone().unwrap_or(JobId::File),
        status: table.text("status", pointer),
        progress: table.text("progress", pointer),
        extra: extra(table),
        files,
        // Some upstreams tell everybody's jobs to every socket.
        claim: table
            .flag("claim")
            .unwrap_or(claim && from != CaptureFrom::Websocket),
        max_size: max_size.unwrap_or(1 << 20),
        on_failure: table
            .choice("on_failure", &on_failures)
            .unwrap_or(OnFailure::Open),
    };
    id.map(|_| capture)
}

fn space(table: &mut Table<'_>, around: &Around<'_>) -> Arc<str> {
    let named = table.text("space", |text| {
        let fits = text.len() <= 200 && !text.chars().any(char::is_control);
        match fits && !text.is_empty() {
            true => Ok(Arc::from(text)),
            false => Err(Wrong::new("is not a name", "write a word or two")),
        }
    });
    let upstream = || around.upstream.map(Arc::clone);
    named.or_else(upstream).unwrap_or_else(|| Arc::from(""))
}

fn job_id(text: &str, around: &Around<'_>) -> Result<JobId, Wrong> {
    let inner = text
        .strip_prefix('{')
        .and_then(|text| text.strip_suffix('}'));
    match inner {
        Some(name) => param(name, around).map(JobId::Param),
        None => pointer(text).map(JobId::At),
    }
}

/// A parameter that the route's path has.
fn param(name: &str, around: &Around<'_>) -> Result<Box<str>, Wrong> {
    let known = around.path.0.iter().filter_map(|segment| match segment {
        Segment::Literal(_) => None,
        Segment::One(name) | Segment::Rest(name) => Some(&**name),
    });
    let known: Vec<&str> = known.collect();
    match known.contains(&name) {
        true => Ok(name.into()),
        false => Err(Wrong::new(
            "is not a parameter of the route's path",
            match known.is_empty() {
                true => "write one into `path`: \"/api/status/{job_id}\"".to_owned(),
                false => format!("known here: {}", known.join(", ")),
            },
        )),
    }
}

/// `/a/0/b`, with `*` for each; empty: the whole document.
fn pointer(text: &str) -> Result<Pointer, Wrong> {
    let Some(rest) = text.strip_prefix('/') else {
        return match text {
            "" => Ok(Pointer::default()),
            _ => Err(Wrong::new(
                "is not a JSON Pointer",
                format!("begin with a slash: \"/{text}\""),
            )),
        };
    };
    let steps = rest.split('/').map(|step| match step {
        "*" => Ok(Step::Each),
        "**" => Ok(Step::Deep),
        _ => member(step).map(Step::Into),
    });
    let pointer = steps.collect::<Result<_, _>>().map(Pointer)?;
    let deep = pointer.0.iter().filter(|step| **step == Step::Deep).count();
    match deep {
        0 | 1 => Ok(pointer),
        _ => Err(Wrong::new("has ** twice", "once reaches everything")),
    }
}

/// RFC 6901 §3: `~0` is `~`, `~1` is `/`.
fn member(step: &str) -> Result<Box<str>, Wrong> {
    let mut escapes = step.split('~').skip(1);
    if escapes.any(|rest| !rest.starts_with(['0', '1'])) {
        return Err(Wrong::new(
            "has a ~ that stands for nothing",
            "write ~0 for ~, and ~1 for /",
        ));
    }
    Ok(step.replace("~1", "/").replace("~0", "~").into())
}

fn extra(table: &mut Table<'_>) -> Vec<(Box<[Box<str>]>, Pointer)> {
    const OWN: [&str; 4] = ["job_id", "status", "progress", "created_at"];
    let members = table.text_members("extra");
    let mut fields: Vec<(Box<[Box<str>]>, Pointer)> = Vec::new();
    for (name, node, text) in members {
        let path: Box<[Box<str>]> = name.split('.').map(Box::from).collect();
        let own = path.first().is_some_and(|first| OWN.contains(&&**first));
        if own || path.iter().any(|member| member.is_empty()) {
            let mend = "write other members: \"aiDecisions.itemName\"";
            table.note(node.line, &format!("`extra` cannot set `{name}`"), mend);
        } else if fields
            .iter()
            .any(|(known, _)| known.starts_with(&path) || path.starts_with(known))
        {
            let what = format!("`extra` sets `{name}` and a member within it");
            table.note(node.line, &what, "keep one of them");
        } else if let Some(pointer) = table.understand(node, text, name, pointer) {
            fields.push((path, pointer));
        }
    }
    fields
}

fn file(mut table: Table<'_>) -> Option<FileNames> {
    let parts = [("last", FilePart::Last), ("whole", FilePart::Whole)];
    let name = table.texts("name", pointer);
    table.require("name", "[\"/filename\"]");
    if name.as_ref().is_some_and(Vec::is_empty) {
        table.problem("name", "`name` is empty", "write [\"/filename\"]");
    }
    let at = table.text("at", pointer).unwrap_or_default();
    let part = table.choice("part", &parts);
    let strip = table.text("strip", units::any);
    Some(FileNames {
        at,
        name: name?,
        part: part.unwrap_or(FilePart::Last),
        strip: strip.unwrap_or_else(|| "".into()),
    })
}

fn guard(table: &mut Table<'_>, around: &Around<'_>) -> Option<Guard> {
    let kinds = [JobKind::Job, JobKind::File, JobKind::Client].map(|kind| (kind.word(), kind));
    let scopes = [("user", Scope::User), ("session", Scope::Session)];
    let unknowns = [
        ("deny", Unknown::Deny),
        ("allow", Unknown::Allow),
        ("claim", Unknown::Claim),
    ];
    let missings = [("deny", Missing::Deny), ("allow", Missing::Allow)];
    let place = place(table, around);
    let kind = table.choice("kind", &kinds).unwrap_or(JobKind::Job);
    let unknown = table.choice("unknown", &unknowns);
    if unknown == Some(Unknown::Claim) && kind != JobKind::Client {
        let what = "`unknown` = \"claim\" would give a job to whoever asks for it first";
        let mend =
            "claims are for kind = \"client\"; jobs and files are claimed by [[route.capture]]";
        table.problem("unknown", what, mend);
    }
    if unknown == Some(Unknown::Allow) {
        let what = "`unknown` = \"allow\" lets everybody have what nobody is known to own";
        table.warning(
            "unknown",
            what,
            "set \"deny\" when what runs now is captured",
        );
    }
    let default = match kind {
        JobKind::Client => Unknown::Claim,
        JobKind::Job | JobKind::File => Unknown::Deny,
    };
    let guard = Guard {
        place: place
            .clone()
            .unwrap_or_else(|| GuardPlace::Path(Vec::new())),
        kind,
        space: space(table, around),
        scope: table.choice("scope", &scopes).unwrap_or(Scope::User),
        unknown: unknown.unwrap_or(default),
        missing: table.choice("missing", &missings).unwrap_or(Missing::Deny),
        strip: table.text("strip", units::any).unwrap_or_else(|| "".into()),
        except_roles: table
            .texts("except_roles", units::filled)
            .unwrap_or_default(),
        public: table.texts("public", units::filled).unwrap_or_default(),
    };
    place.map(|_| guard)
}

fn place(table: &mut Table<'_>, around: &Around<'_>) -> Option<GuardPlace> {
    let path = table.texts("path", |name| param(name, around));
    let query = table.texts("query", query);
    let body = table.texts("body", pointer);
    let max_size = table.size("max_size", 1..=64 << 20).unwrap_or(1 << 20);
    let places = [
        ("path", path.as_ref().is_some_and(Vec::is_empty)),
        ("query", query.as_ref().is_some_and(Vec::is_empty)),
        ("body", body.as_ref().is_some_and(Vec::is_empty)),
    ];
    let given: Vec<_> = places.iter().filter(|(key, _)| table.has(key)).collect();
    if given.len() != 1 {
        table.note(
            table.line,
            "a guard looks in one place",
            "write exactly one of path, query, body: path = [\"job_id\"]",
        );
    }
    for (key, empty) in places {
        if empty {
            table.problem(key, &format!("`{key}` is empty"), "name one at least");
        }
    }
    path.map(GuardPlace::Path)
        .or(query.map(GuardPlace::Query))
        .or(body.map(|pointers| GuardPlace::Body(pointers, max_size)))
}

/// `name`, or `name=what it is where it is not there`.
fn query(text: &str) -> Result<(Box<str>, Option<Box<str>>), Wrong> {
    let (name, default) = match text.split_once('=') {
        Some((name, default)) => (name, Some(default.into())),
        None => (text, None),
    };
    match name.is_empty() {
        true => Err(Wrong::new("names no parameter", "write \"filename\"")),
        false => Ok((name.into(), default)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_is_read_as_the_rfc_says() {
        let into = |step: &str| Step::Into(step.into());
        for (text, steps) in [
            ("", vec![]),
            ("/", vec![into("")]),
            ("/job_id", vec![into("job_id")]),
            ("/a/0/b", vec![into("a"), into("0"), into("b")]),
            ("/a~1b/~0~01", vec![into("a/b"), into("~~1")]),
            ("/*/id", vec![Step::Each, into("id")]),
            ("/a*", vec![into("a*")]),
            ("/**/path", vec![Step::Deep, into("path")]),
        ] {
            assert_eq!(pointer(text), Ok(Pointer(steps.into())), "{text}");
        }
        for text in ["job_id", "/a~", "/~2", "*", "/**/a/**"] {
            assert!(pointer(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_parameter_of_the_query_may_have_a_default() {
        assert_eq!(query("filename"), Ok(("filename".into(), None)));
        assert_eq!(
            query("type=output"),
            Ok(("type".into(), Some("output".into())))
        );
        assert_eq!(
            query("subfolder="),
            Ok(("subfolder".into(), Some("".into())))
        );
        assert!(query("=x").is_err());
    }
}
