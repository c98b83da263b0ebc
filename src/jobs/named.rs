//! What a request names: the ids in its path, its query, or its JSON body, each read in the one way in which it can be
//! read. What could be read in two ways is refused, because the upstream might take the other.

use std::borrow::Cow;
use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_ENCODING;
use http::{HeaderMap, Method};
use http_body::Body as HttpBody;
use serde_json::Value;

use super::capture;
use super::watch::Note;
use crate::body::{Body, BodyError};
use crate::config::{GuardPlace, Pointer, Step};
use crate::identity::json;
use crate::refusal::Refusal;
use crate::request::path;

/// A request as far as jobs are concerned.
pub struct Naming<'r> {
    /// Its method.
    pub method: &'r Method,
    /// Its headers.
    pub headers: &'r HeaderMap,
    /// Its query as it will be sent.
    pub query: Option<&'r str>,
    /// The parameters of its path, as they stand in it.
    pub params: &'r dyn Fn(&str) -> Option<&'r str>,
    /// Its body; where it is read here, what was read stands in its place.
    pub body: &'r mut Body,
    /// How long the body may be silent.
    pub body_timeout: Duration,
    /// Which job it is about, for its line.
    pub note: Note,
}

/// What a place names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// These.
    Names(Vec<Box<str>>),
    /// Nothing stands there.
    Nothing,
}

impl Naming<'_> {
    /// A parameter of the path, decoded once.
    pub fn param(&self, name: &str) -> Option<Box<str>> {
        let value = path::percent_decode((self.params)(name)?)?;
        capture::name(&value)
    }

    /// What stands at this place.
    ///
    /// # Errors
    /// `JobAmbiguous` where it can be read in two ways; what reading a body may end with.
    pub async fn read(&mut self, place: &GuardPlace) -> Result<Named, Refusal> {
        match place {
            GuardPlace::Path(names) => in_path(self.params, names),
            GuardPlace::Query(names) => in_query(self.query.unwrap_or_default(), names),
            GuardPlace::Body(pointers, most) => {
                if self.headers.contains_key(CONTENT_ENCODING) {
                    return Err(Refusal::JobAmbiguous);
                }
                let body = self.read_body(*most).await?;
                in_body(&body, pointers)
            }
        }
    }

    /// The body, which then stands in its own place again. One that is sent without a length has one from then on.
    async fn read_body(&mut self, most: usize) -> Result<Bytes, Refusal> {
        if let Body::Full(bytes) = self.body {
            return Ok(bytes.clone().unwrap_or_default());
        }
        let lower = self.body.size_hint().lower();
        if lower > most as u64 {
            return Err(Refusal::BodyTooLarge);
        }
        let mut read = BytesMut::new();
        loop {
            let frame = poll_fn(|cx| Pin::new(&mut *self.body).poll_frame(cx));
            let frame = tokio::time::timeout(self.body_timeout, frame).await;
            let Some(frame) = frame.map_err(|_| Refusal::BodyTimeout)? else {
                break;
            };
            let frame = frame.map_err(|error| match error {
                BodyError::TooLarge => Refusal::BodyTooLarge,
                BodyError::TimedOut => Refusal::BodyTimeout,
                _ => Refusal::RequestMalformed,
            })?;
            if let Ok(chunk) = frame.into_data() {
                if read.len() + chunk.len() > most {
                    return Err(Refusal::BodyTooLarge);
                }
                read.extend_from_slice(&chunk);
            }
        }
        let bytes = read.freeze();
        *self.body = Body::full(bytes.clone());
        Ok(bytes)
    }
}

/// Parts that make one name; parts that can name nothing name nothing of the caller's.
fn one(parts: &[Box<str>]) -> Result<Named, Refusal> {
    let name = capture::composite(parts).ok_or(Refusal::NotOwner)?;
    Ok(Named::Names(vec![name]))
}

/// The parameters of the path, decoded once.
pub(super) fn in_path<'p>(
    params: &dyn Fn(&str) -> Option<&'p str>,
    names: &[Box<str>],
) -> Result<Named, Refusal> {
    let parts = names
        .iter()
        .map(|name| Some(path::percent_decode(params(name)?)?.into()));
    let parts: Option<Vec<Box<str>>> = parts.collect();
    one(&parts.ok_or(Refusal::NotOwner)?)
}

