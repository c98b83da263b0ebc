//! `[[test]]`: requests and what must become of them.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue, Method};

use super::Issuer;
use super::named::Named;
use super::raw::{Table, suggest};
use super::units::{self, Wrong};
use crate::refusal::{Refusal, TABLE};
use crate::secret::Secret;

/// `[[test]]`: a request and what must become of it.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "documented in config/portcullis.toml")]
pub struct Test {
    pub name: Box<str>,
    pub line: usize,
    pub method: Method,
    pub target: Box<str>,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub caller: TestCaller,
    /// `None`: whatever route matches; `Some(None)`: no route matches.
    pub route: Option<Option<Box<str>>>,
    pub allow: bool,
    pub reason: Option<Refusal>,
}

/// Who calls in a `[[test]]`.
#[derive(Clone, Debug)]
pub enum TestCaller {
    /// No credential beyond those in `target` and `headers`.
    AsSent,
    /// Verified claims of the issuer at this index.
    Claims(usize, BTreeMap<String, serde_json::Value>),
    /// This token as bearer.
    Token(Secret<Box<str>>),
}

/// Reads every `[[test]]`.
pub(super) fn trials(top: &mut Table<'_>, issuers: &Named<Issuer>, routes: &[&str]) -> Vec<Test> {
    let mut names: Vec<Box<str>> = Vec::new();
    let mut trials = Vec::new();
    for mut table in top.tables("test") {
        let name = table.text("name", units::filled);
        table.require("name", "\"…\"");
        if name.as_ref().is_some_and(|name| names.contains(name)) {
            table.problem("name", "`name` is taken by another above", "choose another");
        }
        names.extend(name.clone());
        trials.extend(trial(&mut table, name, (issuers, routes)));
    }
    trials
}

fn trial(
    table: &mut Table<'_>,
    name: Option<Box<str>>,
    (issuers, routes): (&Named<Issuer>, &[&str]),
) -> Option<Test> {
    // Not shown: its query may hold a token.
    let request = table.secret("request", request);
    table.require("request", "\"GET /…\"");
    let headers = headers(table);
    let caller = caller(table, issuers);
    let line = table.line;
    let given = table.has("expect");
    let mut expect = table.table("expect");
    let route = expect.text("route", |name| route(name, routes));
    let decision = expect.choice("decision", &[("allow", true), ("refuse", false)]);
    let reason = expect.text("reason", reason);
    if given {
        expect.require("decision", "\"allow\" or \"refuse\"");
    }
    if decision == Some(true) && reason.is_some() {
        expect.problem("reason", "`reason` is that of a refusal", "remove it");
    }
    drop(expect);
    table.require("expect", "{ decision = \"allow\" }");
    let (method, target) = request?;
    Some(Test {
        name: name?,
        line,
        method,
        target,
        headers,
        caller,
        route,
        allow: decision?,
        reason,
    })
}

fn request(text: &str) -> Result<(Method, Box<str>), Wrong> {
    let wrong = || {
        Wrong::new(
            "is not a request",
            "write a method and a target: \"GET /path?query\"",
        )
    };
    let (method, target) = text.split_once(' ').ok_or_else(wrong)?;
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| wrong())?;
    if !target.starts_with('/') || target.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
        return Err(wrong());
    }
    Ok((method, target.into()))
}

fn headers(table: &mut Table<'_>) -> Vec<(HeaderName, HeaderValue)> {
    let mut headers = Vec::new();
    for (name, node, text) in table.text_members("headers") {
        match (units::header_name(name), HeaderValue::from_str(&text.value)) {
            (Ok(name), Ok(value)) => headers.push((name, value)),
            _ => table.note(
                node.line,
                &format!("`headers`: {name} or its value cannot stand in a header"),
                "",
            ),
        }
    }
    headers
}

fn caller(table: &mut Table<'_>, issuers: &Named<Issuer>) -> TestCaller {
    let claims: BTreeMap<String, serde_json::Value> = table
        .members("claims")
        .into_iter()
        .filter_map(|(name, node)| Some((name.to_owned(), table.as_json(node, name)?)))
        .collect();
    let token = table.secret("token", units::filled);
    let issuer = table.text("issuer", |name| {
        let unknown = |mend| Wrong::new("is not the name of an issuer", mend);
        issuers.find(name).map_err(unknown)
    });
    let has_claims = table.has("claims");
    if has_claims && table.has("token") {
        let mend = "leave one: claims are taken as verified, a token is verified";
        table.problem("token", "`token` stands beside `claims`", mend);
    }
    if has_claims && issuers.len() == 0 {
        let mend = "add an [[issuer]]";
        table.problem("claims", "`claims` are nobody's: there is no issuer", mend);
    }
    match token {
        Some(token) => TestCaller::Token(Secret::new(token)),
        None if has_claims => TestCaller::Claims(issuer.unwrap_or(0), claims),
        None => TestCaller::AsSent,
    }
}

/// A route's name; `""` where none matches.
fn route(name: &str, routes: &[&str]) -> Result<Option<Box<str>>, Wrong> {
    if name.is_empty() {
        return Ok(None);
    }
    if routes.contains(&name) {
        return Ok(Some(name.into()));
    }
    Err(Wrong::new(
        "is not the name of a route",
        suggest(name, routes),
    ))
}

fn reason(word: &str) -> Result<Refusal, Wrong> {
    Refusal::find(word).ok_or_else(|| {
        let words: Vec<_> = TABLE.iter().map(|row| row.word).collect();
        Wrong::new("is not the word of a refusal", suggest(word, &words))
    })
}
