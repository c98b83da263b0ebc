//! What the documents show is what the code takes.

use std::path::Path;

use portcullis::config;
use portcullis::refusal::Refusal;

#[test]
fn every_config_in_the_readme_is_one_that_the_gateway_takes() {
    let snippets: Vec<&str> = README
        .split("```toml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert!(!snippets.is_empty());
    for snippet in snippets {
        let secret = |_: &str| Some("b1946ac92492d2347c6235b4d2611184-of-the-test".to_owned());
        if let Err(problems) = config::parse(snippet, Path::new("README.md"), &secret) {
            panic!("{problems}\n{snippet}");
        }
    }
}

#[test]
fn every_refusal_that_the_readme_names_is_one_with_that_status() {
    let rows = README
        .lines()
        .skip_while(|line| !line.starts_with("## When it says no"))
        .filter_map(|line| line.strip_prefix("| `"));
    let mut seen = 0;
    for row in rows {
        let cells: Vec<&str> = row.split(" | ").collect();
        let words = cells[0].split(", ").map(|word| word.trim_matches('`'));
        let statuses: Vec<&str> = cells[1].split(", ").collect();
        for (at, word) in words.enumerate() {
            let status = statuses.get(at).unwrap_or(&statuses[0]);
            let refusal = Refusal::find(word).map(|refusal| refusal.status().as_str().to_owned());
            assert_eq!(refusal.as_deref(), Some(*status), "{word}");
            seen += 1;
        }
    }
    assert!(seen > 10, "{seen} words");
}

const README: &str = include_str!("../../README.md");
