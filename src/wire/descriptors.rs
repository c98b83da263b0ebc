//! Descriptors: each connection is one, and a process may have so many. Some are kept for what must go on when clients have
//! taken the others: answering probes, and speaking to upstreams and the store.
//!
//! The system gives the lowest number that is free, so that the number of a new socket tells how many there are.

use std::os::fd::AsRawFd;
use std::sync::LazyLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Whom a new socket is for.
#[derive(Clone, Copy, Debug)]
pub enum Party {
    /// A client.
    Client,
    /// An upstream, which also has what is kept from clients, but for the last.
    Upstream,
}

/// Whether there are enough beside `socket` for what must go on.
pub fn spares(socket: &impl AsRawFd, party: Party) -> bool {
    let number = u64::try_from(socket.as_raw_fd()).unwrap_or_default();
    number < most().saturating_sub(kept(most(), party))
}

/// How many there may be. At the first call it becomes as many as the system lets the process have: a shell starts
/// programs with 1,024, since `select` knows no more, and nothing here selects.
pub fn most() -> u64 {
    static MOST: LazyLock<u64> = LazyLock::new(raise);
    *MOST
}

fn raise() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let most = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    most.unwrap_or(u64::MAX)
}

fn kept(most: u64, from: Party) -> u64 {
    let kept = (most / 8).min(KEPT);
    match from {
        Party::Client => kept,
        Party::Upstream => kept / 2,
    }
}

/// What the admin listener, the store, Redis and files need at once is far less than half of it.
const KEPT: u64 = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn something_is_kept_however_few_there_are() {
        for (most, from_clients, from_upstreams) in
            [(64, 8, 4), (1024, 128, 64), (1_048_576, 512, 256)]
        {
            assert_eq!(kept(most, Party::Client), from_clients);
            assert_eq!(kept(most, Party::Upstream), from_upstreams);
        }
    }

    #[test]
    fn as_many_as_may_be_are_there() {
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(most(), limit.maximum.unwrap_or(u64::MAX));
        assert_eq!(getrlimit(Resource::Nofile).current, limit.maximum);
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(spares(&socket, Party::Client));
    }
}
