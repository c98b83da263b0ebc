//! What PostgreSQL alone must do: be away and come back.

use std::time::Duration;

use super::server::{Server, database, execute, new_database, postgres_at};
use super::{Folder, named, unavailable, wait};
use crate::config;
use crate::store::{OpenError, StoreError, open};

/// A store that does not wait for long.
fn impatient(url: &str) -> config::Store {
    config::Store {
        connect_timeout: Duration::from_millis(500),
        statement_timeout: Duration::from_millis(500),
        ..postgres_at(url)
    }
}

#[test]
fn a_server_that_hangs_is_unavailable_until_it_goes_on() {
    let Some(server) = Server::start() else {
        return;
    };
    let store = open(&impatient(&server.url("postgres"))).unwrap();
    let ann = wait(store.add_user(named("ann"))).unwrap();
    server.signal("STOP");
    assert!(unavailable(&wait(store.user(ann.id))));
    assert!(unavailable(&wait(store.ping())));
    server.signal("CONT");
    server.is_up();
    assert_eq!(wait(store.user(ann.id)).unwrap(), Some(ann));
}

#[test]
fn a_server_that_is_gone_is_unavailable_until_it_is_back() {
    let Some(mut server) = Server::start() else {
        return;
    };
    let url = server.url("postgres");
    let store = open(&impatient(&url)).unwrap();
    let ann = wait(store.add_user(named("ann"))).unwrap();
    server.restart();
    assert_eq!(wait(store.user(ann.id)).unwrap(), Some(ann.clone()));
    server.end();
    assert!(unavailable(&wait(store.user(ann.id))));
    assert!(unavailable(&wait(store.add_user(named("bob")))));
    assert!(unavailable(&wait(store.ping())));
    assert!(matches!(
        open(&impatient(&url)),
        Err(OpenError::Unavailable(_))
    ));
    server.restart();
    wait(store.ping()).unwrap();
    assert_eq!(wait(store.user(ann.id)).unwrap(), Some(ann));
}

#[test]
fn a_row_that_is_locked_is_unavailable_after_a_while() {
    let Some(url) = database() else {
        return;
    };
    let store = open(&impatient(&url)).unwrap();
    let ann = wait(store.add_user(named("ann"))).unwrap();
    let locked = wait(async {
        let (mut client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
            .await
            .unwrap();
        let driven = tokio::spawn(connection);
        let transaction = client.transaction().await.unwrap();
        transaction
            .batch_execute("LOCK TABLE portcullis.users")
            .await
            .unwrap();
        let result = store.user(ann.id).await;
        transaction.rollback().await.unwrap();
        drop((client, driven));
        result
    });
    assert!(unavailable(&locked), "{locked:?}");
    assert_eq!(wait(store.user(ann.id)).unwrap(), Some(ann));
}

#[test]
fn a_server_that_only_reads_is_unavailable() {
    let Some(url) = database() else {
        return;
    };
    let store = open(&postgres_at(&url)).unwrap();
    let (_, name) = url.rsplit_once('/').unwrap();
    let read_only = format!("ALTER DATABASE {name} SET default_transaction_read_only = on");
    execute(&url, &read_only);
    execute(&url, STOP_OURS);
    let ping = wait(store.ping()).and_then(|()| wait(store.ping()));
    assert!(unavailable(&ping), "{ping:?}");
    assert!(unavailable(&wait(store.add_user(named("ann")))));
}

/// Ends every other connection to this database.
const STOP_OURS: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
    WHERE pid <> pg_backend_pid() AND datname = current_database()";

#[test]
fn a_commit_is_on_the_disk_whatever_the_database_says() {
    let Some(url) = database() else {
        return;
    };
    let (_, name) = url.rsplit_once('/').unwrap();
    let careless = format!(
        "ALTER DATABASE {name} SET synchronous_commit = off; \
         ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'"
    );
    execute(&url, &careless);
    let store = open(&postgres_at(&url)).unwrap();
    let sure = "CREATE FUNCTION portcullis.sure() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
        IF current_setting('synchronous_commit') = 'off' THEN RAISE 'careless'; END IF; \
        RETURN NEW; END $$; \
        CREATE TRIGGER sure BEFORE INSERT ON portcullis.users \
        FOR EACH ROW EXECUTE FUNCTION portcullis.sure()";
    execute(&url, sure);
    wait(store.add_user(named("ann"))).unwrap();
}

#[test]
fn its_own_tools_make_the_copy() {
    let Some(url) = database() else {
        return;
    };
    let folder = Folder::new();
    let store = open(&postgres_at(&url)).unwrap();
    let copy = wait(store.back_up(&folder.file("copy")));
    assert!(matches!(copy, Err(StoreError::Refused(what)) if what.contains("pg_dump")));
}

#[test]
fn a_database_of_a_newer_version_is_refused() {
    let Some(url) = database() else {
        return;
    };
    drop(open(&postgres_at(&url)).unwrap());
    execute(
        &url,
        "INSERT INTO portcullis.migrations VALUES (1000, 'next', 'x')",
    );
    let refused = open(&postgres_at(&url)).err().unwrap();
    assert!(matches!(refused, OpenError::Foreign(_)), "{refused}");
    let elsewhere = new_database(&url);
    drop(open(&postgres_at(&elsewhere)).unwrap());
}

#[test]
fn no_error_tells_the_password() {
    for url in [
        "postgres://me:hunter2@127.0.0.1:1/users",
        "postgres://me:hunter2@no-such-host.invalid/users?sslmode=disable",
    ] {
        let refused = open(&impatient(url)).err().unwrap();
        let text = format!("{refused} {refused:?}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}
