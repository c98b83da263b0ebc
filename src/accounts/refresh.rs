//! Refresh tokens: their form, and the decision on one that comes back. Pure. A token names its session and its
//! place in the row of that session's tokens; the session's row keeps only the newest place, so that every
//! concurrent refresh of one token gets the same successor. The signature's key follows from the accounts'
//! secret: nothing in the store makes a token.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

use crate::identity::vault::{Purpose, Vault, VaultError};
use crate::records::{Api, Session, SessionId, UnixMillis};
use crate::secret::Secret;

/// A refresh token, read but not believed.
#[derive(Debug, PartialEq, Eq)]
pub struct Presented {
    /// Of which session it says that it is.
    pub session: SessionId,
    /// Its place among the session's tokens, the first is 1.
    pub counter: u64,
    signature: [u8; SIGNATURE],
}

/// Why a text is not taken for one of our tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// It has the form of none.
    Malformed,
    /// It has the form that tokens of other servers have, and is none of ours.
    Foreign,
}

/// What becomes of a token that is truly the session's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is the newest: its successor is given, with this place.
    Rotate(u64),
    /// The newest is given again.
    Again(u64),
    /// It was spent long ago: somebody has stolen it, or had it stolen. The session must end.
    Theft,
    /// No such token was ever made in this session.
    NeverMade,
}

impl Presented {
    /// Reads a token's form (base64url: a version, the session, the place, a signature, a checksum).
    ///
    /// # Errors
    /// When it has not the form.
    pub fn read(text: &str) -> Result<Self, Unread> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        if text.len() == 12 && text.bytes().all(plain) {
            return Err(Unread::Foreign);
        }
        if text.len() > LONGEST {
            return Err(Unread::Malformed);
        }
        let bytes = URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|_| Unread::Malformed)?;
        Self::parse(&bytes).ok_or(Unread::Malformed)
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (signed, checksum) = bytes.split_at_checked(bytes.len().checked_sub(CHECKSUM)?)?;
        let expected = digest(&SHA256, signed);
        if expected.as_ref().get(..CHECKSUM) != Some(checksum) {
            return None;
        }
        let (body, signature) = signed.split_at_checked(signed.len().checked_sub(SIGNATURE)?)?;
        let rest = body.strip_prefix(&[VERSION])?;
        let (session, counter) = rest.split_first_chunk::<16>()?;
        Some(Self {
            session: SessionId(Uuid::from_bytes(*session)),
            counter: read_varint(counter)?,
            signature: signature.try_into().ok()?,
        })
    }

    /// Whether we made it, for this API.
    ///
    /// # Errors
    /// When the key cannot be derived.
    pub fn is_ours(&self, vault: &Vault, api: Api) -> Result<bool, VaultError> {
        let key = key(vault, api, self.session)?;
        let body = body(self.session, self.counter);
        let expected = hmac::sign(&key, &body);
        let short = Secret::new(&expected.as_ref()[..SIGNATURE]);
        Ok(short == Secret::new(&self.signature[..]))
    }
}

/// The token of this place.
///
/// # Errors
/// When the key cannot be derived.
pub fn make(
    vault: &Vault,
    api: Api,
    session: SessionId,
    counter: u64,
) -> Result<Secret<String>, VaultError> {
    let mut bytes = body(session, counter);
    let signature = hmac::sign(&key(vault, api, session)?, &bytes);
    bytes.extend_from_slice(&signature.as_ref()[..SIGNATURE]);
    let checksum = digest(&SHA256, &bytes);
    bytes.extend_from_slice(&checksum.as_ref()[..CHECKSUM]);
    Ok(Secret::new(URL_SAFE_NO_PAD.encode(bytes)))
}

/// What becomes of the session's token of the place `counter`.
pub fn decide(session: &Session, counter: u64, now: UnixMillis, reuse: Duration) -> Decision {
    let current = session.refresh_counter;
    let Some(age) = current.checked_sub(counter) else {
        return Decision::NeverMade;
    };
    match age {
        _ if counter == 0 => Decision::NeverMade,
        0 => Decision::Rotate(current.saturating_add(1)),
        // Whoever comes with the parent did not get the answer, or did not save it.
        1 => Decision::Again(current),
        _ if is_within(session.refreshed_at, now, reuse) => Decision::Again(current),
        _ => Decision::Theft,
    }
}

