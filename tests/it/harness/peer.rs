//! One side of a connection, byte by byte: a client that writes what no client library would, or an
//! upstream that answers what no server would.

use std::net::SocketAddr;
use std::path::Path;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};

use super::soon;

pub trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

pub struct Peer {
    pub io: Box<dyn Duplex>,
    buffer: Vec<u8>,
}

/// A head as it stood on the wire.
#[derive(Clone, Debug)]
pub struct Head(pub String);

#[derive(Clone, Debug)]
pub struct Answer {
    pub head: Head,
    pub body: Vec<u8>,
    /// What stood behind the last chunk.
    pub trailers: String,
}

/// A listener that hands out the sockets it accepts.
pub struct RawUpstream {
    listener: TcpListener,
    pub address: SocketAddr,
}

impl RawUpstream {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self { listener, address }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub async fn accept(&self) -> Peer {
        let (socket, _) = soon(self.listener.accept()).await.unwrap();
        Peer::over(socket)
    }
}

impl Head {
    pub fn line(&self) -> &str {
        self.0.split("\r\n").next().unwrap()
    }

    pub fn status(&self) -> u16 {
        self.line().split(' ').nth(1).unwrap().parse().unwrap()
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        let fields = self.0.split("\r\n").skip(1);
        fields
            .filter_map(|line| line.split_once(':'))
            .filter(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .collect()
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }
}

impl Answer {
    pub fn status(&self) -> u16 {
        self.head.status()
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// The word of a refusal.
    pub fn word(&self) -> String {
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        body["error"].as_str().unwrap().to_owned()
    }
}

impl Peer {
    pub fn over(io: impl Duplex + 'static) -> Self {
        Self {
            io: Box::new(io),
            buffer: Vec::new(),
        }
    }

    pub async fn connect(address: SocketAddr) -> Self {
        Self::over(soon(TcpStream::connect(address)).await.unwrap())
    }

    pub async fn unix(path: &Path) -> Self {
        Self::over(soon(UnixStream::connect(path)).await.unwrap())
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        soon(self.io.write_all(bytes.as_ref())).await.unwrap();
        soon(self.io.flush()).await.unwrap();
    }

    /// A whole request without a body, and its answer.
    pub async fn get(&mut self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nhost: here\r\n\r\n"))
            .await;
        self.answer().await
    }

    /// More bytes; `false` when there are none, be it in order or not.
    async fn more(&mut self) -> bool {
        let mut chunk = vec![0; 65536];
        match soon(self.io.read(&mut chunk)).await {
            Ok(0) | Err(_) => false,
            Ok(read) => {
                self.buffer.extend_from_slice(&chunk[..read]);
                true
            }
        }
    }

    /// Everything up to `mark`, with it; `None` when the connection ends before.
    pub async fn try_until(&mut self, mark: &[u8]) -> Option<Vec<u8>> {
        loop {
            let found = self
                .buffer
                .windows(mark.len())
                .position(|seen| seen == mark);
            if let Some(at) = found {
                return Some(self.buffer.drain(..at + mark.len()).collect());
            }
            if !self.more().await {
                return None;
            }
        }
    }

    pub async fn until(&mut self, mark: &str) -> String {
        let found = self.try_until(mark.as_bytes()).await;
        let found = found.unwrap_or_else(|| {
            let seen = String::from_utf8_lossy(&self.buffer);
            panic!("the connection ended before {mark:?}: {seen:?}")
        });
        String::from_utf8(found).unwrap()
    }

    pub async fn take(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count {
            assert!(self.more().await, "the connection ended too soon");
        }
        self.buffer.drain(..count).collect()
    }

    /// The next bytes; `None` when the connection ends before.
    pub async fn try_take(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < count {
            if !self.more().await {
                return None;
            }
        }
        Some(self.buffer.drain(..count).collect())
    }

    pub async fn head(&mut self) -> Head {
        Head(self.until("\r\n\r\n").await)
    }

    /// The final answer, 1xx passed over.
    pub async fn answer(&mut self) -> Answer {
        let mut head = self.head().await;
        while head.status() < 200 {
            head = self.head().await;
        }
        self.body(head).await
    }

    /// The body behind a head, be it a request's or an answer's.
    pub async fn body(&mut self, head: Head) -> Answer {
        let (mut body, mut trailers) = (Vec::new(), String::new());
        let is_answer = head.0.starts_with("HTTP/");
        let bare = is_answer && matches!(head.status(), 101 | 204 | 304);
        if head.get("transfer-encoding").is_some() {
            (body, trailers) = self.chunks().await.expect("a whole chunked body");
        } else if let Some(length) = head.get("content-length").filter(|_| !bare) {
            body = self.take(length.parse().unwrap()).await;
        } else if is_answer && !bare {
            body = self.rest().await;
        }
        Answer {
            head,
            body,
            trailers,
        }
    }

    /// A chunked body and its trailers; `None` when it breaks off before its last chunk.
    pub async fn chunks(&mut self) -> Option<(Vec<u8>, String)> {
        let mut body = Vec::new();
        loop {
            let line = String::from_utf8(self.try_until(b"\r\n").await?).unwrap();
            let size = usize::from_str_radix(line.trim(), 16).unwrap();
            if size == 0 {
                let mut trailers = String::new();
                loop {
                    let line = self.until("\r\n").await;
                    if line == "\r\n" {
                        return Some((body, trailers));
                    }
                    trailers.push_str(&line);
                }
            }
            while self.buffer.len() < size + 2 {
                if !self.more().await {
                    return None;
                }
            }
            body.extend(self.buffer.drain(..size));
            self.buffer.drain(..2);
        }
    }

    /// One chunk's data.
    pub async fn chunk(&mut self) -> Vec<u8> {
        let line = self.until("\r\n").await;
        let size = usize::from_str_radix(line.trim(), 16).unwrap();
        let data = self.take(size).await;
        assert_eq!(self.take(2).await, b"\r\n");
        data
    }

    /// Everything until the connection ends.
    pub async fn rest(&mut self) -> Vec<u8> {
        while self.more().await {}
        std::mem::take(&mut self.buffer)
    }

    /// Waits until the other side has closed; what it still says is dropped.
    pub async fn closed(&mut self) {
        self.rest().await;
    }
}
