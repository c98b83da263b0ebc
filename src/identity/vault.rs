//! The accounts' secret, and what follows from it: the seal on private keys in the store, and a key of its own
//! for each other purpose (HKDF, RFC 5869). Without the secret a copy of the database opens nothing, and
//! forges nothing. The secret comes from the config, or from a file that the first start makes.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Prk, Salt};
use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::config::AccountsSecret;
use crate::secret::Secret;

/// Derives keys from one secret, and seals with them. Shared by everything that needs one.
pub struct Vault {
    root: Prk,
}

/// What a derived key is for. Keys of two purposes have nothing in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Sealing private keys in the store.
    SigningKeys,
    /// Signing refresh tokens.
    RefreshTokens,
    /// Hashing one-time codes, which are short enough to be found from a plain hash.
    OneTimeCodes,
}

/// Why the vault gives nothing.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// Sealed with another secret, for something else, or damaged.
    #[error("what was sealed does not open with this secret")]
    Sealed,
    /// The library failed.
    #[error("the key could not be derived")]
    Failed,
    /// The secret is too short to be one.
    #[error("the secret in {} has fewer than {SHORTEST} bytes", .0.display())]
    Short(PathBuf),
    /// Others can read the file.
    #[error("{} can be opened by others than its owner: chmod 600 it", .0.display())]
    Open(PathBuf),
    /// The file can be neither read nor made.
    #[error("the secret file {} can be neither read nor made: {error}", path.display())]
    #[expect(missing_docs, reason = "the names say it")]
    File { path: PathBuf, error: io::Error },
}

impl Vault {
    /// A vault over a secret of the config.
    pub fn new(secret: &[u8]) -> Self {
        Self {
            root: Salt::new(HKDF_SHA256, SALT).extract(secret),
        }
    }

    /// A vault over the secret that `[accounts]` names.
    ///
    /// # Errors
    /// When it is kept in a file: as `kept_in`.
    pub fn of(secret: &AccountsSecret) -> Result<Self, VaultError> {
        match secret {
            AccountsSecret::Given(secret) => Ok(Self::new(secret.expose())),
            AccountsSecret::Kept(path) => Self::kept_in(path),
        }
    }

