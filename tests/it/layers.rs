//! The order of the house: a module uses only modules that stand below it in `src/lib.rs`.

use std::path::{Path, PathBuf};

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The modules in their order, top first.
fn order(root: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(root.join("lib.rs")).unwrap();
    let modules = text
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod "));
    modules
        .map(|name| name.trim_end_matches(';').to_owned())
        .collect()
}

/// Tests may look upwards: what they need to stand on is often above.
fn is_test(path: &Path) -> bool {
    let name = path.file_stem().unwrap().to_str().unwrap();
    name == "tests" || name.ends_with("_tests") || name == "testing"
}

/// The crate's modules that a text names, beside comments and tests.
fn named(text: &str) -> impl Iterator<Item = &str> {
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap();
    code.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| line.split("crate::").skip(1))
        .map(|rest| {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            &rest[..end.unwrap_or(rest.len())]
        })
}

#[test]
fn a_module_uses_only_modules_below_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let order = order(&root);
    let rank = |name: &str| order.iter().position(|known| known == name);
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut wrong = Vec::new();
    for file in files.iter().filter(|file| !is_test(file)) {
        let inner = file.strip_prefix(&root).unwrap();
        let own = inner.iter().next().unwrap().to_str().unwrap();
        let own = own.trim_end_matches(".rs");
        let Some(place) = rank(own) else {
            continue;
        };
        let text = std::fs::read_to_string(file).unwrap();
        for used in named(&text).filter(|used| *used != own) {
            if rank(used).is_some_and(|rank| rank < place) {
                wrong.push(format!(
                    "{} uses {used}, which stands above {own}",
                    inner.display()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(files.len() > 50, "the sources were found");
}
