//! The server side of HTTP/1.1: its parts by tables, and the whole beside hyper's server.

mod answers;
mod differential;
mod requests;

use std::rc::Rc;

use tokio::net::UnixStream;

use super::request::Limits;
use crate::http1::link::Link;
use crate::wire::Wire;
use crate::wire::vitals::{Bed, Ward, Watched};

const LIMITS: Limits = Limits {
    bytes: 64 * 1024,
    fields: 100,
};

/// A connection, its place in a ward, and the client's end of it.
fn connection() -> (Rc<Link>, Bed, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let bed = Ward::open().admit();
    let wire = Watched::new(Wire::Unix(ours), Rc::clone(&bed.vitals));
    (Link::new(wire), bed, theirs)
}
