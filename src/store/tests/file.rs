//! What SQLite alone must do: its file, its plans, its copies.

use std::os::unix::fs::PermissionsExt;

use super::{Folder, named, sqlite_at, unavailable, wait};
use crate::store::{OpenError, StoreError, open};

#[test]
fn the_file_and_those_beside_it_are_closed_to_others() {
    let folder = Folder::new();
    let store = open(&sqlite_at(&folder.file("a.db"))).unwrap();
    wait(store.add_user(named("ann"))).unwrap();
    for name in ["a.db", "a.db-wal", "a.db-shm"] {
        let mode = std::fs::metadata(folder.file(name)).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o600, "{name}");
    }
}

#[test]
fn many_may_make_the_file_at_once() {
    let folder = Folder::new();
    let config = sqlite_at(&folder.file("a.db"));
    let users = super::at_once(8, async |at| {
        let store = open(&config).unwrap();
        store.add_user(named(&format!("user{at}"))).await.unwrap()
    });
    let store = open(&config).unwrap();
    for user in users {
        assert_eq!(wait(store.user(user.id)).unwrap(), Some(user));
    }
}

#[test]
fn a_file_that_vanished_is_not_an_empty_store_and_comes_back() {
    let folder = Folder::new();
    let (path, away) = (folder.file("a.db"), folder.file("away.db"));
    let store = open(&sqlite_at(&path)).unwrap();
    let ann = wait(store.add_user(named("ann"))).unwrap();
    std::fs::rename(&path, &away).unwrap();
    assert!(unavailable(&wait(store.user(ann.id))));
    assert!(unavailable(&wait(store.add_user(named("bob")))));
    assert!(unavailable(&wait(store.ping())));
    assert!(!path.exists());
    std::fs::rename(&away, &path).unwrap();
    wait(store.ping()).unwrap();
    assert_eq!(wait(store.user(ann.id)).unwrap(), Some(ann));
    wait(store.add_user(named("bob"))).unwrap();
}

#[test]
fn another_file_in_its_place_is_taken_up_whole() {
    let folder = Folder::new();
    let (path, copy) = (folder.file("a.db"), folder.file("copy.db"));
    let store = open(&sqlite_at(&path)).unwrap();
    let ann = wait(store.add_user(named("ann"))).unwrap();
    wait(store.back_up(&copy)).unwrap();
    let bob = wait(store.add_user(named("bob"))).unwrap();
    std::fs::rename(&copy, &path).unwrap();
    assert_eq!(wait(store.user(bob.id)).unwrap(), None);
    assert_eq!(wait(store.user(ann.id)).unwrap(), Some(ann));
    wait(store.add_user(named("bob"))).unwrap();
}

#[test]
fn a_locked_database_is_unavailable_until_it_is_let_go() {
    let folder = Folder::new();
    let mut config = sqlite_at(&folder.file("a.db"));
    config.statement_timeout = std::time::Duration::from_millis(50);
    let store = open(&config).unwrap();
    let other = rusqlite::Connection::open(folder.file("a.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert!(unavailable(&wait(store.add_user(named("ann")))));
    assert!(unavailable(&wait(store.ping())));
    other.execute_batch("ROLLBACK").unwrap();
    wait(store.add_user(named("ann"))).unwrap();
}

#[test]
fn a_transaction_that_the_database_gives_up_harms_only_who_was_in_it() {
    let folder = Folder::new();
    let store = open(&sqlite_at(&folder.file("a.db"))).unwrap();
    let ann = wait(store.add_user(named("ann"))).unwrap();
    // As a full disk does, this ends the whole transaction and not the statement alone.
    let other = rusqlite::Connection::open(folder.file("a.db")).unwrap();
    let full = "CREATE TRIGGER full BEFORE INSERT ON users WHEN NEW.username = 'bob' \
                BEGIN SELECT RAISE(ROLLBACK, 'full'); END";
    other.execute_batch(full).unwrap();
    let results = super::at_once(20, async |at| {
        let name = if at == 0 {
            "bob".to_owned()
        } else {
            format!("u{at}")
        };
        let user = store.add_user(named(&name)).await.ok()?;
        Some((user.id, user))
    });
    assert_eq!(results[0], None);
    for (id, user) in results.into_iter().flatten() {
        assert_eq!(wait(store.user(id)).unwrap(), Some(user));
    }
    other.execute_batch("DROP TRIGGER full").unwrap();
    wait(store.add_user(named("bob"))).unwrap();
    assert_eq!(wait(store.user(ann.id)).unwrap(), Some(ann));
}

#[test]
fn a_copy_is_a_store_of_its_own() {
    let folder = Folder::new();
    let store = open(&sqlite_at(&folder.file("a.db"))).unwrap();
    let ann = wait(store.add_user(named("ann"))).unwrap();
    let copy = folder.file("copy.db");
    wait(store.back_up(&copy)).unwrap();
    let mode = std::fs::metadata(&copy).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(!folder.file("copy.db-wal").exists());
    let again = wait(store.back_up(&copy));
    assert!(matches!(again, Err(StoreError::Refused(_))), "{again:?}");
    let bob = wait(store.add_user(named("bob"))).unwrap();
    let copy = open(&sqlite_at(&copy)).unwrap();
    assert_eq!(wait(copy.user(ann.id)).unwrap(), Some(ann));
    assert_eq!(wait(copy.user(bob.id)).unwrap(), None);
}

#[test]
fn a_store_is_copied_while_it_is_written() {
    let folder = Folder::new();
    let store = open(&sqlite_at(&folder.file("a.db"))).unwrap();
    super::at_once(4, async |at| {
        if at == 0 {
            store.back_up(&folder.file("copy.db")).await.unwrap();
            return;
        }
        for round in 0..50 {
            store
                .add_user(named(&format!("u{at}x{round}")))
                .await
                .unwrap();
        }
    });
    let copy = rusqlite::Connection::open(folder.file("copy.db")).unwrap();
    let check: String = copy
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(check, "ok");
}

#[test]
fn a_file_of_a_newer_version_or_of_something_else_is_refused() {
    let folder = Folder::new();
    let path = folder.file("a.db");
    drop(open(&sqlite_at(&path)).unwrap());
    let newer = rusqlite::Connection::open(&path).unwrap();
    newer
        .execute("INSERT INTO migrations VALUES (1000, 'next', 'x')", [])
        .unwrap();
    drop(newer);
    let refused = open(&sqlite_at(&path)).err().unwrap();
    assert!(matches!(refused, OpenError::Foreign(_)));
    assert!(refused.to_string().contains("number 1000"), "{refused}");
    let text = folder.file("text.db");
    std::fs::write(
        &text,
        "this is no database at all, but a text of some length".repeat(20),
    )
    .unwrap();
    assert!(matches!(
        open(&sqlite_at(&text)),
        Err(OpenError::Unavailable(_))
    ));
    let nowhere = folder.file("no/such/folder/a.db");
    assert!(matches!(
        open(&sqlite_at(&nowhere)),
        Err(OpenError::Unavailable(_))
    ));
}
