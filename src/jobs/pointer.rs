//! What stands at a pointer in a JSON document.

use serde_json::Value;

use crate::config::{Pointer, Step};

impl Pointer {
    /// Everything that stands there, in the order of the document: one thing at most where the pointer has no `*`.
    pub fn find<'v>(&self, document: &'v Value) -> Vec<&'v Value> {
        let mut found = vec![document];
        for step in &self.0 {
            found = found
                .into_iter()
                .flat_map(|value| next(step, value))
                .collect();
        }
        found
    }

    /// The first thing that stands there and is not null.
    pub fn first<'v>(&self, document: &'v Value) -> Option<&'v Value> {
        self.find(document)
            .into_iter()
            .find(|value| !value.is_null())
    }
}

fn next<'v>(step: &Step, value: &'v Value) -> Vec<&'v Value> {
    match (step, value) {
        (Step::Into(name), Value::Object(members)) => members.get(&**name).into_iter().collect(),
        (Step::Into(name), Value::Array(elements)) => index(name)
            .and_then(|at| elements.get(at))
            .into_iter()
            .collect(),
        (Step::Each, Value::Object(members)) => members.values().collect(),
        (Step::Each, Value::Array(elements)) => elements.iter().collect(),
        (Step::Deep, value) => {
            let mut all = Vec::new();
            gather(value, &mut all);
            all
        }
        _ => Vec::new(),
    }
}

/// A value and all within it; as deep as JSON may nest here, which is bounded where it is read.
fn gather<'v>(value: &'v Value, all: &mut Vec<&'v Value>) {
    all.push(value);
    match value {
        Value::Array(elements) => elements.iter().for_each(|inner| gather(inner, all)),
        Value::Object(members) => members.values().for_each(|inner| gather(inner, all)),
        _ => {}
    }
}

/// RFC 6901 §4: digits without a leading zero.
fn index(name: &str) -> Option<usize> {
    let plain = name.bytes().all(|byte| byte.is_ascii_digit());
    let leading = name.len() > 1 && name.starts_with('0');
    name.parse().ok().filter(|_| plain && !leading)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// `*` for each.
    fn pointer(text: &str) -> Pointer {
        let steps = text.split('/').skip(1).map(|step| match step {
            "*" => Step::Each,
            "**" => Step::Deep,
            step => Step::Into(step.into()),
        });
        Pointer(steps.collect())
    }

    #[test]
    fn each_step_leads_into_a_member_an_element_or_all_of_them() {
        let document = json!({"a": [{"b": 1}, {"b": 2}, 3], "c": {"x": "y", "z": null}, "": 0});
        for (text, found) in [
            ("", vec![document.clone()]),
            ("/", vec![json!(0)]),
            ("/a/0/b", vec![json!(1)]),
            ("/a/01/b", vec![]),
            ("/a/-/b", vec![]),
            ("/a/+1/b", vec![]),
            ("/a/*/b", vec![json!(1), json!(2)]),
            ("/c/*", vec![json!("y"), json!(null)]),
            ("/c/x/y", vec![]),
            ("/d", vec![]),
            ("/**/b", vec![json!(1), json!(2)]),
            ("/c/**/x", vec![json!("y")]),
            ("/a/2/**", vec![json!(3)]),
        ] {
            let at: Vec<Value> = pointer(text).find(&document).into_iter().cloned().collect();
            assert_eq!(at, found, "{text}");
        }
        assert_eq!(pointer("/c/z").first(&document), None);
    }
}
