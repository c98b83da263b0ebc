//! What is wrong with a configuration, where, and how to mend it; all of it at once.

use std::cell::RefCell;
use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::shape::{Key, Keys, Kind};

/// One thing that is wrong, or for a warning: that is probably not meant. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file that holds it.
    pub file: Arc<Path>,
    /// The line, from 1; 0 where it has none (a file that cannot be read).
    pub line: usize,
    /// What is wrong: `[route "x"] unknown key `pth``.
    pub what: String,
    /// How to mend it; empty where `what` says it all.
    pub mend: String,
}

/// Every problem of a configuration that is refused, in the order of lines. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        write!(f, ": {}", self.what)?;
        if self.mend.is_empty() {
            return Ok(());
        }
        write!(f, "\n    {}", self.mend)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Collects what the check of one file finds, and which files it read.
#[derive(Debug)]
pub(super) struct Report {
    file: Arc<Path>,
    problems: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Problem>>,
    files: RefCell<Vec<PathBuf>>,
    /// Every key that was asked for, whether the file has it or not.
    keys: RefCell<Keys>,
}

impl Report {
    /// An empty report about `file`.
    pub(super) fn new(file: &Path) -> Self {
        Self {
            file: file.into(),
            problems: RefCell::default(),
            warnings: RefCell::default(),
            files: RefCell::new(vec![file.to_path_buf()]),
            keys: RefCell::default(),
        }
    }

    /// Something is wrong: the configuration will be refused.
    pub(super) fn problem(&self, line: usize, what: impl Into<String>, mend: impl Into<String>) {
        self.problems.borrow_mut().push(self.note(line, what, mend));
    }

    /// Something is allowed, but probably not meant.
    pub(super) fn warning(&self, line: usize, what: impl Into<String>, mend: impl Into<String>) {
        self.warnings.borrow_mut().push(self.note(line, what, mend));
    }

    /// `name` as written in the file: relative to the file's folder. Remembered as a file to watch.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        let path = self.beside(name);
        let mut files = self.files.borrow_mut();
        if !files.contains(&path) {
            files.push(path.clone());
        }
        path
    }

    /// `name` relative to the file's folder, for a file that is not watched.
    pub(super) fn beside(&self, name: &str) -> PathBuf {
        self.file
            .parent()
            .map_or_else(|| PathBuf::from(name), |folder| folder.join(name))
    }

    /// The mode of the file, where others than its owner may open it.
    pub(super) fn open_to_others(&self) -> Option<u32> {
        let mode = std::fs::metadata(&self.file).ok()?.permissions().mode() & 0o777;
        (mode & 0o077 != 0).then_some(mode)
    }

    /// A key was asked for.
    pub(super) fn see(&self, path: String, kind: Kind) {
        self.keys.borrow_mut().entry(path).or_insert(Key {
            kind,
            required: false,
        });
    }

    /// A key must be there.
    pub(super) fn see_required(&self, path: &str) {
        if let Some(key) = self.keys.borrow_mut().get_mut(path) {
            key.required = true;
        }
    }

    /// Every key that was asked for.
    pub(super) fn into_keys(self) -> Keys {
        self.keys.into_inner()
    }

    /// The files read and the warnings, or every problem.
    pub(super) fn end(self) -> Result<(Vec<PathBuf>, Vec<Problem>), Problems> {
        if !self.problems.borrow().is_empty() {
            return Err(self.refuse());
        }
        let mut warnings = self.warnings.into_inner();
        warnings.sort_by_key(|warning| warning.line);
        Ok((self.files.into_inner(), warnings))
    }

    /// Every problem, in the order of lines.
    pub(super) fn refuse(self) -> Problems {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| problem.line);
        Problems(problems)
    }

    fn note(&self, line: usize, what: impl Into<String>, mend: impl Into<String>) -> Problem {
        Problem {
            file: Arc::clone(&self.file),
            line,
            what: what.into(),
            mend: mend.into(),
        }
    }
}
