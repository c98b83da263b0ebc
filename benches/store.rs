//! What a call of the store costs with 10 users and with a million: `benches/store-speed` runs it on both engines.
//!
//! `store sqlite:FILE|postgres://… USERS`: fills an empty store with three sessions for each user, and times the calls
//! of log-in, refresh and verification, one after the other, then once more: what is written first after a checkpoint of
//! PostgreSQL is written as a whole page. A store that is filled is timed as it is.

#![expect(clippy::print_stdout, reason = "its table is its answer")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use portcullis::config::{self, StorePlace};
use portcullis::records::{
    Api, Authentication, Client, Email, Session, SessionId, TokenHash, UserId,
};
use portcullis::secret::Secret;
use portcullis::store::{Change, NewSession, Sessions, SignIn, Store, open};
use uuid::Uuid;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo bench` and `cargo test` ask every target something; without a store there is nothing to time.
    let [url, users, ..] = &arguments[..] else {
        return Ok(());
    };
    let users: u64 = users.parse().context("how many users")?;
    let store = open(&configuration(url))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let begin = Instant::now();
    let filled = runtime.block_on(store.user_by_name("user1"))?.is_some();
    match url.strip_prefix("sqlite:") {
        _ if filled => {}
        Some(file) => fill_sqlite(file, users)?,
        None => fill_postgres(url, users)?,
    }
    println!("# {users} users, filled in {:?}", begin.elapsed());
    runtime.block_on(time(store, users))
}

fn configuration(url: &str) -> config::Store {
    let place = match url.strip_prefix("sqlite:") {
        Some(file) => StorePlace::Sqlite(file.into()),
        None => StorePlace::Postgres(Secret::new(url.to_owned())),
    };
    config::Store {
        place,
        connections: 10,
        connect_timeout: Duration::from_secs(10),
        statement_timeout: Duration::from_secs(60),
        ca: None,
    }
}

// ── Filling ──

/// What both engines are filled with; `ID`, `HASH`, `YES`, `NO` and `NUMBERS` are each engine's own.
const FILL: &str = "
    INSERT INTO users (id, username, username_key, email, password, role, anonymous, disabled, app_metadata,
            user_metadata, created_at, updated_at, search)
        SELECT ID, 'user' || i, 'user' || i, 'user' || i || '@example.com',
            '$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21l$iWh06vD8Fy27wf9npn6FXWiCX4K6pW6Ue1Bnzz07Z8A',
            'authenticated', NO, NO, '{\"provider\":\"email\"}', '{}', i, i, 'user' || i
        FROM NUMBERS;
    INSERT INTO sessions (id, user_id, api, method, authenticated_at, created_at, last_used_at, refresh_counter)
        SELECT ID, u.id, CASE k.k WHEN 0 THEN 'session' WHEN 1 THEN 'app' ELSE 'token' END, 'password',
            u.number, u.number, u.number + k.k, 1
        FROM users u, (SELECT 0 AS k UNION ALL SELECT 1 UNION ALL SELECT 2) AS k;
    INSERT INTO session_tokens (hash, session_id, user_id, created_at)
        SELECT HASH, s.id, s.user_id, 1 FROM sessions s WHERE s.api = 'session';
    ANALYZE;";

fn fill_sqlite(file: &str, users: u64) -> anyhow::Result<()> {
    let numbers = format!(
        "(WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {users}) SELECT i FROM n)"
    );
    let fill = FILL
        .replace("NUMBERS", &numbers)
        .replace("SELECT ID", "SELECT randomblob(16)")
        .replace("SELECT HASH", "SELECT randomblob(32)")
        .replace("NO, NO", "0, 0");
    let file = rusqlite::Connection::open(file)?;
    file.execute_batch("PRAGMA cache_size = -1000000; PRAGMA synchronous = OFF; BEGIN;")?;
    file.execute_batch(&fill)?;
    file.execute_batch("COMMIT; PRAGMA wal_checkpoint(TRUNCATE);")?;
    Ok(())
}

fn fill_postgres(url: &str, users: u64) -> anyhow::Result<()> {
    let hash = "SELECT decode(replace(gen_random_uuid()::TEXT || gen_random_uuid()::TEXT, '-', ''), 'hex')";
    let fill = FILL
        .replace("NUMBERS", &format!("generate_series(1, {users}) AS i"))
        .replace("SELECT ID", "SELECT gen_random_uuid()")
        .replace("SELECT HASH", hash)
        .replace("NO, NO", "FALSE, FALSE");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
        let filled = async {
            let set = "SET search_path = portcullis; SET synchronous_commit = off; \
                SET session_replication_role = replica";
            client.batch_execute(set).await?;
            client.batch_execute(&fill).await?;
            client.batch_execute("CHECKPOINT").await?;
            drop(client);
            anyhow::Ok(())
        };
        let (filled, ended) = tokio::join!(filled, connection);
        ended?;
        filled
    })
}

// ── Timing ──

/// Users that are looked at, spread over all.
const SAMPLE: u64 = 300;

async fn time(store: Arc<dyn Store>, users: u64) -> anyhow::Result<()> {
    let names: Vec<String> = (0..SAMPLE)
        .map(|at| format!("user{}", 1 + at * (users / SAMPLE).max(1) % users))
        .collect();
    let first = pass(&store, &names).await?;
    let again = pass(&store, &names).await?;
    for ((call, first), (_, again)) in first.0.iter().zip(&again.0) {
        let [first, again] = [first, again].map(|median| median.as_secs_f64() * 1e6);
        println!("{call}\t{first:.0}\t{again:.0}");
    }
    Ok(())
}

/// Every call for each of these users.
async fn pass(store: &Arc<dyn Store>, names: &[String]) -> anyhow::Result<Table> {
    let mut found = Vec::new();
    for name in names {
        let user = store
            .user_by_name(name)
            .await?
            .context("a user is missing")?;
        let sessions = store.sessions_of(user.id).await?;
        let session = sessions.last().context("a session is missing")?.session.id;
        found.push((user.id, session, hash()?));
    }
    let mut table = Table::default();
    table
        .time("user by name", found.len(), async |at| {
            store.user_by_name(&names[at]).await.map(drop)
        })
        .await?;
    table
        .time("user by e-mail", found.len(), async |at| {
            let email = Email(format!("{}@example.com", names[at]).into());
            store.user_by_email(&email).await.map(drop)
        })
        .await?;
    table
        .time("session and user (verify)", found.len(), async |at| {
            store.session(found[at].1).await.map(drop)
        })
        .await?;
    table
        .time("add session (log-in)", found.len(), async |at| {
            store
                .add_session(log_in(found[at].0, found[at].2))
                .await
                .map(drop)
        })
        .await?;
    table
        .time("resume session (log-in)", found.len(), async |at| {
            store
                .resume_session(found[at].0, found[at].2, 2_000_000_000, 500)
                .await
                .map(drop)
        })
        .await?;
    table
        .time("token's owner (verify)", found.len(), async |at| {
            store.token_owner(found[at].2).await.map(drop)
        })
        .await?;
    table
        .time("change session (refresh)", found.len(), async |at| {
            let change = |session: &Session, _: &_| {
                Change::Write(Session {
                    refresh_counter: session.refresh_counter + 1,
                    ..session.clone()
                })
            };
            store
                .change_session(found[at].1, Box::new(change))
                .await
                .map(drop)
        })
        .await?;
    table
        .time("end session (log-out)", found.len(), async |at| {
            store
                .end_sessions(Sessions::One(added(found[at].2)), 5)
                .await
                .map(drop)
        })
        .await?;
    Ok(table)
}

/// Calls and the medians of their times.
#[derive(Default)]
struct Table(Vec<(&'static str, Duration)>);

impl Table {
    async fn time<E>(
        &mut self,
        name: &'static str,
        count: usize,
        call: impl AsyncFn(usize) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut times = Vec::with_capacity(count);
        for at in 0..count {
            let begin = Instant::now();
            call(at).await?;
            times.push(begin.elapsed());
        }
        times.sort_unstable();
        self.0.push((name, times[count / 2]));
        Ok(())
    }
}

fn hash() -> anyhow::Result<TokenHash> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(TokenHash(bytes))
}

/// The id of the session that is added with this randomness.
fn added(random: TokenHash) -> SessionId {
    let mut id = [0; 16];
    id.copy_from_slice(&random.0[16..]);
    SessionId(Uuid::from_bytes(id))
}

fn log_in(user: UserId, random: TokenHash) -> NewSession {
    NewSession {
        id: added(random),
        user,
        api: Api::Token,
        name: None,
        client: Client::default(),
        authentication: Authentication {
            method: "password".into(),
            at: 1,
        },
        refresh_counter: 1,
        created_at: 1_000_000_000,
        token: None,
        signs_in: SignIn::Yes,
        most: 500,
    }
}
