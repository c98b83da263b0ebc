//! Listening sockets: one per worker and address, so that the kernel spreads connections and no worker
//! ever hands one to another.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use socket2::{Domain, Protocol, Socket, Type};

use crate::config::Listen;

/// The sockets of one listening address: one for each worker.
#[derive(Debug)]
pub enum Bound {
    /// TCP with `SO_REUSEPORT`: each worker has its own accept queue.
    Tcp(SocketAddr, Vec<std::net::TcpListener>),
    /// A unix socket, whose one queue all workers share.
    Unix(PathBuf, Vec<std::os::unix::net::UnixListener>),
}

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct BindError {
    /// The address as configured.
    pub address: String,
    source: io::Error,
}

/// Binds `listen` for `workers` workers. Port 0 takes one free port for all of them.
///
/// # Errors
/// When the address is taken or not this machine's.
pub fn bind(listen: &Listen, workers: usize) -> Result<Bound, BindError> {
    match listen {
        Listen::Tcp(address) => bind_tcp(*address, workers).map_err(|source| BindError {
            address: address.to_string(),
            source,
        }),
        Listen::Unix(path) => bind_unix(path, workers).map_err(|source| BindError {
            address: path.display().to_string(),
            source,
        }),
    }
}

fn bind_tcp(address: SocketAddr, workers: usize) -> io::Result<Bound> {
    let first = reuseport(address)?;
    let bound = first.local_addr()?;
    let mut sockets = vec![first];
    for _ in 1..workers {
        sockets.push(reuseport(bound)?);
    }
    Ok(Bound::Tcp(bound, sockets))
}

fn reuseport(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}

fn bind_unix(path: &Path, workers: usize) -> io::Result<Bound> {
    // A socket left by a process that was killed is in the way; a file of another kind is not ours.
    let stale = path
        .symlink_metadata()
        .is_ok_and(|meta| meta.file_type().is_socket());
    if stale && std::os::unix::net::UnixStream::connect(path).is_err() {
        std::fs::remove_file(path)?;
    }
    let first = std::os::unix::net::UnixListener::bind(path)?;
    first.set_nonblocking(true)?;
    let mut sockets = Vec::with_capacity(workers);
    for _ in 1..workers {
        sockets.push(first.try_clone()?);
    }
    sockets.push(first);
    Ok(Bound::Unix(path.to_owned(), sockets))
}
