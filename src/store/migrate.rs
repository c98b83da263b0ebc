//! The steps that bring a database to the form that this version knows: forward only, each once, none changed after
//! it was applied. What the engines do with them is theirs; which are due is decided here.

/// A step: its number, its name and its SQL.
pub(super) struct Migration {
    pub(super) version: i64,
    pub(super) name: &'static str,
    pub(super) sql: &'static str,
}

/// The steps of SQLite, in their order.
pub(super) const SQLITE: &[Migration] = &[
    Migration {
        version: 1,
        name: "accounts",
        sql: include_str!("migrations/sqlite/0001_accounts.sql"),
    },
    Migration {
        version: 2,
        name: "ends",
        sql: include_str!("migrations/sqlite/0002_ends.sql"),
    },
    Migration {
        version: 3,
        name: "owners",
        sql: include_str!("migrations/sqlite/0003_owners.sql"),
    },
    Migration {
        version: 4,
        name: "email_change",
        sql: include_str!("migrations/sqlite/0004_email_change.sql"),
    },
    Migration {
        version: 5,
        name: "invited",
        sql: include_str!("migrations/sqlite/0005_invited.sql"),
    },
    Migration {
        version: 6,
        name: "surplus",
        sql: include_str!("migrations/sqlite/0006_surplus.sql"),
    },
    Migration {
        version: 7,
        name: "bans",
        sql: include_str!("migrations/sqlite/0007_bans.sql"),
    },
];

/// The steps of PostgreSQL, in their order.
pub(super) const POSTGRES: &[Migration] = &[
    Migration {
        version: 1,
        name: "accounts",
        sql: include_str!("migrations/postgres/0001_accounts.sql"),
    },
    Migration {
        version: 2,
        name: "ends",
        sql: include_str!("migrations/postgres/0002_ends.sql"),
    },
    Migration {
        version: 3,
        name: "owners",
        sql: include_str!("migrations/postgres/0003_owners.sql"),
    },
    Migration {
        version: 4,
        name: "email_change",
        sql: include_str!("migrations/postgres/0004_email_change.sql"),
    },
    Migration {
        version: 5,
        name: "invited",
        sql: include_str!("migrations/postgres/0005_invited.sql"),
    },
    Migration {
        version: 6,
        name: "surplus",
        sql: include_str!("migrations/postgres/0006_surplus.sql"),
    },
    Migration {
        version: 7,
        name: "bans",
        sql: include_str!("migrations/postgres/0007_bans.sql"),
    },
];

/// Where a database notes what was applied to it.
pub(super) const NOTES: &str = "CREATE TABLE IF NOT EXISTS migrations ( \
    version BIGINT PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL)";
/// What was applied, in its order.
pub(super) const APPLIED: &str = "SELECT version, checksum FROM migrations ORDER BY version";
/// Notes a step.
pub(super) const NOTE: &str =
    "INSERT INTO migrations (version, name, checksum) VALUES ($1, $2, $3)";

/// Why a database is not one of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Foreign {
    /// It has steps that this version does not know.
    #[error(
        "its form is number {found}, and this version of portcullis knows {known}: start the version that made it, or a newer one"
    )]
    Newer {
        /// The last step in the database.
        found: i64,
        /// The last step of this version.
        known: i64,
    },
    /// A step was not what it is here.
    #[error("step {0} of its form is not the one that this version of portcullis has")]
    Changed(i64),
}

impl Migration {
    /// The SHA-256 of its SQL, in hexadecimal.
    pub(super) fn checksum(&self) -> String {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, self.sql.as_bytes());
        let mut text = String::with_capacity(64);
        for byte in digest.as_ref() {
            text.push_str(&format!("{byte:02x}"));
        }
        text
    }
}

/// Which of `known` are still to be applied, where `applied` were.
pub(super) fn due<'m>(
    known: &'m [Migration],
    applied: &[(i64, Box<str>)],
) -> Result<&'m [Migration], Foreign> {
    let last = known.last().map_or(0, |migration| migration.version);
    for (at, (version, checksum)) in applied.iter().enumerate() {
        if *version > last {
            let found = applied.last().map_or(*version, |(version, _)| *version);
            return Err(Foreign::Newer { found, known: last });
        }
        let same = known.get(at).is_some_and(|migration| {
            migration.version == *version && *migration.checksum() == **checksum
        });
        if !same {
            return Err(Foreign::Changed(*version));
        }
    }
    Ok(&known[applied.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: [Migration; 2] = [step(1, "a"), step(2, "b")];

    const fn step(version: i64, sql: &'static str) -> Migration {
        Migration {
            version,
            name: "step",
            sql,
        }
    }

    fn applied(steps: &[Migration]) -> Vec<(i64, Box<str>)> {
        steps
            .iter()
            .map(|step| (step.version, step.checksum().into()))
            .collect()
    }

    #[test]
    fn what_was_not_applied_is_due() {
        for done in 0..=2 {
            let due = due(&STEPS, &applied(&STEPS[..done])).unwrap();
            assert_eq!(due.len(), 2 - done);
        }
    }

    #[test]
    fn a_newer_database_is_refused() {
        let newer = applied(&[step(1, "a"), step(2, "b"), step(3, "c")]);
        let refused = due(&STEPS, &newer).err();
        assert_eq!(refused, Some(Foreign::Newer { found: 3, known: 2 }));
    }

    #[test]
    fn a_step_that_was_another_is_refused() {
        let refused = due(&STEPS, &applied(&[step(1, "other")])).err();
        assert_eq!(refused, Some(Foreign::Changed(1)));
    }

    #[test]
    fn steps_are_numbered_without_a_gap_and_the_engines_have_the_same() {
        for steps in [SQLITE, POSTGRES] {
            let numbers: Vec<i64> = steps.iter().map(|step| step.version).collect();
            let wanted: Vec<i64> = (1..).take(steps.len()).collect();
            assert_eq!(numbers, wanted);
        }
        let names = |steps: &[Migration]| steps.iter().map(|step| step.name).collect::<Vec<_>>();
        assert_eq!(names(SQLITE), names(POSTGRES));
    }
}