    /// A vault over the secret in a file. Where there is none, it is made: random, for its owner only, and on
    /// the disk before this answers. Of several processes that make it at once, one wins and all use its secret.
    ///
    /// # Errors
    /// When the file cannot be read or made, is open to others, or holds less than a secret.
    pub fn kept_in(path: &Path) -> Result<Self, VaultError> {
        let failed = |error| VaultError::File {
            path: path.to_owned(),
            error,
        };
        let opened = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make(path).map_err(failed)?;
                File::open(path)
            }
            opened => opened,
        };
        let mut file = opened.map_err(failed)?;
        if file.metadata().map_err(failed)?.mode() & 0o077 != 0 {
            return Err(VaultError::Open(path.to_owned()));
        }
        let mut text = String::new();
        let limit = u64::try_from(LONGEST).unwrap_or(u64::MAX);
        (&mut file)
            .take(limit)
            .read_to_string(&mut text)
            .map_err(failed)?;
        let secret = text.trim_end_matches(['\r', '\n']);
        if secret.len() < SHORTEST {
            return Err(VaultError::Short(path.to_owned()));
        }
        Ok(Self::new(secret.as_bytes()))
    }

    /// A key for one purpose and, within it, one thing.
    ///
    /// # Errors
    /// When the library fails.
    pub fn key(&self, purpose: Purpose, thing: &[u8]) -> Result<Secret<[u8; 32]>, VaultError> {
        // The words hold no zero byte: no two pairs of purpose and thing give the same text.
        let info = [purpose.word().as_bytes(), &[0], thing];
        let mut key = [0; 32];
        self.root
            .expand(&info, HKDF_SHA256)
            .and_then(|derived| derived.fill(&mut key))
            .map_err(|_| VaultError::Failed)?;
        Ok(Secret::new(key))
    }

    /// Encrypts `plain` so that it opens under the same purpose and name only (AES-256-GCM).
    ///
    /// # Errors
    /// When the library fails.
    pub fn seal(
        &self,
        purpose: Purpose,
        name: &str,
        plain: &[u8],
    ) -> Result<Box<[u8]>, VaultError> {
        let mut text = plain.to_vec();
        let nonce = self
            .cipher(purpose)?
            .seal_in_place_append_tag(Aad::from(name), &mut text)
            .map_err(|_| VaultError::Failed)?;
        Ok([&[VERSION][..], nonce.as_ref(), &text].concat().into())
    }

    /// What was sealed.
    ///
    /// # Errors
    /// When it was sealed with another secret, for another purpose or name, or was changed since.
    pub fn open(
        &self,
        purpose: Purpose,
        name: &str,
        sealed: &[u8],
    ) -> Result<Secret<Vec<u8>>, VaultError> {
        let rest = sealed.strip_prefix(&[VERSION]);
        let (nonce, text) = rest
            .and_then(|rest| rest.split_at_checked(NONCE_LEN))
            .ok_or(VaultError::Sealed)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| VaultError::Sealed)?;
        let mut text = text.to_vec();
        let plain = self
            .cipher(purpose)?
            .open_in_place(nonce, Aad::from(name), &mut text)
            .map_err(|_| VaultError::Sealed)?;
        let length = plain.len();
        text.truncate(length);
        Ok(Secret::new(text))
    }

    fn cipher(&self, purpose: Purpose) -> Result<RandomizedNonceKey, VaultError> {
        let key = self.key(purpose, b"seal")?;
        RandomizedNonceKey::new(&AES_256_GCM, key.expose()).map_err(|_| VaultError::Failed)
    }
}

impl Purpose {
    fn word(self) -> &'static str {
        match self {
            Self::SigningKeys => "signing-keys",
            Self::RefreshTokens => "refresh-tokens",
            Self::OneTimeCodes => "one-time-codes",
        }
    }
}

/// Writes a new secret to a file of this name, unless there is one by now.
fn make(path: &Path) -> io::Result<()> {
    let mut bytes = [0; 48];
    rand::fill(&mut bytes).map_err(|_| io::Error::other("no randomness"))?;
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{}.{:08x}", std::process::id(), tag()?));
    let draft = PathBuf::from(draft);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)?;
    let written = file
        .write_all(format!("{}\n", STANDARD.encode(bytes)).as_bytes())
        .and_then(|()| file.sync_all())
        // A link is made whole or not at all, and never over a file that is there.
        .and_then(|()| match std::fs::hard_link(&draft, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        });
    let removed = std::fs::remove_file(&draft);
    written.and(removed)?;
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// Tells the drafts of two threads apart.
fn tag() -> io::Result<u32> {
    let mut bytes = [0; 4];
    rand::fill(&mut bytes).map_err(|_| io::Error::other("no randomness"))?;
    Ok(u32::from_ne_bytes(bytes))
}

