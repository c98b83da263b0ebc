//! A client's bytes: heads read as they come and at once give the same; what is read is judged as the gate does,
//! and its credential taken.
#![no_main]

use std::path::Path;
use std::sync::LazyLock;

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use portcullis::config::{self, Config};
use portcullis::refusal::Refusal;
use portcullis::request::credential::Sources;
use portcullis::request::head::{Head, HeadRules};
use portcullis::request::peer::Peer;
use portcullis::server::http1::request::{Asked, Limits, Reader};

static CONFIG: LazyLock<Config> = LazyLock::new(|| {
    let text = "[[upstream]]\nname = \"a\"\nendpoints = [\"http://127.0.0.1:1\"]\n\
                [[route]]\nname = \"a\"\npath = \"/{*rest}\"\nupstream = \"a\"\nauth = \"public\"\n";
    config::parse(text, Path::new("fuzz.toml"), &|_| None).expect("it is a configuration")
});

const LIMITS: Limits = Limits {
    bytes: 8192,
    fields: 50,
};

/// The head and how many bytes are behind it.
type Told = Result<Option<(Asked, usize)>, Refusal>;

fn at_once(bytes: &[u8]) -> Told {
    let mut read = Bytes::copy_from_slice(bytes);
    let asked = Reader::within(LIMITS).take(&mut read)?;
    Ok(asked.map(|asked| (asked, read.len())))
}

fn piece_by_piece(bytes: &[u8], size: usize) -> Told {
    let (mut reader, mut come) = (Reader::within(LIMITS), BytesMut::new());
    for (at, piece) in bytes.chunks(size).enumerate() {
        come.extend_from_slice(piece);
        let mut read = Bytes::copy_from_slice(&come);
        if let Some(asked) = reader.take(&mut read)? {
            let behind = bytes.len() - (at * size + piece.len());
            return Ok(Some((asked, read.len() + behind)));
        }
    }
    Ok(None)
}

fn judge(asked: Asked) {
    let peer = Peer {
        address: None,
        secure: false,
    };
    let (mut parts, ()) = asked.head.into_parts();
    let rules = HeadRules::build(&CONFIG.server);
    let Ok(head) = Head::read(&mut parts, peer, &rules) else {
        return;
    };
    assert!(head.path().starts_with('/'));
    let sources = Sources::build(CONFIG.every_source());
    let _ = sources.take(&mut parts, &sources);
    // Whatever was found, it is out.
    let left = sources.look(&parts).expect("nothing is left to conflict");
    assert!(left.place().is_none());
}

fuzz_target!(|input: &[u8]| {
    let Some((&size, bytes)) = input.split_first() else {
        return;
    };
    let (whole, split) = (
        at_once(bytes),
        piece_by_piece(bytes, usize::from(size).max(1)),
    );
    match (whole, split) {
        (Ok(Some((asked, behind))), Ok(Some((same, left)))) => {
            assert_eq!(behind, left);
            assert_eq!(format!("{asked:?}"), format!("{same:?}"));
            judge(asked);
        }
        // What comes in pieces is looked at again only when it may be whole: what is bad is known later then.
        (Ok(None) | Err(_), Ok(None)) | (Err(_), Err(_)) => {}
        // And it may be found to be too large before its end is there.
        (Ok(_), Err(Refusal::UriTooLong | Refusal::HeadersTooLarge)) => {}
        (whole, split) => panic!("{whole:?} {split:?}"),
    }
});
