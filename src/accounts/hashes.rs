//! One password, one hash: made and compared. Blocks for as long as a hash takes; `hashing.rs` calls it where that
//! harms nobody.

use argon2::{Algorithm, Argon2, Block, Params, PasswordHash as Phc, Version};
use base64::engine::GeneralPurpose;
use base64::engine::general_purpose::{NO_PAD, STANDARD_NO_PAD};
use base64::{Engine, alphabet};
use subtle::ConstantTimeEq;

use super::passwords::BCRYPT_LONGEST;
use crate::config::{PasswordHash, Passwords};
use crate::secret::Secret;

/// The hash could not be made: no memory, no randomness, or parameters that the library refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the password could not be hashed")]
pub struct HashFailed;

/// What comes of comparing a password with a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// It is another one.
    No,
    /// It is the one.
    Yes,
    /// It is the one, and the hash is not made as hashes are made now.
    Outdated,
}

/// The memory that argon2 works in: kept from hash to hash, because getting it from the system anew takes a good
/// part of the time of a hash.
#[derive(Default)]
pub struct Memory(Vec<Block>);

/// A new hash, as text (`$argon2id$…` or `$2b$…`).
///
/// # Errors
/// When the library fails.
pub fn make(
    how: &Passwords,
    password: &Secret<String>,
    memory: &mut Memory,
) -> Result<Secret<String>, HashFailed> {
    let password = password.expose().as_bytes();
    match how.hash {
        PasswordHash::Argon2id => argon2id(how, password, memory),
        PasswordHash::Bcrypt if password.len() > BCRYPT_LONGEST => Err(HashFailed),
        PasswordHash::Bcrypt => bcrypt::hash(password, how.bcrypt_cost)
            .map(Secret::new)
            .map_err(|_| HashFailed),
    }
}

/// A hash of no password, made without hashing: comparing with it takes as long as with a real one.
///
/// # Errors
/// Without randomness, or with parameters that the library refuses.
pub fn decoy(how: &Passwords) -> Result<Secret<String>, HashFailed> {
    let mut random = [0; 16 + OUTPUT];
    getrandom::fill(&mut random).map_err(|_| HashFailed)?;
    let (salt, output) = random.split_at(16);
    match how.hash {
        PasswordHash::Argon2id => Ok(phc(&current(how)?, salt, output)),
        PasswordHash::Bcrypt => {
            let encode = |bytes: &[u8]| BCRYPT_BASE64.encode(bytes);
            let (cost, salt, output) = (how.bcrypt_cost, encode(salt), encode(&output[..23]));
            Ok(Secret::new(format!("$2b${cost:02}${salt}{output}")))
        }
    }
}

/// Compares a password with a hash. A text that is no hash matches nothing.
pub fn compare(
    how: &Passwords,
    password: &Secret<String>,
    hash: &Secret<String>,
    memory: &mut Memory,
) -> Match {
    let password = password.expose().as_bytes();
    let (matches, current) = match Kind::of(hash.expose()) {
        Some(Kind::Bcrypt { cost }) => (
            bcrypt_matches(password, |it| bcrypt::verify(it, hash.expose())),
            how.hash == PasswordHash::Bcrypt && cost == how.bcrypt_cost,
        ),
        Some(Kind::Argon2(phc)) => (
            recompute(password, &phc, memory).unwrap_or(false),
            how.hash == PasswordHash::Argon2id && is_current(how, &phc),
        ),
        None => (false, true),
    };
    match (matches, current) {
        (false, _) => Match::No,
        (true, true) => Match::Yes,
        (true, false) => Match::Outdated,
    }
}

/// Whether a text is a hash that passwords can be compared with: what may be imported.
pub fn is_hash(text: &str) -> bool {
    match Kind::of(text) {
        Some(Kind::Bcrypt { cost }) => (4..=20).contains(&cost),
        Some(Kind::Argon2(phc)) => {
            let affordable = |it: &Params| it.m_cost() <= MOST_MEMORY && it.t_cost() <= MOST_PASSES;
            phc.hash.is_some() && phc.salt.is_some() && params(&phc).is_ok_and(|it| affordable(&it))
        }
        None => false,
    }
}