/// Of the form of what is sealed.
const VERSION: u8 = 1;
/// Not secret: it parts this use of the secret from every other.
const SALT: &[u8] = b"portcullis accounts 1";
const SHORTEST: usize = 32;
const LONGEST: usize = 4096;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const SECRET: &[u8] = b"kQ7fT2vX9mLr4ZsW8nYb3HcJ6pDg1RaE";

    /// A folder of its own for a test's files, removed with it.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let name = format!("portcullis-vault-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            drop(std::fs::remove_dir_all(&self.0));
        }
    }

    #[test]
    fn what_is_sealed_opens_with_the_same_secret_purpose_and_name_only() {
        let vault = Vault::new(SECRET);
        let sealed = vault.seal(Purpose::SigningKeys, "k1", b"private").unwrap();
        assert!(!sealed.windows(7).any(|window| window == b"private"));
        let open = |vault: &Vault, purpose, name: &str| {
            vault
                .open(purpose, name, &sealed)
                .map(|plain| plain.expose().clone())
                .ok()
        };
        let opened = open(&Vault::new(SECRET), Purpose::SigningKeys, "k1");
        assert_eq!(opened.as_deref(), Some(b"private".as_slice()));
        assert_eq!(open(&vault, Purpose::SigningKeys, "k2"), None);
        assert_eq!(open(&vault, Purpose::RefreshTokens, "k1"), None);
        let other = Vault::new(b"another secret of thirty-two bytes");
        assert_eq!(open(&other, Purpose::SigningKeys, "k1"), None);
    }

    #[test]
    fn a_change_of_any_byte_is_noticed() {
        let vault = Vault::new(SECRET);
        let sealed = vault.seal(Purpose::SigningKeys, "k1", b"private").unwrap();
        for at in 0..sealed.len() {
            let mut changed = sealed.to_vec();
            changed[at] ^= 1;
            let opened = vault.open(Purpose::SigningKeys, "k1", &changed);
            assert!(matches!(opened, Err(VaultError::Sealed)), "{at}");
            let cut = vault.open(Purpose::SigningKeys, "k1", &sealed[..at]);
            assert!(matches!(cut, Err(VaultError::Sealed)), "{at}");
        }
    }

    #[test]
    fn the_same_text_is_never_sealed_alike() {
        let vault = Vault::new(SECRET);
        let seal = || vault.seal(Purpose::SigningKeys, "k1", b"private").unwrap();
        assert_ne!(seal(), seal());
    }

    #[test]
    fn each_purpose_and_thing_has_its_own_key_which_stays() {
        let vault = Vault::new(SECRET);
        let key = |purpose, thing: &[u8]| *vault.key(purpose, thing).unwrap().expose();
        let one = key(Purpose::RefreshTokens, b"a");
        let again = Vault::new(SECRET).key(Purpose::RefreshTokens, b"a");
        assert_eq!(one, *again.unwrap().expose());
        assert_ne!(one, key(Purpose::RefreshTokens, b"b"));
        assert_ne!(one, key(Purpose::OneTimeCodes, b"a"));
    }

    #[test]
    fn the_file_is_made_once_and_for_its_owner_only() {
        let folder = Folder::new("made");
        let path = folder.0.join("secret");
        let vaults: Vec<Vault> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| Vault::kept_in(&path).unwrap()))
                .collect();
            starts
                .into_iter()
                .map(|start| start.join().unwrap())
                .collect()
        });
        let key = |vault: &Vault| *vault.key(Purpose::RefreshTokens, b"").unwrap().expose();
        for vault in &vaults {
            assert_eq!(key(vault), key(&vaults[0]));
        }
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let files = std::fs::read_dir(&folder.0).unwrap().count();
        assert_eq!(files, 1, "no draft stays");
        // The same text in the config is the same secret.
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            key(&Vault::new(text.trim_end().as_bytes())),
            key(&vaults[0])
        );
    }

    #[test]
    fn a_file_that_is_open_to_others_or_short_is_refused() {
        let folder = Folder::new("refused");
        let path = folder.0.join("secret");
        let write = |text: &str, mode| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        let secret = std::str::from_utf8(SECRET).unwrap();
        write(secret, 0o644);
        assert!(matches!(Vault::kept_in(&path), Err(VaultError::Open(_))));
        write("short\n", 0o600);
        assert!(matches!(Vault::kept_in(&path), Err(VaultError::Short(_))));
        write(secret, 0o600);
        assert!(Vault::kept_in(&path).is_ok());
        let nowhere = folder.0.join("none/secret");
        assert!(matches!(
            Vault::kept_in(&nowhere),
            Err(VaultError::File { .. })
        ));
    }
}
