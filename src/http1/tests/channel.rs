//! What a connection holds while it waits.

use std::sync::Arc;
use std::task::{Context, Waker};

use bytes::{Buf, Bytes};
use tokio::net::UnixStream;

use crate::http1::channel::Channel;
use crate::wire::Wire;

#[tokio::test]
async fn what_was_used_up_is_not_held() {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let mut channel = Channel::new(Wire::Unix(ours));
    let held: Arc<[u8]> = Arc::from(*b"a head, and an event");
    channel.read = Bytes::from_owner(Arc::clone(&held));
    channel.read.advance(held.len());
    assert_eq!(Arc::strong_count(&held), 2);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(channel.poll_more(&mut cx).is_pending());
    assert_eq!(Arc::strong_count(&held), 1);
}
