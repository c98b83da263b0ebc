//! What is found in documents.

use serde_json::json;

use super::*;
use crate::config;

/// The capture of a route with these lines in `[[route.capture]]`.
pub(crate) fn capture(lines: &str) -> Capture {
    let route = route("/api/{job_id}", &format!("[[route.capture]]\n{lines}"));
    route.captures[0].clone()
}

/// A route of this path, with these tables.
pub(crate) fn route(path: &str, tables: &str) -> config::Route {
    let text = format!(
        r#"
        [[issuer]]
        name = "i"
        iss = "https://i.example"
        audience = ["a"]
        algorithms = ["HS256"]
        secret = "kQ7fT2vX9mLr4ZsW8nYb3HcJ6pDg1RaE"
        [[upstream]]
        name = "app"
        endpoints = ["http://127.0.0.1:1"]
        [[route]]
        name = "r"
        path = "{path}"
        upstream = "app"
        {tables}
        "#
    );
    let config = config::parse(&text, "c.toml".as_ref(), &|_| None).unwrap();
    config.routes[0].clone()
}

fn ids(lines: &str, document: &Value) -> Result<Vec<Box<str>>, Miss> {
    let findings = read(&capture(lines), document, Some("from the path"))?;
    Ok(findings.into_iter().map(|finding| finding.id).collect())
}

#[test]
fn a_job_is_found_with_all_that_is_told_of_it() {
    let capture = capture(
        r#"
        id = "/job_id"
        status = "/status"
        progress = "/progress"
        extra = { "aiDecisions.itemName" = "/ai/item", "aiDecisions.modName" = "/ai/mod", prompt = "/prompt" }
        files = ["/download_url", "/preview"]
        "#,
    );
    let document = json!({
        "job_id": "j1", "status": "done", "progress": 70, "ai": {"item": "Sword"}, "prompt": "a sword",
        "download_url": "https://x.example/downloads/a%20b.zip?sig=1", "preview": "p.png",
    });
    let found = read(&capture, &document, None).unwrap();
    let extra = json!({"aiDecisions": {"itemName": "Sword"}, "prompt": "a sword"});
    assert_eq!(
        found,
        [Finding {
            id: "j1".into(),
            status: Some("done".into()),
            progress: Some(json!(70)),
            extra: extra.as_object().unwrap().clone(),
            files: vec!["a b.zip".into(), "p.png".into()],
        }]
    );
}

#[test]
fn an_id_is_a_text_or_a_whole_number() {
    let long = "x".repeat(513);
    for (id, found) in [
        (json!("a"), Ok("a")),
        (json!("a/../b c%2f"), Ok("a/../b c%2f")),
        (json!(12), Ok("12")),
        (json!(-1), Ok("-1")),
        (json!(null), Err(Miss::NoId)),
        (json!(1.5), Err(Miss::BadId)),
        (json!(true), Err(Miss::BadId)),
        (json!([]), Err(Miss::BadId)),
        (json!({"a": 1}), Err(Miss::BadId)),
        (json!(""), Err(Miss::BadId)),
        (json!("a\nb"), Err(Miss::BadId)),
        (json!("a\u{0}"), Err(Miss::BadId)),
        (json!(long), Err(Miss::BadId)),
    ] {
        let document = json!({"job_id": id});
        let found = found.map(|id| vec![id.into()]);
        assert_eq!(ids("id = \"/job_id\"", &document), found, "{document}");
    }
    assert_eq!(ids("id = \"/job_id\"", &json!([])), Err(Miss::NoId));
}

#[test]
fn an_answer_may_hold_many_jobs_and_the_path_may_hold_the_id() {
    let list = json!({"data": [{"id": "a"}, {"id": "b"}, {"no": 1}]});
    let both = Ok(vec!["a".into(), "b".into()]);
    assert_eq!(ids("jobs = \"/data/*\"\nid = \"/id\"", &list), both);
    assert_eq!(ids("id = \"/data/*/id\"", &list), both);
    let path = Ok(vec!["from the path".into()]);
    assert_eq!(ids("id = \"{job_id}\"", &json!({})), path);
    let many: Vec<Value> = (0..200).map(|at| json!({"id": at})).collect();
    let found = ids("id = \"/*/id\"", &json!(many)).unwrap();
    assert_eq!(found.len(), MOST_JOBS);
}

#[test]
fn files_may_be_named_by_several_parts() {
    let capture = capture(
        r#"
        id = "{job_id}"
        [[route.capture.file]]
        at = "/*/outputs/*/images/*"
        name = ["/type", "/subfolder", "/filename"]
        [[route.capture.file]]
        name = ["/*/text"]
        part = "whole"
        strip = "/tmp/"
        "#,
    );
    let image = |name: &str| json!({"filename": name, "subfolder": "", "type": "output"});
    let document = json!({"p1": {
        "outputs": {"9": {"images": [image("a.png"), image("b/c.png"), {"filename": "no type"}]}},
        "text": "/tmp/x/y.txt",
    }});
    let found = read(&capture, &document, Some("p1")).unwrap();
    let files: Vec<&str> = found[0].files.iter().map(|file| &**file).collect();
    assert_eq!(
        files,
        [
            r#"["output","","a.png"]"#,
            r#"["output","","b/c.png"]"#,
            "x/y.txt"
        ]
    );
}

#[test]
fn what_is_too_much_is_left_out() {
    let capture = capture("id = \"/id\"\nstatus = \"/status\"\nextra = { a = \"/a\", b = \"/b\" }");
    let document = json!({"id": 1, "status": "é".repeat(150), "a": "x".repeat(5000), "b": null});
    let found = read(&capture, &document, None).unwrap();
    assert_eq!(found[0].status.as_deref(), Some(&*"é".repeat(100)));
    assert!(found[0].extra.is_empty());
}