/// The parameters of these names, each there once.
pub(super) fn in_query(
    query: &str,
    names: &[(Box<str>, Option<Box<str>>)],
) -> Result<Named, Refusal> {
    let mut found: Vec<Option<Box<str>>> = vec![None; names.len()];
    // Some take a semicolon for an ampersand (HTML 4.01, B.2.2): what is behind one is looked at too.
    for pair in query.split('&') {
        for (at, part) in pair.split(';').enumerate() {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let name = form_decode(name).ok_or(Refusal::JobAmbiguous)?;
            let Some(place) = names.iter().position(|(known, _)| alike(known, &name)) else {
                continue;
            };
            let exact = *names[place].0 == *name && at == 0 && !pair.contains(';');
            if !exact || found[place].is_some() {
                return Err(Refusal::JobAmbiguous);
            }
            let value = form_decode(value).ok_or(Refusal::JobAmbiguous)?;
            found[place] = Some(value.into());
        }
    }
    if found.iter().all(Option::is_none) {
        let whole: Option<Vec<Box<str>>> = names.iter().map(|(_, it)| it.clone()).collect();
        return match whole {
            Some(parts) => one(&parts),
            None => Ok(Named::Nothing),
        };
    }
    let parts = found
        .into_iter()
        .zip(names)
        .map(|(value, (_, default))| value.or_else(|| default.clone()));
    let parts: Option<Vec<Box<str>>> = parts.collect();
    one(&parts.ok_or(Refusal::NotOwner)?)
}

/// Whether an upstream may take `name` for `known`: in another case, as a list (`name[]`), or as a part of one.
fn alike(known: &str, name: &str) -> bool {
    let name = name.trim();
    let name = name.split('[').next().unwrap_or_default();
    name.eq_ignore_ascii_case(known)
}

/// As forms encode: `+` is a space.
fn form_decode(text: &str) -> Option<Cow<'_, str>> {
    match text.contains('+') {
        false => path::percent_decode(text),
        true => {
            let spaced = text.replace('+', " ");
            path::percent_decode(&spaced).map(|text| Cow::Owned(text.into_owned()))
        }
    }
}

/// The members at these pointers.
fn in_body(body: &[u8], pointers: &[Pointer]) -> Result<Named, Refusal> {
    if body.trim_ascii().is_empty() {
        return Ok(Named::Nothing);
    }
    let document = json::parse(body).map_err(|_| Refusal::JobAmbiguous)?;
    for pointer in pointers {
        if !is_plain(pointer, &document) {
            return Err(Refusal::JobAmbiguous);
        }
    }
    let there = |pointer: &Pointer| -> Vec<Value> {
        let found = pointer.find(&document).into_iter();
        found.filter(|value| !value.is_null()).cloned().collect()
    };
    let id = |value: &Value| capture::id(value).ok_or(Refusal::NotOwner);
    match pointers {
        [only] => {
            let names: Vec<Box<str>> = there(only).iter().map(id).collect::<Result<_, _>>()?;
            match names.is_empty() {
                true => Ok(Named::Nothing),
                false => Ok(Named::Names(names)),
            }
        }
        several => {
            let found: Vec<Vec<Value>> = several.iter().map(there).collect();
            if found.iter().all(Vec::is_empty) {
                return Ok(Named::Nothing);
            }
            let parts = found.iter().map(|values| match &values[..] {
                [value] => id(value),
                _ => Err(Refusal::NotOwner),
            });
            one(&parts.collect::<Result<Vec<_>, _>>()?)
        }
    }
}

/// Whether there is one member for each step: some readers of JSON take `Prompt_ID` for `prompt_id`.
fn is_plain(pointer: &Pointer, document: &Value) -> bool {
    let mut at = vec![document];
    for step in &pointer.0 {
        if let Step::Into(name) = step {
            for value in &at {
                let members = value.as_object().into_iter().flatten();
                let other = |key: &str| key != &**name && key.eq_ignore_ascii_case(name);
                if members.into_iter().any(|(key, _)| other(key)) {
                    return false;
                }
            }
        }
        let one = Pointer(Box::new([step.clone()]));
        at = at.into_iter().flat_map(|value| one.find(value)).collect();
    }
    true
}

#[cfg(test)]
mod tests;