/// Whether the session is younger than it may become: none of these limits has passed.
pub fn is_alive(session: &Session, now: UnixMillis, limits: &Limits) -> bool {
    let renewed = session.refreshed_at.unwrap_or(session.created_at);
    let within = |since, limit: Option<Duration>| {
        limit.is_none_or(|limit| is_within(Some(since), now, limit))
    };
    within(session.created_at, limits.lifetime)
        && within(renewed, limits.idle)
        && within(renewed, limits.token)
}

/// How old sessions and their tokens may become; `None`: as old as they like.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// From the log-in.
    pub lifetime: Option<Duration>,
    /// From the last refresh.
    pub idle: Option<Duration>,
    /// The API's own for its refresh tokens, each from when it was made.
    pub token: Option<Duration>,
}

fn is_within(since: Option<UnixMillis>, now: UnixMillis, limit: Duration) -> bool {
    let limit = i64::try_from(limit.as_millis()).unwrap_or(i64::MAX);
    since.is_some_and(|since| now.saturating_sub(since) < limit)
}

/// Each API and each session has a key of its own: a token of one is none of another.
fn key(vault: &Vault, api: Api, session: SessionId) -> Result<hmac::Key, VaultError> {
    let thing = [session.0.as_bytes(), api.word().as_bytes()].concat();
    let key = vault.key(Purpose::RefreshTokens, &thing)?;
    Ok(hmac::Key::new(hmac::HMAC_SHA256, key.expose()))
}

fn body(session: SessionId, counter: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(48);
    bytes.push(VERSION);
    bytes.extend_from_slice(session.0.as_bytes());
    push_varint(&mut bytes, counter);
    bytes
}

