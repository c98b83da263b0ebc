//! Which header names may pass. A closed list of what must not, compared in folded form.

use http::header::{self, HeaderName};
use rustc_hash::FxHashMap;

use crate::config::{self, Credentials, Source};

/// What becomes of a field that the client sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It passes.
    Keep,
    /// It goes.
    Drop,
    /// It says who forwarded: it passes from trusted proxies alone.
    Forwarding,
}

/// The names that must not pass, on the routes that treat credentials alike.
#[derive(Debug)]
pub(super) struct Names {
    folded: FxHashMap<Box<[u8]>, Verdict>,
    /// Bit n: a name of n bytes is in the map. Most fields are settled by that.
    lengths: u64,
}

impl Names {
    pub(super) fn build(credentials: Credentials, config: &config::Config) -> Self {
        let mut names = Self {
            folded: FxHashMap::default(),
            lengths: 0,
        };
        for name in FORWARDING {
            names.add(name, Verdict::Forwarding);
        }
        for name in HOP_BY_HOP
            .iter()
            .chain(FRAMING)
            .chain(REWRITES)
            .chain(IDENTITY)
        {
            names.add(name, Verdict::Drop);
        }
        for name in config.identity.names() {
            names.add(name.as_str(), Verdict::Drop);
        }
        // Their exact spelling is gone already, those of other routes too; another must not reach the upstream
        // as the same.
        let strips = credentials == Credentials::Strip;
        for source in config.every_source().filter(|_| strips) {
            if let Source::Header(name) = source {
                names.add(name.as_str(), Verdict::Drop);
            }
        }
        names
    }

    fn add(&mut self, name: &str, verdict: Verdict) {
        let folded: Box<[u8]> = name.bytes().map(fold).collect();
        self.lengths |= 1 << folded.len().min(63);
        self.folded.insert(folded, verdict);
    }

    /// What becomes of a field called `name`, which is in lower case.
    pub(super) fn judge(&self, name: &str) -> Verdict {
        let bytes = name.as_bytes();
        let plain = is_plain(bytes);
        if is_kept(name) {
            return Verdict::Keep;
        }
        if plain {
            return self.judge_folded(bytes);
        }
        let mut buffer = [0; 64];
        let Some(folded) = buffer.get_mut(..bytes.len()) else {
            let folded: Vec<u8> = bytes.iter().copied().map(fold).collect();
            return disguised(self.judge_folded(&folded));
        };
        for (place, &byte) in folded.iter_mut().zip(bytes) {
            *place = fold(byte);
        }
        disguised(self.judge_folded(folded))
    }

    fn judge_folded(&self, name: &[u8]) -> Verdict {
        if name.starts_with(b"x-forwarded") {
            return Verdict::Forwarding;
        }
        if name.starts_with(b"proxy-") {
            return Verdict::Drop;
        }
        if self.lengths & (1 << name.len().min(63)) == 0 {
            return Verdict::Keep;
        }
        self.folded.get(name).copied().unwrap_or(Verdict::Keep)
    }
}

/// Whoever spells a forwarding name in another way is no proxy.
fn disguised(verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::Keep => Verdict::Keep,
        Verdict::Drop | Verdict::Forwarding => Verdict::Drop,
    }
}

/// The framing and routing fields that pass in their own spelling, and that `Connection` cannot name away.
pub(super) fn is_kept(name: &str) -> bool {
    matches!(name, "content-length" | "host")
}

/// Fields about the connection, not about the message.
pub(super) fn is_hop_by_hop(name: &HeaderName) -> bool {
    match *name {
        header::CONNECTION
        | header::TE
        | header::TRANSFER_ENCODING
        | header::UPGRADE
        | header::PROXY_AUTHENTICATE
        | header::PROXY_AUTHORIZATION => true,
        _ => HOP_BY_HOP.contains(&name.as_str()) || name.as_str().starts_with("proxy-"),
    }
}

/// Fields that no trailer may carry.
pub(super) fn is_framing(name: &HeaderName) -> bool {
    let folded: Vec<u8> = name.as_str().bytes().map(fold).collect();
    let in_list = |list: &[&str]| list.iter().any(|known| known.as_bytes() == folded);
    folded.starts_with(b"proxy-") || in_list(HOP_BY_HOP) || in_list(FRAMING) || in_list(CONTROL)
}

/// What a request's trailers may carry.
pub(super) fn is_allowed_trailer(name: &str) -> bool {
    matches!(
        name,
        "content-digest"
            | "repr-digest"
            | "digest"
            | "content-md5"
            | "signature"
            | "signature-input"
            | "x-amz-checksum-crc32"
            | "x-amz-checksum-crc32c"
            | "x-amz-checksum-crc64nvme"
            | "x-amz-checksum-sha1"
            | "x-amz-checksum-sha256"
            | "x-amz-trailer-signature"
    )
}

/// Letters in lower case, digits, and `-` for everything else, as CGI and its heirs make one variable of them.
fn fold(byte: u8) -> u8 {
    match byte.to_ascii_lowercase() {
        byte if byte.is_ascii_alphanumeric() => byte,
        _ => b'-',
    }
}

fn is_plain(name: &[u8]) -> bool {
    name.iter()
        .all(|&byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

const HOP_BY_HOP: &[&str] = &[
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

/// `Expect` is answered here: the upstream's interim answer would have no one waiting for it.
const FRAMING: &[&str] = &["content-length", "host", "expect"];

/// Read by some frameworks in place of the request's own target.
const REWRITES: &[&str] = &["x-original-url", "x-rewrite-url"];

/// Always ours, also where a deployment does not send them.
const IDENTITY: &[&str] = &[
    "x-user-id",
    "x-user-email",
    "x-user-role",
    "x-user-anonymous",
    "x-session-id",
    "x-auth-status",
    "x-portcullis-assertion",
];

/// Together with everything that begins with `x-forwarded`.
const FORWARDING: &[&str] = &[
    "forwarded",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "x-original-host",
    "x-original-forwarded-for",
];

/// Processed before a trailer could arrive (RFC 9110 §6.5.1).
const CONTROL: &[&str] = &[
    "authorization",
    "set-cookie",
    "cookie",
    "content-type",
    "content-encoding",
    "content-range",
    "cache-control",
    "trailer",
    "location",
];
