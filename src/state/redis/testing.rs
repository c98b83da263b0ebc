//! Real Redis servers for tests: each in a folder of its own, on a unix socket, gone when the test is over.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use super::Redis;
use crate::config::{self, RedisPlace};
use crate::secret::Secret;

/// A server.
pub(crate) struct Server {
    folder: PathBuf,
    process: Option<Child>,
    options: Vec<String>,
}

impl Server {
    /// One that is up.
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    /// The same with options of its own.
    pub(crate) async fn with(options: &[&str]) -> Self {
        let folder =
            std::env::temp_dir().join(format!("portcullis-redis-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&folder).unwrap();
        let mut server = Self {
            folder,
            process: None,
            options: options.iter().map(|option| (*option).to_owned()).collect(),
        };
        server.up().await;
        server
    }

    /// Starts it (again), and waits until it listens.
    pub(crate) async fn up(&mut self) {
        let process = Command::new("redis-server")
            .args(["--port", "0", "--unixsocket", "redis.sock", "--save", ""])
            .args(&self.options)
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed: tests/run does it");
        self.process = Some(process);
        let socket = self.socket();
        while tokio::net::UnixStream::connect(&socket).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Kills it: all that it had is gone.
    pub(crate) fn down(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
            drop(std::fs::remove_file(self.socket()));
        }
    }

    /// Stops it where it stands (SIGSTOP), or lets it go on (SIGCONT).
    pub(crate) fn signal(&self, signal: &str) {
        let id = self.process.as_ref().unwrap().id().to_string();
        let sent = Command::new("kill").args(["-s", signal, &id]).status();
        assert!(sent.unwrap().success());
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join("redis.sock")
    }

    /// The configuration of a handle to it.
    pub(crate) fn config(&self) -> config::Redis {
        config::Redis {
            place: RedisPlace::Server(Secret::new(format!("unix://{}", self.socket().display()))),
            prefix: "test:".into(),
            timeout: Duration::from_millis(500),
            connect_timeout: Duration::from_millis(500),
            ca: None,
            max_stale: Duration::ZERO,
            history: 1000,
        }
    }

    /// A handle to it, for one thread.
    pub(crate) fn handle(&self) -> Arc<Redis> {
        Redis::new(&self.config(), 1).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.down();
        drop(std::fs::remove_dir_all(&self.folder));
    }
}