/// Little-endian groups of seven bits.
fn push_varint(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// The whole of `bytes`, in its shortest form only: a token has one spelling.
fn read_varint(bytes: &[u8]) -> Option<u64> {
    let (last, more) = bytes.split_last()?;
    let is_short = more.is_empty() || *last != 0;
    if bytes.len() > 9 || *last >= 0x80 || !is_short || more.iter().any(|byte| *byte < 0x80) {
        return None;
    }
    let group = |number: u64, byte: &u8| number << 7 | u64::from(byte & 0x7f);
    Some(bytes.iter().rev().fold(0, group))
}

const VERSION: u8 = 0;
/// Bytes of the HMAC-SHA-256 that are kept.
const SIGNATURE: usize = 16;
/// Bytes of the SHA-256 over all before it: tells a token that was cut from one that was forged.
const CHECKSUM: usize = 4;
/// Characters; the longest counter makes 62.
const LONGEST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::testing::session;

    const SECOND: i64 = 1000;
    const NOW: UnixMillis = 1_800_000_000_000;

    fn vault() -> Vault {
        Vault::new(b"kQ7fT2vX9mLr4ZsW8nYb3HcJ6pDg1RaE")
    }

    fn id(n: u128) -> SessionId {
        SessionId(Uuid::from_u128(n))
    }

    #[test]
    fn a_token_is_read_as_it_was_made() {
        for counter in [1, 2, 127, 128, 300, 16_384, u64::MAX >> 1] {
            let token = make(&vault(), Api::Token, id(7), counter).unwrap();
            let read = Presented::read(token.expose()).unwrap();
            assert_eq!((read.session, read.counter), (id(7), counter));
            assert!(read.is_ours(&vault(), Api::Token).unwrap());
            assert!(token.expose().len() >= 51);
        }
    }

    #[test]
    fn the_same_place_gives_the_same_token() {
        let make = |counter| make(&vault(), Api::Token, id(7), counter).unwrap();
        assert_eq!(make(3), make(3));
        assert_ne!(make(3), make(4));
    }

    #[test]
    fn a_token_of_another_api_session_or_secret_is_not_ours() {
        let token = make(&vault(), Api::Token, id(7), 1).unwrap();
        let read = Presented::read(token.expose()).unwrap();
        for api in [Api::App, Api::Session, Api::Supabase] {
            assert!(!read.is_ours(&vault(), api).unwrap());
        }
        let other = Vault::new(b"another secret of thirty-two bytes");
        assert!(!read.is_ours(&other, Api::Token).unwrap());
        let forged = Presented {
            session: id(8),
            ..Presented::read(token.expose()).unwrap()
        };
        assert!(!forged.is_ours(&vault(), Api::Token).unwrap());
        let ahead = Presented {
            counter: 2,
            ..Presented::read(token.expose()).unwrap()
        };
        assert!(!ahead.is_ours(&vault(), Api::Token).unwrap());
    }

    #[test]
    fn what_has_not_the_form_is_malformed() {
        let token = make(&vault(), Api::Token, id(7), 1).unwrap();
        let token = token.expose();
        let cut = &token[..token.len() - 1];
        for bad in [
            "",
            "x",
            cut,
            &format!("{token}="),
            &format!("{token}A"),
            &format!(" {token}"),
            "eyJhbGciOiJFUzI1NiJ9.e30.c2ln",
            "ABCDEFGHIJKL",
            &"A".repeat(5000),
        ] {
            assert_eq!(Presented::read(bad), Err(Unread::Malformed), "{bad}");
        }
        assert_eq!(Presented::read("abcdefghijk1"), Err(Unread::Foreign));
    }

    #[test]
    fn no_change_of_a_character_makes_another_token() {
        let token = make(&vault(), Api::Token, id(7), 300).unwrap();
        let token = token.expose().as_bytes();
        for at in 0..token.len() {
            for byte in *b"AZaz09-_" {
                let mut changed = token.to_vec();
                changed[at] = byte;
                let text = String::from_utf8(changed).unwrap();
                if text.as_bytes() != token {
                    assert_eq!(Presented::read(&text), Err(Unread::Malformed), "{text}");
                }
            }
        }
    }

    #[test]
    fn a_number_has_one_spelling() {
        for (bytes, number) in [
            (&[0][..], Some(0)),
            (&[1], Some(1)),
            (&[0x80, 1], Some(128)),
            (&[0x81, 0], None),
            (&[0x80], None),
            (&[1, 1], None),
            (&[], None),
            (&[0xff; 10], None),
        ] {
            assert_eq!(read_varint(bytes), number, "{bytes:?}");
        }
    }

    #[test]
    fn the_newest_rotates_its_parent_is_given_it_again_and_older_ones_are_theft() {
        let reuse = Duration::from_secs(10);
        let at = |counter, refreshed: i64| Session {
            refresh_counter: counter,
            refreshed_at: Some(NOW - refreshed),
            ..session(Api::Token, NOW)
        };
        for (session, counter, expected) in [
            (at(5, 3600 * SECOND), 5, Decision::Rotate(6)),
            (at(5, 3600 * SECOND), 4, Decision::Again(5)),
            (at(5, 3600 * SECOND), 3, Decision::Theft),
            (at(5, 10 * SECOND), 3, Decision::Theft),
            (at(5, 10 * SECOND - 1), 3, Decision::Again(5)),
            (at(5, SECOND), 1, Decision::Again(5)),
            (at(5, SECOND), 6, Decision::NeverMade),
            (at(5, SECOND), 0, Decision::NeverMade),
            (at(0, SECOND), 0, Decision::NeverMade),
        ] {
            let decided = decide(&session, counter, NOW, reuse);
            assert_eq!(
                decided, expected,
                "{counter} of {}",
                session.refresh_counter
            );
        }
        let never = Session {
            refresh_counter: 3,
            refreshed_at: None,
            ..session(Api::Token, NOW)
        };
        assert_eq!(decide(&never, 1, NOW, reuse), Decision::Theft);
        let zero = decide(&at(5, 0), 3, NOW, Duration::ZERO);
        assert_eq!(zero, Decision::Theft, "no interval");
    }

    #[test]
    fn a_session_lives_as_long_as_every_limit_allows() {
        let day = Duration::from_secs(86_400);
        let millis = |days: i64| days * 86_400 * SECOND;
        let session = Session {
            created_at: NOW - millis(30),
            refreshed_at: Some(NOW - millis(6)),
            ..session(Api::Token, NOW)
        };
        let none = Limits::default();
        let lifetime = |days| Limits {
            lifetime: Some(day * days),
            ..none
        };
        let idle = |days| Limits {
            idle: Some(day * days),
            ..none
        };
        let token = |days| Limits {
            token: Some(day * days),
            ..none
        };
        for (limits, alive) in [
            (none, true),
            (lifetime(31), true),
            (lifetime(30), false),
            (idle(7), true),
            (idle(6), false),
            (token(7), true),
            (token(6), false),
        ] {
            assert_eq!(is_alive(&session, NOW, &limits), alive, "{limits:?}");
        }
    }
}
