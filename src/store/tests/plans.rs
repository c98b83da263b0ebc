//! How SQLite finds rows: what is called with each request must not look at more of them when there are more.

use rusqlite::Connection;

use super::{Folder, sqlite_at};
use crate::store::{open, sql};

/// What log-ins, refreshes and verifications run.
pub(super) const HOT: &[&str] = &[
    sql::ADD_USER,
    sql::WRITE_USER,
    sql::USER,
    sql::USER_BY_NAME,
    sql::USER_BY_EMAIL,
    sql::USERS_BY_EMAIL_CHANGE,
    sql::USER_BY_PHONE,
    sql::SIGN_IN,
    sql::ADD_SESSION,
    sql::RESUMABLE,
    sql::SESSION,
    sql::SESSION_BY_NUMBER,
    sql::WRITE_SESSION,
    sql::DELETE_SESSION,
    sql::END_SESSION,
    sql::END_SESSIONS_OF,
    sql::END_OTHER_SESSIONS,
    sql::END_LOG_INS_OF,
    sql::END_OTHER_LOG_INS,
    sql::END_SURPLUS_SESSIONS,
    sql::TOUCH_SESSION,
    sql::ADD_TOKEN,
    sql::TOKEN_OWNER,
    sql::REVOKE_TOKEN,
    sql::REVOKE_TOKENS_OF_SESSION,
    sql::REVOKE_TOKENS_OF,
    sql::REVOKE_OTHER_TOKENS,
    sql::REVOKE_SURPLUS_TOKENS,
    sql::PUT_CODE,
    sql::TAKE_CODE,
    sql::TAKE_LINK,
    sql::VOID_CODES,
    sql::NEWEST_KEY,
    sql::ADD_JOB,
    sql::JOB,
    sql::WRITE_JOB,
    sql::JOBS_OF,
    sql::GONE,
];

/// What may take longer, but looks at no more than it must: a page, or what is stale.
pub(super) const WARM: &[&str] = &[
    sql::DELETE_JOBS_OF_USER,
    sql::DELETE_USER,
    sql::STALE_SESSIONS,
    sql::PRUNE_SESSION,
    sql::FORGOTTEN_USERS,
    sql::PRUNE_USER,
    sql::OLD_CODES,
    sql::PRUNE_CODE,
    sql::PRUNE_OLD_JOBS,
    sql::FORGET_GONE,
];

/// What goes through all rows, or the few keys that there are.
const COLD: &[&str] = &[
    sql::USERS_NEWEST_FIRST,
    sql::USERS_OLDEST_FIRST,
    sql::COUNT_USERS,
    sql::SESSIONS_OF,
    sql::KEYS,
    sql::END_KEYS,
    sql::ADD_KEY,
    sql::REMOVE_KEYS,
    sql::CROWDED_USERS,
    sql::PRUNE_CROWD,
];

fn database(folder: &Folder) -> Connection {
    let path = folder.file("a.db");
    drop(open(&sqlite_at(&path)).unwrap());
    Connection::open(path).unwrap()
}

/// The steps of a statement's plan.
fn plan(database: &Connection, sql: &str) -> Vec<String> {
    let mut statement = database
        .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
        .unwrap();
    let mut rows = statement.raw_query();
    let mut steps = Vec::new();
    while let Some(row) = rows.next().unwrap() {
        steps.push(row.get("detail").unwrap());
    }
    steps
}

#[test]
fn no_call_of_a_request_scans_or_sorts() {
    let folder = Folder::new();
    let database = database(&folder);
    // A plan is read rightly: this one does go through all.
    assert!(plan(&database, sql::COUNT_USERS)[0].starts_with("SCAN"));
    for sql in HOT.iter().chain(WARM) {
        for step in plan(&database, sql) {
            // The newest key is the first step of a walk that ends there; so is a single constant row.
            let bounded = step.contains("CONSTANT ROW") || *sql == sql::NEWEST_KEY;
            let slow = step.starts_with("SCAN") || step.contains("B-TREE");
            assert!(bounded || !slow, "{sql}\n{step}");
        }
    }
}

#[test]
fn parameters_are_numbered_as_they_come() {
    let folder = Folder::new();
    let database = database(&folder);
    for sql in HOT.iter().chain(WARM).chain(COLD) {
        let statement = database.prepare(sql).unwrap();
        for at in 1..=statement.parameter_count() {
            let wanted = format!("${at}");
            assert_eq!(statement.parameter_name(at), Some(&*wanted), "{sql}");
        }
    }
}
