//! `portcullis check FILE`: names every problem of a configuration, with its line and its mend.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;

use crate::clock::Clock;
use crate::config::{self, Config, Problem};
use crate::gate::Gate;
use crate::rehearsal::run_tests;
use crate::resources::Resources;

/// Checks a configuration file and runs its tests; starts nothing.
#[derive(Debug, clap::Args)]
pub struct Check {
    /// The configuration [default: $PORTCULLIS_CONFIG, else portcullis.toml]
    #[arg(conflicts_with = "config")]
    file: Option<PathBuf>,
    /// The same, as the other commands take it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How problems are printed.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
}

/// How problems are printed.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Format {
    /// For eyes.
    Human,
    /// One JSON object: `{"ok","problems","warnings"}`.
    Json,
}

/// Checks that need more than the file: what the router finds shadowed, `[[test]]` blocks that fail.
const FURTHER: &[fn(&Config) -> Vec<Problem>] = &[assemble];

/// Builds the gate and runs its tests, with nothing fetched.
fn assemble(config: &Config) -> Vec<Problem> {
    let resources = Resources::offline(Clock::System);
    let tested = Gate::build(config.clone(), &resources).and_then(|gate| run_tests(&gate));
    tested.err().map_or_else(Vec::new, |problems| problems.0)
}

/// Prints what is wrong and what is doubtful. The code is 1 if anything is wrong.
pub fn run(args: Check) -> anyhow::Result<ExitCode> {
    let file = config_path(args.file.or(args.config));
    let findings = Findings::of(&file);
    let mut text = Vec::new();
    match args.format {
        Format::Human => findings.print_human(&file, &mut text)?,
        Format::Json => findings.print_json(&mut text)?,
    }
    super::say(text)?;
    Ok(match findings.problems.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// The configuration to use: what was given, else `PORTCULLIS_CONFIG`, else `portcullis.toml` here.
pub(crate) fn config_path(given: Option<PathBuf>) -> PathBuf {
    given
        .or_else(|| std::env::var_os("PORTCULLIS_CONFIG").map(PathBuf::from))
        .unwrap_or_else(|| PathBuf::from("portcullis.toml"))
}

struct Findings {
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
}

impl Findings {
    fn of(file: &Path) -> Self {
        match config::load(file) {
            Ok(config) => Self {
                problems: FURTHER.iter().flat_map(|check| check(&config)).collect(),
                warnings: config.warnings,
            },
            Err(problems) => Self {
                problems: problems.0,
                warnings: Vec::new(),
            },
        }
    }

    fn print_human(&self, file: &Path, out: &mut impl Write) -> std::io::Result<()> {
        for problem in &self.problems {
            writeln!(out, "{problem}")?;
        }
        for warning in &self.warnings {
            writeln!(out, "warning: {warning}")?;
        }
        match self.problems.len() {
            0 => writeln!(out, "{} is good", file.display()),
            1 => writeln!(out, "1 problem"),
            many => writeln!(out, "{many} problems"),
        }
    }

    fn print_json(&self, out: &mut impl Write) -> std::io::Result<()> {
        let list = |problems: &[Problem]| -> Vec<_> { problems.iter().map(as_json).collect() };
        let findings = json!({
            "ok": self.problems.is_empty(),
            "problems": list(&self.problems),
            "warnings": list(&self.warnings),
        });
        writeln!(out, "{findings:#}")
    }
}

fn as_json(problem: &Problem) -> serde_json::Value {
    json!({
        "file": problem.file.display().to_string(),
        "line": problem.line,
        "what": problem.what,
        "mend": problem.mend,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_there_is_a_problem_in_both_formats() {
        let file = Path::new("/nonexistent/portcullis.toml");
        let findings = Findings::of(file);
        let mut human = Vec::new();
        findings.print_human(file, &mut human).unwrap();
        let human = String::from_utf8(human).unwrap();
        assert!(
            human.starts_with("/nonexistent/portcullis.toml: cannot be read"),
            "{human}"
        );
        assert!(human.ends_with("1 problem\n"), "{human}");
        let mut json = Vec::new();
        findings.print_json(&mut json).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(json["ok"], false);
        assert_eq!(json["problems"][0]["line"], 0);
    }
}
