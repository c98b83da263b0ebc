//! Where a gateway stands in the stream, and whether it missed something.

use redis::{RedisResult, Value};

use super::{BATCH, GAP, Heard, NEWS};

/// A place in the stream of one run of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    run: String,
    last: Id,
}

/// What was found in the stream.
#[derive(Debug)]
pub(super) struct Found {
    run: String,
    oldest: Id,
    newest: Id,
    pub(super) entries: Vec<Entry>,
}

/// What one gateway told at once.
#[derive(Debug)]
pub(super) struct Entry {
    id: Id,
    pub(super) from: String,
    fields: Vec<(String, String)>,
}

/// The number of an entry: milliseconds, and which of that millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Id(u64, u64);

impl Place {
    /// The place after what was found, and whether something may have been missed since the one before. Whoever comes
    /// for the first time stands at the newest and has missed nothing.
    pub(super) fn after(before: Option<Self>, found: &Found) -> (Self, bool) {
        let run = found.run.clone();
        let Some(before) = before else {
            let last = found.newest;
            return (Self { run, last }, false);
        };
        // Another run of a server may have lost what the one before had acknowledged.
        let gap = before.run != run || found.newest < before.last || before.last < found.oldest;
        let last = match found.entries.last() {
            Some(entry) => entry.id,
            None => before.last.min(found.newest),
        };
        (Self { run, last }, gap)
    }

    /// The number of the last entry that was seen.
    pub(super) fn last(&self) -> String {
        format!("{}-{}", self.last.0, self.last.1)
    }
}

impl Found {
    pub(super) fn read(answer: Value) -> RedisResult<Self> {
        type Row = (String, Vec<(String, String)>);
        let (run, oldest, newest, rows): (String, String, String, Vec<Row>) =
            redis::from_redis_value(answer)?;
        let entries = rows
            .into_iter()
            .map(|(id, fields)| Entry::read(&id, fields));
        Ok(Self {
            run,
            oldest: Id::read(&oldest)?,
            newest: Id::read(&newest)?,
            entries: entries.collect::<RedisResult<_>>()?,
        })
    }

    /// Whether there may be more behind it.
    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= BATCH
    }
}

impl Entry {
    fn read(id: &str, mut fields: Vec<(String, String)>) -> RedisResult<Self> {
        let id = Id::read(id)?;
        let from = match fields.is_empty() {
            true => String::new(),
            false => fields.remove(0).1,
        };
        Ok(Self { id, from, fields })
    }

    /// Tells what it says.
    pub(super) fn tell(&self, ear: impl Fn(Heard<'_>)) {
        for (name, value) in &self.fields {
            match name.as_str() {
                NEWS => ear(Heard::News(value)),
                GAP => ear(Heard::Gap),
                // A later version's; what it means is not known, so that something is missing.
                _ => ear(Heard::Gap),
            }
        }
    }
}

impl Id {
    fn read(text: &str) -> RedisResult<Self> {
        let wrong = || std::io::Error::from(std::io::ErrorKind::InvalidData);
        let (millis, which) = text.split_once('-').ok_or_else(wrong)?;
        let number = |text: &str| text.parse().map_err(|_| wrong());
        Ok(Self(number(millis)?, number(which)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(run: &str, oldest: u64, newest: u64, entries: &[u64]) -> Found {
        let entry = |id: &u64| Entry {
            id: Id(*id, 0),
            from: String::new(),
            fields: Vec::new(),
        };
        Found {
            run: run.to_owned(),
            oldest: Id(oldest, 0),
            newest: Id(newest, 0),
            entries: entries.iter().map(entry).collect(),
        }
    }

    fn at(run: &str, last: u64) -> Place {
        Place {
            run: run.to_owned(),
            last: Id(last, 0),
        }
    }

    #[test]
    fn what_was_missed_is_known_by_the_place() {
        for (case, before, found, after, gap) in [
            ("first", None, found("a", 1, 9, &[]), at("a", 9), false),
            (
                "quiet",
                Some(at("a", 9)),
                found("a", 1, 9, &[]),
                at("a", 9),
                false,
            ),
            (
                "news",
                Some(at("a", 9)),
                found("a", 9, 12, &[10, 12]),
                at("a", 12),
                false,
            ),
            (
                "more to come",
                Some(at("a", 9)),
                found("a", 2, 20, &[10, 11]),
                at("a", 11),
                false,
            ),
            (
                "cut off",
                Some(at("a", 9)),
                found("a", 10, 12, &[10, 12]),
                at("a", 12),
                true,
            ),
            (
                "restarted",
                Some(at("a", 9)),
                found("b", 1, 9, &[]),
                at("b", 9),
                true,
            ),
            (
                "restarted empty",
                Some(at("a", 9)),
                found("b", 20, 20, &[20]),
                at("b", 20),
                true,
            ),
            (
                "emptied",
                Some(at("a", 9)),
                found("a", 5, 5, &[]),
                at("a", 5),
                true,
            ),
        ] {
            assert_eq!(Place::after(before, &found), (after, gap), "{case}");
        }
    }

    #[test]
    fn numbers_are_compared_as_numbers() {
        let id = |text: &str| Id::read(text).unwrap();
        assert!(id("9-0") < id("10-0") && id("10-2") < id("10-10"));
        for text in ["", "1", "1-", "-1", "a-0", "1-0-0"] {
            assert!(Id::read(text).is_err(), "{text}");
        }
    }
}
