//! The OpenAPI 3.1 document of whatever tables are added to it.

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::{Param, ParamPlace, Row, SchemaOf, Takes, Who};

/// A document in the making.
pub struct Document {
    paths: Map<String, Value>,
    security: Map<String, Value>,
    tags: Vec<Value>,
    requests: SchemaGenerator,
    replies: SchemaGenerator,
}

/// What the calls of one table share.
#[derive(Clone, Copy, Debug)]
pub struct Part<'p> {
    /// Its name: groups the calls, and begins their ids.
    pub tag: &'static str,
    /// What it is, in a line.
    pub what: &'static str,
    /// Where it stands: `/api/auth`.
    pub mount: &'p str,
    /// Where the credential may stand: any one of them is enough.
    pub credentials: &'static [Credential],
    /// The JSON of a failure.
    pub failure: SchemaOf,
}

/// A place for a credential, as the document knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// `Authorization: Bearer`.
    Bearer,
    /// A header of this name.
    Header(&'static str),
}

impl Default for Document {
    fn default() -> Self {
        Self::new()
    }
}

impl Document {
    /// A document without calls.
    pub fn new() -> Self {
        // Each schema stands where it is used: types of two APIs may have one name.
        let settings = || {
            SchemaSettings::draft2020_12().with(|settings| {
                settings.inline_subschemas = true;
                settings.meta_schema = None;
            })
        };
        Self {
            paths: Map::new(),
            security: Map::new(),
            tags: Vec::new(),
            requests: settings().for_deserialize().into_generator(),
            replies: settings().for_serialize().into_generator(),
        }
    }

    /// Adds the calls of a table.
    pub fn add<O: std::fmt::Debug>(&mut self, part: &Part<'_>, rows: &[Row<O>]) {
        if !self.tags.iter().any(|tag| tag["name"] == part.tag) {
            self.tags
                .push(json!({"name": part.tag, "description": part.what}));
        }
        for row in rows {
            let operation = self.operation(part, row);
            let path = format!("{}{}", part.mount, row.path);
            let path = match path.is_empty() {
                true => "/".to_owned(),
                false => path,
            };
            let methods = self.paths.entry(path).or_insert_with(|| json!({}));
            methods[row.method.as_str().to_ascii_lowercase()] = operation;
        }
    }

    /// The document.
    pub fn finish(self) -> Value {
        json!({
            "openapi": "3.1.0",
            "info": {
                "title": "Portcullis",
                "summary": "The gateway's own APIs",
                "version": env!("CARGO_PKG_VERSION"),
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "tags": self.tags,
            "paths": self.paths,
            "components": {"securitySchemes": self.security},
        })
    }

    fn operation<O: std::fmt::Debug>(&mut self, part: &Part<'_>, row: &Row<O>) -> Value {
        let mut operation = json!({
            "tags": [part.tag],
            "operationId": format!("{}:{:?}", part.tag, row.op),
            "summary": row.summary,
            "responses": self.responses(part, row),
        });
        if !row.params.is_empty() {
            operation["parameters"] = row.params.iter().map(|it| self.parameter(it)).collect();
        }
        if let Some(body) = self.body(row.takes) {
            operation["requestBody"] = body;
        }
        if row.who == Who::Holder {
            operation["security"] = part
                .credentials
                .iter()
                .map(|it| self.credential(*it))
                .collect();
        }
        operation
    }

    fn parameter(&mut self, param: &Param) -> Value {
        json!({
            "name": param.name,
            "in": match param.place {
                ParamPlace::Path => "path",
                ParamPlace::Query => "query",
                ParamPlace::Header => "header",
            },
            "required": param.place == ParamPlace::Path,
            "description": param.what,
            "schema": (param.schema)(&mut self.requests),
        })
    }

    fn body(&mut self, takes: Takes) -> Option<Value> {
        let (of, form, required) = match takes {
            Takes::Nothing => return None,
            Takes::Json(of) => (of, false, true),
            Takes::JsonOrNothing(of) => (of, false, false),
            Takes::JsonOrForm(of) => (of, true, true),
        };
        let schema = of(&mut self.requests);
        let mut content = json!({"application/json": {"schema": schema}});
        if form {
            content["application/x-www-form-urlencoded"] = json!({"schema": schema});
        }
        Some(json!({"required": required, "content": content}))
    }

    fn responses<O>(&mut self, part: &Part<'_>, row: &Row<O>) -> Value {
        let mut responses = Map::new();
        for answer in row.answers {
            let told = match answer.body {
                Some(of) => json!({"description": answer.what, "content": self.content(of)}),
                None => json!({"description": answer.what}),
            };
            responses.insert(answer.status.to_string(), told);
        }
        let content = self.content(part.failure);
        for status in row.failures() {
            let reason = http::StatusCode::from_u16(status);
            let reason = reason.ok().and_then(|status| status.canonical_reason());
            let told = json!({"description": reason.unwrap_or("Refused"), "content": content});
            // A call may have its own word for it.
            responses.entry(status.to_string()).or_insert(told);
        }
        Value::Object(responses)
    }

    fn content(&mut self, of: SchemaOf) -> Value {
        json!({"application/json": {"schema": of(&mut self.replies)}})
    }

    /// A requirement of the security scheme for this place, which is made known.
    fn credential(&mut self, credential: Credential) -> Value {
        let (name, scheme) = match credential {
            Credential::Bearer => ("bearer", json!({"type": "http", "scheme": "bearer"})),
            Credential::Header(name) => (
                name,
                json!({"type": "apiKey", "in": "header", "name": name}),
            ),
        };
        self.security.insert(name.to_owned(), scheme);
        json!({name: []})
    }
}
