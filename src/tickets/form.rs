//! A ticket's form, and what follows from it: the hash that it is known by and the key of its seal, both bound to the
//! method and the path that it is for. Pure.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Prk, Salt};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{Id, Use};
use crate::identity::Identity;
use crate::request::credential::TICKET_PREFIX;
use crate::secret::Secret;

/// The secret itself.
pub(super) struct Ticket(Secret<[u8; 32]>);

/// What follows from it for one method and path.
pub(super) struct Key {
    pub(super) id: Id,
    seal: RandomizedNonceKey,
}

impl Ticket {
    pub(super) fn random() -> Option<Self> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).ok()?;
        Some(Self(Secret::new(bytes)))
    }

    /// `None`: it has not the form. It has one spelling.
    pub(super) fn read(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD
            .decode(text.strip_prefix(TICKET_PREFIX)?)
            .ok()?;
        Some(Self(Secret::new(bytes.try_into().ok()?)))
    }

    pub(super) fn text(&self) -> Secret<String> {
        let encoded = URL_SAFE_NO_PAD.encode(self.0.expose());
        Secret::new(format!("{TICKET_PREFIX}{encoded}"))
    }

    pub(super) fn key(&self, place: &Use<'_>) -> Option<Key> {
        let root = Salt::new(HKDF_SHA256, SALT).extract(self.0.expose());
        let derive = |purpose| derived(&root, purpose, place);
        Some(Key {
            id: derive(b"id")?,
            seal: RandomizedNonceKey::new(&AES_256_GCM, &derive(b"seal")?).ok()?,
        })
    }
}

/// Neither a method nor a path holds a zero byte: no two places make the same text.
fn derived(root: &Prk, purpose: &[u8], place: &Use<'_>) -> Option<[u8; 32]> {
    let (method, path) = (place.method.as_bytes(), place.path.as_bytes());
    let info = [purpose, &[0], method, &[0], path];
    let mut bytes = [0; 32];
    let derived = root.expand(&info, HKDF_SHA256);
    derived.and_then(|it| it.fill(&mut bytes)).ok()?;
    Some(bytes)
}

impl Key {
    /// The token of an identity, sealed.
    pub(super) fn seal(&self, identity: &Identity) -> Option<Box<[u8]>> {
        let mut text = identity.token.expose().as_bytes().to_vec();
        let aad = Aad::from(self.id);
        let nonce = self.seal.seal_in_place_append_tag(aad, &mut text).ok()?;
        Some([&nonce.as_ref()[..], &text].concat().into())
    }

    /// The token that was sealed.
    pub(super) fn open(&self, sealed: &[u8]) -> Option<Secret<Box<str>>> {
        let (nonce, text) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut text = text.to_vec();
        let plain = self
            .seal
            .open_in_place(nonce, Aad::from(self.id), &mut text);
        let token = String::from_utf8(plain.ok()?.to_vec()).ok()?;
        Some(Secret::new(token.into()))
    }
}

/// Not secret: it parts this use from every other.
const SALT: &[u8] = b"portcullis tickets 1";
