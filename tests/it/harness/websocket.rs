//! WebSocket frames, by hand.

use super::Peer;

pub const TEXT: u8 = 1;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;

pub const HANDSHAKE: &str = "connection: upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
pub const ACCEPTED: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\
    upgrade: websocket\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// A short frame, masked as a client's must be.
pub fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [1, 2, 3, 4];
    let mut out = vec![0x80 | opcode, 0x80 | u8::try_from(payload.len()).unwrap()];
    out.extend(mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(a, b)| a ^ b));
    out
}

/// A short frame of a server.
pub fn bare(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0x80 | opcode, u8::try_from(payload.len()).unwrap()];
    out.extend(payload);
    out
}

/// The payload of a close frame.
pub fn closing(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes()[..], reason.as_bytes()].concat()
}

/// The code of a close frame's payload.
pub fn code(payload: &[u8]) -> u16 {
    u16::from_be_bytes([payload[0], payload[1]])
}

impl Peer {
    /// The next frame's opcode and payload.
    pub async fn frame(&mut self) -> (u8, Vec<u8>) {
        let start = self.take(2).await;
        let size = match start[1] & 0x7f {
            126 => {
                let size = self.take(2).await;
                usize::from(u16::from_be_bytes([size[0], size[1]]))
            }
            size => usize::from(size),
        };
        let mask = match start[1] & 0x80 {
            0 => vec![0; 4],
            _ => self.take(4).await,
        };
        let payload = self.take(size).await;
        let payload = payload.iter().zip(mask.iter().cycle());
        (start[0] & 0x0f, payload.map(|(a, b)| a ^ b).collect())
    }
}
