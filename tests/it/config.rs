//! The configuration beside what it speaks of: patterns and the paths of requests.

use std::path::Path;

use portcullis::config::{self, Segment};
use portcullis::request::path::normalize;

#[test]
fn a_literal_pattern_is_spelt_as_the_path_that_it_matches() {
    for path in [
        "/a",
        "/a/",
        "/",
        "/%41%7e",
        "/a%20b",
        "/a%c3%a9",
        "/a!$&'()*+,=:@b",
        "/a.b",
    ] {
        let text = format!(
            "[[upstream]]\nname = \"app\"\nendpoints = [\"http://127.0.0.1:8000\"]\n\
             [[route]]\nname = \"a\"\npath = \"{path}\"\nupstream = \"app\"\nauth = \"public\"\n"
        );
        let config = config::parse(&text, Path::new("a.toml"), &|_| None).unwrap();
        let mut spelt = String::new();
        for segment in &config.routes[0].path.0 {
            let Segment::Literal(text) = segment else {
                panic!("{path} is literal");
            };
            spelt.push('/');
            spelt.push_str(text);
        }
        assert_eq!(spelt, normalize(path).unwrap(), "{path}");
    }
}

#[test]
fn the_reference_file_wants_one_variable_and_nothing_else() {
    let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/portcullis.toml");
    let text = std::fs::read_to_string(&reference).unwrap();
    let missing = config::parse(&text, &reference, &|_| None).unwrap_err();
    assert_eq!(missing.0.len(), 1, "{missing}");
    assert!(missing.to_string().contains("PORTCULLIS_JWT_SECRET"));
}

/// What the examples ask their environment for.
fn environment(name: &str) -> Option<String> {
    let value = match name.ends_with("_URL") {
        true => "https://project.example",
        false => "kQ7fT2vX9mLr4ZsW8nYb3HcJ6pDg1RaE",
    };
    Some(value.to_owned())
}

#[test]
fn every_example_is_a_config_without_problem() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let folders = std::fs::read_dir(examples).unwrap();
    let files = folders
        .filter_map(|folder| std::fs::read_dir(folder.unwrap().path()).ok())
        .flatten()
        .map(|file| file.unwrap().path())
        .filter(|file| {
            file.extension()
                .is_some_and(|extension| extension == "toml")
        });
    let mut seen = 0;
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let config = config::parse(&text, &file, &environment);
        config.unwrap_or_else(|problems| panic!("{problems}"));
        seen += 1;
    }
    assert!(seen > 0);
}
