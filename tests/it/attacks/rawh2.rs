//! HTTP/2 frame by frame, as no client library would send it.

use std::net::SocketAddr;

use crate::harness::Peer;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub struct Http2 {
    pub peer: Peer,
}

pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Http2 {
    pub async fn connect(address: SocketAddr) -> Self {
        let mut peer = Peer::connect(address).await;
        peer.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        let mut client = Self { peer };
        client.frame(SETTINGS, 0, 0, &[]).await;
        client
    }

    pub async fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.peer.send(frame(kind, flags, stream, payload)).await;
    }

    /// The same, where the other side may have had enough already.
    pub async fn try_frames(&mut self, frames: &[u8]) -> bool {
        use tokio::io::AsyncWriteExt;
        crate::harness::soon(self.peer.io.write_all(frames))
            .await
            .is_ok()
    }

    pub async fn headers(&mut self, stream: u32, fields: &[(&str, &str)], ends: bool) {
        let flags = END_HEADERS | if ends { END_STREAM } else { 0 };
        self.frame(HEADERS, flags, stream, &block(fields)).await;
    }

    pub async fn data(&mut self, stream: u32, bytes: &[u8], ends: bool) {
        let flags = if ends { END_STREAM } else { 0 };
        self.frame(DATA, flags, stream, bytes).await;
    }

    /// A GET on stream 1.
    pub async fn get(&mut self, path: &str, fields: &[(&str, &str)]) {
        let mut all = vec![
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "here"),
            (":path", path),
        ];
        all.extend(fields);
        self.headers(1, &all, true).await;
    }

    /// The next frame; `None` when the connection is over.
    pub async fn next(&mut self) -> Option<Frame> {
        let head = self.peer.try_take(9).await?;
        let size = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        Some(Frame {
            kind: head[3],
            flags: head[4],
            stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
            payload: self.peer.try_take(size).await?,
        })
    }

    /// What becomes of stream 1: `reset`, or the status and the word of the answer's body.
    pub async fn told(&mut self) -> String {
        let mut body = Vec::new();
        while let Some(frame) = self.next().await {
            match frame.kind {
                GOAWAY => break,
                RST_STREAM if frame.stream == 1 => break,
                DATA if frame.stream == 1 => body.extend(frame.payload),
                _ => {}
            }
            if frame.stream == 1
                && matches!(frame.kind, DATA | HEADERS)
                && frame.flags & END_STREAM != 0
            {
                break;
            }
        }
        if body == b"ok" {
            return "200".to_owned();
        }
        let Ok(body) = serde_json::from_slice::<serde_json::Value>(&body) else {
            return "reset".to_owned();
        };
        format!("{} {}", body["code"], body["error"].as_str().unwrap())
    }

    /// Reads until the other side ends the connection.
    pub async fn closed(&mut self) {
        while self.next().await.is_some() {}
    }
}

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let size = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut out = vec![size[1], size[2], size[3], kind, flags];
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// Each field as a literal that is never indexed (RFC 7541 §6.2.3).
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0x10);
        push_text(&mut out, name);
        push_text(&mut out, value);
    }
    out
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    let mut size = text.len();
    if size < 127 {
        out.push(u8::try_from(size).unwrap());
    } else {
        out.push(127);
        size -= 127;
        while size >= 128 {
            out.push(u8::try_from(size % 128).unwrap() | 128);
            size /= 128;
        }
        out.push(u8::try_from(size).unwrap());
    }
    out.extend(text.as_bytes());
}
