//! WebSocket frames in pieces and at once: the same place.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis::forward::websocket::frames::Follower;

fuzz_target!(|input: &[u8]| {
    let Some((&size, bytes)) = input.split_first() else {
        return;
    };
    let (mut whole, mut split) = (Follower::default(), Follower::default());
    whole.follow(bytes);
    for piece in bytes.chunks(usize::from(size).max(1)) {
        split.follow(piece);
    }
    assert_eq!(whole.standing(), split.standing());
    assert_eq!(whole.close(), split.close());
});
