//! A PostgreSQL that is killed, one that speaks TLS, and how it finds rows.

use std::net::TcpListener;
use std::os::unix::fs::{OpenOptionsExt, chown};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::plans::{HOT, WARM};
use super::server::{Server, database, postgres_at};
use super::{Folder, named, unavailable, wait};
use crate::config;
use crate::records::UserId;
use crate::store::{OpenError, open, sql};

#[test]
fn a_killed_server_loses_nothing_that_was_acknowledged() {
    let Some(mut server) = Server::start_with(&["fsync=on"], |_| {}) else {
        return;
    };
    let store = open(&postgres_at(&server.url("postgres"))).unwrap();
    let told: Mutex<Vec<UserId>> = Mutex::default();
    let heard = || told.lock().unwrap().len();
    for round in 1..=3 {
        let killed = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let (store, told, killed) = (&store, &told, &killed);
                scope.spawn(move || {
                    for number in 0.. {
                        let name = format!("u{round}-{writer}-{number}");
                        match wait(store.add_user(named(&name))) {
                            Ok(user) => told.lock().unwrap().push(user.id),
                            refused => {
                                assert!(unavailable(&refused), "{refused:?}");
                                assert!(killed.load(Ordering::SeqCst), "{refused:?}");
                                return;
                            }
                        }
                    }
                });
            }
            let before = heard();
            while heard() < before + 40 {
                std::thread::yield_now();
            }
            killed.store(true, Ordering::SeqCst);
            server.signal("KILL");
        });
        server.restart();
        for user in told.lock().unwrap().iter() {
            assert!(wait(store.user(*user)).unwrap().is_some(), "{user}");
        }
    }
}

/// Certificates of a server at `localhost`, and who signed them.
struct Papers {
    authority: String,
    chain: String,
    key: String,
}

impl Papers {
    fn new() -> Self {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let authority = params.self_signed(&key).unwrap();
        let issuer = rcgen::Issuer::new(params, key);
        let own = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&own, &issuer).unwrap();
        Self {
            authority: authority.pem(),
            chain: certificate.pem(),
            key: own.serialize_pem(),
        }
    }

    /// Writes them where the server reads them, as its own files.
    fn write(&self, folder: &Folder) {
        let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(&folder.0).unwrap());
        for (name, text) in [("chain.pem", &self.chain), ("key.pem", &self.key)] {
            let path = folder.file(name);
            let mut options = std::fs::OpenOptions::new();
            let file = options.write(true).create_new(true).mode(0o600).open(&path);
            std::io::Write::write_all(&mut file.unwrap(), text.as_bytes()).unwrap();
            chown(&path, Some(owner), None).unwrap();
        }
    }
}

#[test]
fn tls_to_a_server_is_verified() {
    let papers = Papers::new();
    let port = free_port();
    let settings = [
        "fsync=off",
        "listen_addresses=localhost",
        &format!("port={port}"),
        "ssl=on",
        "ssl_cert_file=../chain.pem",
        "ssl_key_file=../key.pem",
    ];
    let started = Server::start_at(port, &settings, |folder| papers.write(folder));
    if started.is_none() {
        return;
    }
    let at = |host: &str, mode: &str, ca: Option<&str>| config::Store {
        ca: ca.map(Into::into),
        ..postgres_at(&format!(
            "postgres://postgres@{host}:{port}/postgres?sslmode={mode}"
        ))
    };
    let trusted = Some(&*papers.authority);
    let store = open(&at("localhost", "verify-full", trusted)).unwrap();
    wait(store.add_user(named("ann"))).unwrap();
    assert_eq!(encrypted(port), (1, 0));
    drop(store);
    // Nobody in particular, another authority, and another name.
    let stranger = Papers::new();
    for (host, ca) in [
        ("localhost", Some(&*stranger.authority)),
        ("127.0.0.1", trusted),
    ] {
        let refused = open(&at(host, "verify-full", ca)).err().unwrap();
        assert!(matches!(refused, OpenError::Unavailable(_)), "{refused}");
    }
    // Who would do without it takes it where it is to be had.
    let store = open(&at("localhost", "prefer", None)).unwrap();
    assert_eq!(encrypted(port), (1, 0));
    drop(store);
    let store = open(&at("localhost", "disable", None)).unwrap();
    assert_eq!(encrypted(port), (0, 1));
    drop(store);
}

/// Whether there are connections with TLS, and such without, that are not this one.
fn encrypted(port: u16) -> (i64, i64) {
    let url = format!("postgres://postgres@localhost:{port}/postgres?sslmode=disable");
    wait(async {
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
            .await
            .unwrap();
        let driven = tokio::spawn(connection);
        // A connection that was just dropped may still be there.
        let sql = "SELECT count(DISTINCT ssl) FILTER (WHERE ssl), count(DISTINCT ssl) FILTER (WHERE NOT ssl) \
                   FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) \
                   WHERE a.pid <> pg_backend_pid() AND a.backend_type = 'client backend' \
                   AND a.backend_start >= (SELECT max(b.backend_start) FROM pg_stat_activity b \
                   WHERE b.pid <> pg_backend_pid() AND b.backend_type = 'client backend')";
        let row = client.query_one(sql, &[]).await.unwrap();
        drop(client);
        driven.await.unwrap().unwrap();
        (row.get(0), row.get(1))
    })
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

#[test]
fn no_call_of_a_request_scans() {
    let Some(url) = database() else {
        return;
    };
    drop(open(&postgres_at(&url)).unwrap());
    let plan = async |client: &tokio_postgres::Client, sql: &str| {
        let parameters = (1..=30).rev().find(|at| sql.contains(&format!("${at}")));
        let nulls = vec!["NULL"; parameters.unwrap_or(0)].join(", ");
        let values = if nulls.is_empty() {
            nulls
        } else {
            format!("({nulls})")
        };
        let text = format!("DEALLOCATE ALL; PREPARE it AS {sql}; EXPLAIN EXECUTE it{values}");
        let told = client.simple_query(&text).await;
        let told = told.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        let lines = told.iter().filter_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        lines.collect::<Vec<_>>()
    };
    wait(async {
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
            .await
            .unwrap();
        let driven = tokio::spawn(connection);
        // With tables that are empty, going through all of one is cheapest: what is left is what an index cannot do.
        let settings = "SET search_path TO portcullis; SET plan_cache_mode = force_generic_plan; \
                        SET enable_seqscan = off";
        client.batch_execute(settings).await.unwrap();
        let scans = |plan: &[String]| plan.iter().any(|line| line.contains("Seq Scan"));
        // A plan is read rightly: this one does go through all.
        assert!(scans(&plan(&client, sql::COUNT_USERS).await));
        let locks = [
            sql::LOCK_USER,
            sql::LOCK_SESSION,
            sql::LOCK_RESUMABLE,
            sql::LOCK_JOB,
        ];
        let prunes = [sql::PRUNE_SESSIONS, sql::PRUNE_USERS, sql::PRUNE_CODES];
        let all = HOT.iter().chain(WARM).chain(&locks).chain(&prunes);
        for sql in all {
            let plan = plan(&client, sql).await;
            assert!(
                !plan.is_empty() && !scans(&plan),
                "{sql}\n{}",
                plan.join("\n")
            );
        }
        drop(client);
        driven.await.unwrap().unwrap();
    });
}
