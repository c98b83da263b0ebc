//! A PostgreSQL of the tests' own: the one of `PORTCULLIS_TEST_POSTGRES` (as `tests/run` starts it), else one that
//! is started with the first test and ends with the process. On a unix socket: it needs no port.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::{Folder, fresh, wait};
use crate::config::{self, StorePlace};
use crate::secret::Secret;

/// A server that ends when this is dropped, or the process.
pub(super) struct Server {
    keeper: Child,
    pub(super) folder: Folder,
    port: u16,
    settings: Vec<String>,
}

/// The URL of a new and empty database on the shared server; `None` where there is no PostgreSQL.
pub(super) fn database() -> Option<String> {
    static SHARED: OnceLock<Option<String>> = OnceLock::new();
    let shared = SHARED.get_or_init(|| {
        if let Ok(url) = std::env::var("PORTCULLIS_TEST_POSTGRES") {
            return Some(url);
        }
        let server = Server::start()?;
        let url = server.url("postgres");
        // It ends with the process: its keeper reads from a pipe that nobody else holds.
        std::mem::forget(server);
        Some(url)
    });
    shared.as_deref().map(new_database)
}

/// Makes a database at the server of `url`.
pub(super) fn new_database(url: &str) -> String {
    let name = format!("store_{}", fresh().simple());
    execute(url, &format!("CREATE DATABASE {name} TEMPLATE template0"));
    let (server, _) = url.rsplit_once('/').unwrap();
    format!("{server}/{name}")
}

/// Runs statements at `url`.
pub(super) fn execute(url: &str, sql: &str) {
    wait(async {
        let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls)
            .await
            .unwrap();
        let (done, _) = tokio::join!(
            async {
                let done = client.batch_execute(sql).await;
                drop(client);
                done
            },
            connection
        );
        done.unwrap();
    });
}

/// The configuration of a store at `url`.
pub(super) fn postgres_at(url: &str) -> config::Store {
    config::Store {
        place: StorePlace::Postgres(Secret::new(url.to_owned())),
        connections: 4,
        connect_timeout: Duration::from_secs(20),
        statement_timeout: Duration::from_secs(20),
        ca: None,
    }
}

impl Server {
    /// Starts a server of its own; `None`, and a word about it, where there is no PostgreSQL.
    pub(super) fn start() -> Option<Self> {
        Self::start_with(&["fsync=off"], |_| {})
    }

    /// The same with settings of its own, after `prepare` was given its folder.
    pub(super) fn start_with(settings: &[&str], prepare: impl FnOnce(&Folder)) -> Option<Self> {
        Self::start_at(5432, settings, prepare)
    }

    /// The same whose sockets are named after this port.
    pub(super) fn start_at(
        port: u16,
        settings: &[&str],
        prepare: impl FnOnce(&Folder),
    ) -> Option<Self> {
        let Some(programs) = programs() else {
            let mut out = std::io::stderr();
            drop(writeln!(
                out,
                "SKIPPED: no PostgreSQL on this machine; tests/run installs it"
            ));
            return None;
        };
        let folder = Folder::new();
        if is_root() {
            chown(&folder.0, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let initdb = as_nobody(&programs.join("initdb"))
            .args([
                "-U",
                "postgres",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--no-sync",
                "-D",
            ])
            .arg(folder.file("data"))
            .current_dir(&folder.0)
            .output()
            .unwrap();
        assert!(
            initdb.status.success(),
            "{}",
            String::from_utf8_lossy(&initdb.stderr)
        );
        prepare(&folder);
        let settings: Vec<String> = settings.iter().map(|&it| it.to_owned()).collect();
        let keeper = keeper(&programs, &folder.0, &settings);
        let server = Self {
            keeper,
            folder,
            port,
            settings,
        };
        server.is_up();
        Some(server)
    }

    pub(super) fn url(&self, database: &str) -> String {
        let folder = self.folder.0.to_str().unwrap().replace('/', "%2F");
        format!("postgres://postgres@{folder}:{}/{database}", self.port)
    }

    /// Waits until it answers.
    pub(super) fn is_up(&self) {
        let begin = Instant::now();
        let config: tokio_postgres::Config = self.url("postgres").parse().unwrap();
        wait(async {
            while config.connect(tokio_postgres::NoTls).await.is_err() {
                assert!(
                    begin.elapsed() < Duration::from_secs(60),
                    "it does not start"
                );
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
    }

    /// Sends a signal to every process of the server.
    pub(super) fn signal(&self, signal: &str) {
        let pid = std::fs::read_to_string(self.folder.file("data/postmaster.pid")).unwrap();
        let pid = pid.lines().next().unwrap();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        let sent = Command::new("kill")
            .args(["-s", signal, pid])
            .args(children.split_whitespace())
            .status();
        assert!(sent.unwrap().success());
    }

    /// Ends it and starts it again.
    pub(super) fn restart(&mut self) {
        self.end();
        self.keeper = keeper(&programs().unwrap(), &self.folder.0, &self.settings);
        self.is_up();
    }

    /// Ends it so that it can be started again, and waits for that.
    pub(super) fn end(&mut self) {
        std::fs::write(self.folder.file("again"), "").unwrap();
        drop(self.keeper.stdin.take());
        self.keeper.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// A shell that runs the server until its own input ends, and removes the folder then unless it is to be started again.
fn keeper(programs: &Path, folder: &Path, settings: &[String]) -> Child {
    let script = r#""$@" >>server.log 2>&1 </dev/null & server=$!
        cat >/dev/null; kill -INT $server; wait $server; [ -e again ] || rm -rf "$PWD""#;
    as_nobody(Path::new("sh"))
        .args(["-c", script, "keeper"])
        .arg(programs.join("postgres"))
        .arg("-D")
        .arg(folder.join("data"))
        .arg("-k")
        .arg(folder)
        .args(["-c", "listen_addresses=", "-c", "max_connections=300"])
        .args(settings.iter().flat_map(|setting| ["-c", setting]))
        .current_dir(folder)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap()
}

/// PostgreSQL does not run as root.
fn as_nobody(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    let nobody = NOBODY.to_string();
    command
        .args(["--reuid", &nobody, "--regid", &nobody, "--clear-groups"])
        .arg(program);
    command
}

const NOBODY: u32 = 65534;

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// Where `initdb` and `postgres` are: in the PATH, or where Debian keeps them.
fn programs() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .map(|version| version.unwrap().path().join("bin"))
        .collect();
    folders.sort();
    folders.reverse();
    std::env::split_paths(&path)
        .chain(folders)
        .find(|folder| folder.join("initdb").exists() && folder.join("postgres").exists())
}