/// What a text is.
enum Kind {
    Bcrypt { cost: u32 },
    Argon2(Box<Phc>),
}

impl Kind {
    fn of(text: &str) -> Option<Self> {
        // `$2x$` marks hashes of a broken program.
        let bcrypt = ["$2a$", "$2b$", "$2y$"];
        if bcrypt.iter().any(|prefix| text.starts_with(prefix)) {
            let parts: bcrypt::HashParts = text.parse().ok()?;
            return Some(Self::Bcrypt {
                cost: parts.get_cost(),
            });
        }
        let phc = Phc::new(text).ok()?;
        Algorithm::new(phc.algorithm).ok()?;
        Some(Self::Argon2(Box::new(phc)))
    }
}

/// Beyond 72 bytes and behind a NUL bcrypt sees nothing: what it would cut is refused, and costs as much as any other
/// wrong password, or the time would tell whose hash is a bcrypt one, and so who is a user.
fn bcrypt_matches<E>(password: &[u8], verify: impl FnOnce(&[u8]) -> Result<bool, E>) -> bool {
    let whole = password.len() <= BCRYPT_LONGEST && !password.contains(&0);
    let seen = if whole { password } else { b"" };
    verify(seen).unwrap_or(false) && whole
}

fn argon2id(
    how: &Passwords,
    password: &[u8],
    memory: &mut Memory,
) -> Result<Secret<String>, HashFailed> {
    let params = current(how)?;
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).map_err(|_| HashFailed)?;
    let mut output = [0; OUTPUT];
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
    argon2
        .hash_password_into_with_memory(password, &salt, &mut output, memory.of(&params))
        .map_err(|_| HashFailed)?;
    Ok(phc(&params, &salt, &output))
}

/// As hashes are made now.
fn current(how: &Passwords) -> Result<Params, HashFailed> {
    Params::new(
        how.argon2_memory,
        how.argon2_iterations,
        how.argon2_parallelism,
        Some(OUTPUT),
    )
    .map_err(|_| HashFailed)
}

fn phc(params: &Params, salt: &[u8], output: &[u8]) -> Secret<String> {
    let encode = |bytes: &[u8]| STANDARD_NO_PAD.encode(bytes);
    Secret::new(format!(
        "$argon2id$v=19$m={},t={},p={}${}${}",
        params.m_cost(),
        params.t_cost(),
        params.p_cost(),
        encode(salt),
        encode(output)
    ))
}

fn recompute(password: &[u8], phc: &Phc, memory: &mut Memory) -> Result<bool, HashFailed> {
    let (Some(salt), Some(hash)) = (&phc.salt, &phc.hash) else {
        return Ok(false);
    };
    let params = params(phc)?;
    let algorithm = Algorithm::new(phc.algorithm).map_err(|_| HashFailed)?;
    let mut output = vec![0; hash.as_bytes().len()];
    // What few hashes need is not kept for all others.
    let (mut once, large) = (Memory::default(), params.block_count() > MOST_KEPT);
    let memory = if large { &mut once } else { memory };
    Argon2::new(algorithm, version(phc)?, params.clone())
        .hash_password_into_with_memory(password, salt.as_ref(), &mut output, memory.of(&params))
        .map_err(|_| HashFailed)?;
    Ok(output.ct_eq(hash.as_bytes()).into())
}

fn params(phc: &Phc) -> Result<Params, HashFailed> {
    Params::try_from(phc).map_err(|_| HashFailed)
}

/// Without a version, it is the one before the first that says so.
fn version(phc: &Phc) -> Result<Version, HashFailed> {
    phc.version
        .map_or(Ok(Version::V0x10), Version::try_from)
        .map_err(|_| HashFailed)
}

