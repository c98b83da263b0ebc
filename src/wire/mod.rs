//! The one socket type, on both sides: TCP, unix or TLS. One type keeps what speaks over it compiled once and lets a
//! tunnel have its socket back after an upgrade.
//! `vitals.rs` notes its signs of life, `buffers.rs` lends memory for bytes on their way, `turns.rs` says whose turn it
//! is to send, `descriptors.rs` tells how many there may be.

pub mod buffers;
pub mod descriptors;
pub mod turns;
pub mod vitals;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsStream;

/// A connected socket.
#[derive(Debug)]
pub enum Wire {
    /// Plain TCP.
    Tcp(TcpStream),
    /// A unix socket.
    Unix(UnixStream),
    /// TLS over TCP; boxed, since its state is large and most connections have none.
    Tls(Box<TlsStream<TcpStream>>),
}

/// What every kind of socket can do.
trait Socket: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Socket for T {}

impl Wire {
    fn socket(&mut self) -> Pin<&mut dyn Socket> {
        match self {
            Self::Tcp(socket) => Pin::new(socket),
            Self::Unix(socket) => Pin::new(socket),
            Self::Tls(socket) => Pin::new(&mut **socket),
        }
    }
}

/// From here on a connection breaks off when its peer has not acknowledged anything for so long: one that is gone without
/// a word (another network, no battery) takes nothing, and TCP alone would try for a quarter of an hour.
pub fn give_up_after(socket: &TcpStream, silence: std::time::Duration) {
    #[cfg(target_os = "linux")]
    // A socket that is gone already cannot be told, and need not.
    let _ = {
        let millis = u32::try_from(silence.as_millis()).unwrap_or(u32::MAX);
        rustix::net::sockopt::set_tcp_user_timeout(socket, millis)
    };
    #[cfg(not(target_os = "linux"))]
    let _ = (socket, silence);
}

impl Wire {
    /// From here on closing it resets the connection.
    pub fn reset_on_close(&self) {
        let linger = Some(std::time::Duration::ZERO);
        // A socket that is gone already cannot be told, and need not.
        let _ = match self {
            Self::Tcp(socket) => SockRef::from(socket).set_linger(linger),
            Self::Tls(socket) => SockRef::from(socket.get_ref().0).set_linger(linger),
            Self::Unix(_) => Ok(()),
        };
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.get_mut().socket().poll_read(cx, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().socket().poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().socket().poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(socket) => socket.is_write_vectored(),
            Self::Unix(socket) => socket.is_write_vectored(),
            Self::Tls(socket) => socket.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().socket().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().socket().poll_shutdown(cx)
    }
}
