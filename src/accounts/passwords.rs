//! What a password must be. Pure.

use crate::config::{CharacterSet, PasswordHash, Passwords};
use crate::secret::Secret;

/// What a password lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weakness {
    /// It is too short.
    Length,
    /// A set of characters is not in it.
    Characters,
}

/// Why a password is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It does not meet the rules.
    Weak(Vec<Weakness>),
    /// It is longer than its hash can take: it is never cut.
    TooLong,
    /// It holds a NUL.
    Nul,
}

impl Weakness {
    /// The stable word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Length => "length",
            Self::Characters => "characters",
        }
    }
}

/// Whether a password can be hashed at all.
///
/// # Errors
/// Why not.
pub fn hashable(rules: &Passwords, password: &Secret<String>) -> Result<(), Unfit> {
    let password = password.expose();
    let longest = match rules.hash {
        PasswordHash::Argon2id => LONGEST,
        PasswordHash::Bcrypt => BCRYPT_LONGEST,
    };
    match password.len() {
        length if length > longest => Err(Unfit::TooLong),
        _ if password.contains('\0') => Err(Unfit::Nul),
        _ => Ok(()),
    }
}

/// Whether a new password can be taken.
///
/// # Errors
/// Why not.
pub fn check(rules: &Passwords, password: &Secret<String>) -> Result<(), Unfit> {
    hashable(rules, password)?;
    match weaknesses(rules, password) {
        none if none.is_empty() => Ok(()),
        some => Err(Unfit::Weak(some)),
    }
}

/// What a password lacks; empty: nothing.
pub fn weaknesses(rules: &Passwords, password: &Secret<String>) -> Vec<Weakness> {
    let password = password.expose();
    let mut weaknesses = Vec::new();
    if password.chars().count() < rules.min_length {
        weaknesses.push(Weakness::Length);
    }
    let lacks = |set: &CharacterSet| !password.chars().any(|c| has(*set, c));
    if rules.require.iter().any(lacks) {
        weaknesses.push(Weakness::Characters);
    }
    weaknesses
}

fn has(set: CharacterSet, c: char) -> bool {
    match set {
        CharacterSet::Lower => c.is_lowercase(),
        CharacterSet::Upper => c.is_uppercase(),
        CharacterSet::Digit => c.is_numeric(),
        CharacterSet::Symbol => !c.is_alphanumeric() && !c.is_whitespace(),
    }
}

/// Bytes: a longer one is no password, but work for the hash.
pub const LONGEST: usize = 1024;
/// Bytes that bcrypt looks at.
pub const BCRYPT_LONGEST: usize = 72;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::testing::rules;

    fn checked(rules: &Passwords, password: &str) -> Result<(), Unfit> {
        check(rules, &Secret::new(password.to_owned()))
    }

    #[test]
    fn a_password_has_so_many_characters_not_bytes() {
        let rules = rules();
        assert_eq!(checked(&rules, "12345678"), Ok(()));
        assert_eq!(checked(&rules, "密码密码密码密码"), Ok(()));
        let short = Err(Unfit::Weak(vec![Weakness::Length]));
        assert_eq!(checked(&rules, "1234567"), short);
        assert_eq!(checked(&rules, "密码密码密码"), short);
        assert_eq!(checked(&rules, ""), short);
    }

    #[test]
    fn every_required_set_must_be_in_it() {
        let rules = Passwords {
            require: vec![
                CharacterSet::Lower,
                CharacterSet::Upper,
                CharacterSet::Digit,
                CharacterSet::Symbol,
            ],
            ..rules()
        };
        assert_eq!(checked(&rules, "aB3!aB3!"), Ok(()));
        for weak in ["ab3!ab3!", "AB3!AB3!", "aBc!aBc!", "aB3caB3c"] {
            let expected = Err(Unfit::Weak(vec![Weakness::Characters]));
            assert_eq!(checked(&rules, weak), expected, "{weak}");
        }
        let both = vec![Weakness::Length, Weakness::Characters];
        assert_eq!(checked(&rules, "a"), Err(Unfit::Weak(both)));
    }

    #[test]
    fn nothing_is_cut() {
        let bcrypt = Passwords {
            hash: PasswordHash::Bcrypt,
            ..rules()
        };
        assert_eq!(checked(&bcrypt, &"x".repeat(72)), Ok(()));
        assert_eq!(checked(&bcrypt, &"x".repeat(73)), Err(Unfit::TooLong));
        assert_eq!(checked(&bcrypt, &"密".repeat(25)), Err(Unfit::TooLong));
        assert_eq!(checked(&rules(), &"x".repeat(1024)), Ok(()));
        assert_eq!(checked(&rules(), &"x".repeat(1025)), Err(Unfit::TooLong));
        assert_eq!(checked(&rules(), "12345678\0"), Err(Unfit::Nul));
        assert_eq!(checked(&bcrypt, "1234\u{0}5678"), Err(Unfit::Nul));
    }
}
