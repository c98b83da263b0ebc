//! The gateway on a thread of its own, as `portcullis run` would start it.

use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use portcullis::observe::access::Sink;
use portcullis::server::{Running, Source};
use tokio::sync::{mpsc, oneshot};

use super::{Peer, Setup, soon, until};

pub struct Gateway {
    pub address: SocketAddr,
    pub admin: SocketAddr,
    pub folder: Folder,
    lines: Lines,
    orders: mpsc::UnboundedSender<Order>,
}

enum Order {
    Reload(oneshot::Sender<Result<(), String>>),
    Stop(oneshot::Sender<()>),
}

/// A folder of a test's own, removed with it.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("portcullis-it-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file that nobody else may read, in one step.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let (path, draft) = (self.path(name), self.path(&format!("{name}.draft")));
        let mut options = std::fs::OpenOptions::new();
        let options = options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&draft).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        std::fs::rename(draft, &path).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The access lines so far.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Gateway {
    pub async fn start(setup: &Setup) -> Self {
        Self::start_in(Folder::new(), setup).await
    }

    /// Starts with files that lie in `folder` already.
    pub async fn start_in(folder: Folder, setup: &Setup) -> Self {
        let file = folder.write("portcullis.toml", &setup.text());
        let lines = Lines::default();
        let (orders, received) = mpsc::unbounded_channel();
        let (started, start) = oneshot::channel();
        let out = lines.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build_local(tokio::runtime::LocalOptions::default())
                .unwrap();
            runtime.block_on(serve(file, out, started, received));
        });
        let (public, admin) = soon(start).await.unwrap().unwrap();
        Self {
            address: public,
            admin,
            folder,
            lines,
            orders,
        }
    }

    pub async fn client(&self) -> Peer {
        Peer::connect(self.address).await
    }

    /// One GET on a connection of its own.
    pub async fn get(&self, path: &str) -> super::peer::Answer {
        self.client().await.get(path).await
    }

    /// Reads another configuration.
    pub async fn reload(&self, setup: &Setup) -> Result<(), String> {
        self.reload_text(&setup.text()).await
    }

    pub async fn reload_text(&self, text: &str) -> Result<(), String> {
        self.folder.write("portcullis.toml", text);
        let (done, told) = oneshot::channel();
        assert!(self.orders.send(Order::Reload(done)).is_ok());
        soon(told).await.unwrap()
    }

    /// Begins to drain, as SIGTERM would; resolves when the drain is over.
    pub fn stop(&self) -> oneshot::Receiver<()> {
        let (done, told) = oneshot::channel();
        assert!(self.orders.send(Order::Stop(done)).is_ok());
        told
    }

    /// A figure of the metrics page; 0 where it is not shown.
    pub async fn figure(&self, name: &str) -> f64 {
        let page = self.page("/metrics").await.text();
        let line = page.lines().find_map(|line| line.strip_prefix(name));
        line.map_or(0.0, |value| value.trim().parse().unwrap())
    }

    /// Waits until a figure of the metrics page stands at `value`.
    pub async fn figure_becomes(&self, name: &str, value: f64) {
        until(async || self.figure(name).await == value).await;
    }

    /// A page of the admin listener.
    pub async fn page(&self, path: &str) -> super::peer::Answer {
        let mut client = Peer::connect(self.admin).await;
        let ask = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        client.send(ask).await;
        client.answer().await
    }

    /// Every line so far, as it was written.
    pub fn log(&self) -> String {
        String::from_utf8(self.lines.0.lock().unwrap().clone()).unwrap()
    }

    /// The first line that has `word` in it, once there is one.
    pub async fn line_with(&self, word: &str) -> String {
        let read = || {
            let log = self.log();
            let (whole, _) = log.rsplit_once('\n')?;
            let line = whole.lines().find(|line| line.contains(word))?;
            Some(line.to_owned())
        };
        until(async || read().is_some()).await;
        read().unwrap()
    }

    /// The access lines (no audit lines), once there are so many.
    pub async fn lines(&self, count: usize) -> Vec<serde_json::Value> {
        let read = || -> Vec<serde_json::Value> {
            let bytes = self.lines.0.lock().unwrap().clone();
            let text = String::from_utf8(bytes).unwrap();
            let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
            let lines = whole
                .lines()
                .map(|line| serde_json::from_str(line).unwrap());
            lines
                .filter(|line: &serde_json::Value| line.get("audit").is_none())
                .collect()
        };
        until(async || read().len() >= count).await;
        read()
    }
}

type Started = Result<(SocketAddr, SocketAddr), String>;

async fn serve(
    file: PathBuf,
    lines: Lines,
    started: oneshot::Sender<Started>,
    mut orders: mpsc::UnboundedReceiver<Order>,
) {
    let (sink, _flush) = Sink::start(lines).unwrap();
    let running = match Running::start(Source::File(file), sink).await {
        Ok(running) => running,
        Err(error) => {
            let _ = started.send(Err(error.to_string()));
            return;
        }
    };
    let public = running.public.iter().map(ToString::to_string);
    let public = public
        .filter_map(|address| address.split_once("://")?.1.parse().ok())
        .next()
        .unwrap();
    let _ = started.send(Ok((public, running.admin.unwrap())));
    while let Some(order) = orders.recv().await {
        match order {
            Order::Reload(done) => {
                let _ = done.send(running.reload().map_err(|error| error.to_string()));
            }
            Order::Stop(done) => {
                running.stop().await;
                let _ = done.send(());
                return;
            }
        }
    }
}

/// Whether nobody listens there any more.
pub async fn is_refused(address: SocketAddr) -> bool {
    tokio::net::TcpStream::connect(address).await.is_err()
}

/// The folder's own path, for names in a configuration.
pub fn quoted(path: &Path) -> String {
    format!("{:?}", path.to_str().unwrap())
}