fn is_current(how: &Passwords, phc: &Phc) -> bool {
    let Ok(params) = params(phc) else {
        return false;
    };
    Algorithm::new(phc.algorithm) == Ok(Algorithm::Argon2id)
        && version(phc) == Ok(Version::V0x13)
        && params.m_cost() == how.argon2_memory
        && params.t_cost() == how.argon2_iterations
        && params.p_cost() == how.argon2_parallelism
        && params.output_len() == Some(OUTPUT)
}

impl Memory {
    /// The blocks that a hash with these parameters needs, at least.
    fn of(&mut self, params: &Params) -> &mut [Block] {
        if self.0.len() < params.block_count() {
            self.0.resize(params.block_count(), Block::default());
        }
        &mut self.0
    }
}

/// Bytes.
const OUTPUT: usize = 32;
/// KiB that an imported hash may ask for.
const MOST_MEMORY: u32 = 256 << 10;
/// Blocks (of 1 KiB) that are kept from hash to hash.
const MOST_KEPT: usize = 128 << 10;
/// bcrypt's own alphabet.
const BCRYPT_BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::BCRYPT, NO_PAD);
const MOST_PASSES: u32 = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::testing::rules;

    fn secret(text: &str) -> Secret<String> {
        Secret::new(text.to_owned())
    }

    fn compared(how: &Passwords, password: &str, hash: &str) -> Match {
        compare(
            how,
            &secret(password),
            &secret(hash),
            &mut Memory::default(),
        )
    }

    fn bcrypt_rules() -> Passwords {
        Passwords {
            hash: PasswordHash::Bcrypt,
            bcrypt_cost: 4,
            ..rules()
        }
    }

    #[test]
    fn a_decoy_is_a_hash_as_they_are_made_now_and_matches_nothing() {
        for how in [rules(), bcrypt_rules()] {
            let made = make(&how, &secret("correct horse"), &mut Memory::default()).unwrap();
            for _ in 0..20 {
                let decoy = decoy(&how).unwrap();
                let (decoy, made) = (decoy.expose(), made.expose());
                assert!(is_hash(decoy), "{decoy}");
                assert_eq!(decoy.len(), made.len());
                // Up to the salt it is the same: so is the work.
                let parts = |it: &str| it.rsplit_once('$').map(|it| it.0.len());
                assert_eq!(parts(decoy), parts(made));
                assert_eq!(compared(&how, "correct horse", decoy), Match::No);
                assert_eq!(compared(&how, "", decoy), Match::No);
            }
        }
        assert_ne!(decoy(&rules()), decoy(&rules()));
    }

    #[test]
    fn a_hash_that_asks_for_the_memory_of_the_machine_is_none() {
        let of = |memory: u32| {
            format!(
                "$argon2id$v=19$m={memory},t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA${}",
                "A".repeat(43)
            )
        };
        for (memory, taken) in [(19_456, true), (256 << 10, true), (1 << 20, false)] {
            assert_eq!(is_hash(&of(memory)), taken, "{memory}");
        }
    }

    #[test]
    fn a_password_matches_its_own_hash_only() {
        for how in [rules(), bcrypt_rules()] {
            let mut memory = Memory::default();
            let one = make(&how, &secret("correct horse"), &mut memory).unwrap();
            let two = make(&how, &secret("correct horse"), &mut memory).unwrap();
            assert_ne!(one.expose(), two.expose(), "salted");
            assert!(is_hash(one.expose()));
            assert_eq!(compared(&how, "correct horse", one.expose()), Match::Yes);
            for wrong in ["correct horsE", "correct hors", "correct horse ", ""] {
                assert_eq!(compared(&how, wrong, one.expose()), Match::No, "{wrong}");
            }
        }
    }

    #[test]
    fn hashes_of_other_programs_verify() {
        let how = rules();
        for (password, hash) in [
            // From the vectors of OpenBSD's and PHP's bcrypt.
            (
                "U*U",
                "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
            ),
            (
                "U*U",
                "$2y$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
            ),
            (
                "U*U",
                "$2b$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
            ),
            // From the reference implementation's README.
            (
                "password",
                "$argon2i$v=19$m=65536,t=2,p=4$c29tZXNhbHQ$RdescudvJCsgt3ub+b+dWRWJTmaaJObG",
            ),
        ] {
            assert_eq!(compared(&how, password, hash), Match::Outdated, "{hash}");
            assert_eq!(compared(&how, "other", hash), Match::No, "{hash}");
            assert!(is_hash(hash), "{hash}");
        }
    }

    #[test]
    fn what_is_no_hash_matches_nothing() {
        let broken = "$2x$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
        for text in ["", "U*U", "$2b$05$short", "$argon2id$", "$scrypt$x", broken] {
            assert_eq!(compared(&rules(), "U*U", text), Match::No, "{text}");
            assert!(!is_hash(text), "{text}");
        }
        let greedy =
            "$argon2id$v=19$m=4194304,t=2,p=1$c29tZXNhbHQ$RdescudvJCsgt3ub+b+dWRWJTmaaJObG";
        assert!(!is_hash(greedy));
    }

    #[test]
    fn bcrypt_takes_72_bytes_and_cuts_nothing() {
        let how = bcrypt_rules();
        let longest = "x".repeat(72);
        let hash = make(&how, &secret(&longest), &mut Memory::default()).unwrap();
        assert_eq!(compared(&how, &longest, hash.expose()), Match::Yes);
        assert_eq!(compared(&how, &"x".repeat(73), hash.expose()), Match::No);
        let longer = make(&how, &secret(&"x".repeat(73)), &mut Memory::default());
        assert!(longer.is_err());
        let short = make(&how, &secret("abc"), &mut Memory::default()).unwrap();
        assert_eq!(compared(&how, "abc\0", short.expose()), Match::No);
        assert_eq!(compared(&how, "abc\0abc", short.expose()), Match::No);
    }

    #[test]
    fn a_password_that_bcrypt_would_cut_costs_as_much_and_is_never_right() {
        for (password, right) in [
            ("abc".to_owned(), true),
            (String::new(), true),
            ("x".repeat(72), true),
            ("x".repeat(73), false),
            ("abc\0".to_owned(), false),
        ] {
            let mut hashed = 0;
            let matches = bcrypt_matches(password.as_bytes(), |_| {
                hashed += 1;
                Ok::<_, HashFailed>(true)
            });
            assert_eq!((matches, hashed), (right, 1), "{password:?}");
        }
    }

    #[test]
    fn a_hash_of_other_parameters_is_outdated() {
        let how = rules();
        let hash = make(&how, &secret("correct horse"), &mut Memory::default()).unwrap();
        let stronger = Passwords {
            argon2_iterations: how.argon2_iterations + 1,
            ..how.clone()
        };
        let other = compared(&stronger, "correct horse", hash.expose());
        assert_eq!(other, Match::Outdated);
        assert_eq!(compared(&stronger, "wrong horse", hash.expose()), Match::No);
        let bcrypt = compared(&bcrypt_rules(), "correct horse", hash.expose());
        assert_eq!(bcrypt, Match::Outdated);
    }

    #[test]
    fn memory_of_another_hash_does_not_matter() {
        let mut memory = Memory::default();
        let large = Passwords {
            argon2_memory: 64,
            ..rules()
        };
        let first = make(&large, &secret("correct horse"), &mut memory).unwrap();
        let second = make(&rules(), &secret("battery staple"), &mut memory).unwrap();
        for (how, password, hash) in [
            (large, "correct horse", first),
            (rules(), "battery staple", second),
        ] {
            let matched = compare(&how, &secret(password), &hash, &mut memory);
            assert_eq!(matched, Match::Yes);
        }
    }
}
