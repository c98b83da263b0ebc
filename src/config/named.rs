//! A list of tables that are called by name: found by name, no name twice. An entry that could not be
//! read keeps its name and place, so that what refers to it is not reported as well.

use super::raw::{Table, suggest};

/// Entries in the order of the file.
pub(super) struct Named<T>(Vec<(Box<str>, Option<T>)>);

impl<T> Named<T> {
    /// Reads each of `tables`; `key` is the list's name, for problems.
    pub(super) fn read(
        tables: Vec<Table<'_>>,
        mut read: impl FnMut(&mut Table<'_>, Box<str>) -> Option<T>,
    ) -> Self {
        let mut entries: Vec<(Box<str>, Option<T>)> = Vec::new();
        for mut table in tables {
            let name = name(&mut table, |name| {
                entries.iter().any(|(known, _)| **known == *name)
            });
            let entry = read(&mut table, name.clone().unwrap_or_default());
            entries.push((name.unwrap_or_default(), entry));
        }
        Self(entries)
    }

    /// Adds an entry of no table at the end.
    pub(super) fn push(&mut self, name: &str, entry: T) {
        self.0.push((name.into(), Some(entry)));
    }

    /// The index of the entry called `name`, or a suggestion.
    pub(super) fn find(&self, name: &str) -> Result<usize, String> {
        let names: Vec<&str> = self.0.iter().map(|(name, _)| &**name).collect();
        names
            .iter()
            .position(|known| *known == name)
            .ok_or_else(|| suggest(name, &names))
    }

    /// The entries that could be read, with their indexes.
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        self.0
            .iter()
            .enumerate()
            .filter_map(|(at, (_, entry))| Some((at, entry.as_ref()?)))
    }

    /// The entry at `index`, if it could be read.
    pub(super) fn get(&self, index: usize) -> Option<&T> {
        self.0.get(index)?.1.as_ref()
    }

    /// How many there are, readable or not.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The entries that could be read.
    pub(super) fn into_values(self) -> Vec<T> {
        self.0.into_iter().filter_map(|(_, entry)| entry).collect()
    }
}

/// Reads `name`, which must be there and be nobody else's.
pub(super) fn name(table: &mut Table<'_>, taken: impl Fn(&str) -> bool) -> Option<Box<str>> {
    let name = table.text("name", super::units::name);
    table.require("name", "\"…\"");
    if name.as_deref().is_some_and(taken) {
        table.problem("name", "`name` is taken by another above", "choose another");
    }
    name
}
