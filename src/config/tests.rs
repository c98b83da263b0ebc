//! The whole check: from a text to a `Config`, or to its problems.

use std::path::Path;

use super::*;

/// Good for HS256 and nowhere else.
const SECRET: &str = "kQ7fT2vX9mLr4ZsW8nYb3HcJ6pDg1RaE";

const MINIMAL: &str = r#"
[[issuer]]
name = "project"
iss = "https://project.example/auth/v1"
audience = ["authenticated"]
algorithms = ["HS256"]
secret = "${PORTCULLIS_JWT_SECRET}"

[[upstream]]
name = "app"
endpoints = ["http://127.0.0.1:8000"]

[[route]]
name = "generate"
path = "/api/v1/generate/{*rest}"
upstream = "app"
"#;

fn environment(name: &str) -> Option<String> {
    (name == "PORTCULLIS_JWT_SECRET").then(|| SECRET.to_owned())
}

fn check(text: &str) -> Result<Config, Problems> {
    parse(text, Path::new("portcullis.toml"), &environment)
}

#[test]
fn the_reference_file_loads_and_says_the_defaults_that_the_code_has() {
    let reference = check(include_str!("../../config/portcullis.toml")).unwrap();
    let minimal = check(MINIMAL).unwrap();
    let text = |config: &Config| {
        let mut config = config.clone();
        config.tests.clear();
        config.routes[0].line = 0;
        format!("{config:#?}")
    };
    assert_eq!(text(&reference), text(&minimal));
    assert!(reference.warnings.is_empty());
}
