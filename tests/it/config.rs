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
