//! Usernames and e-mail addresses in the one form in which they are compared: whoever spells a name in another
//! case, width or composition means the same user. What could hide something (NUL, control and bidi
//! characters) is refused.

use precis_profiles::precis_core::profile::PrecisFastInvocation;
use precis_profiles::{UsernameCaseMapped, UsernameCasePreserved};
use unicode_normalization::UnicodeNormalization;

use crate::records::{Email, Username};

/// The text is no username, or no e-mail address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a name in this form")]
pub struct NoName;

/// What somebody logs in with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginName {
    /// The key of a username.
    Username(Box<str>),
    /// An e-mail address.
    Email(Email),
    /// Nobody's name: treated as a user's that does not exist.
    Nobody(Box<str>),
}

impl LoginName {
    /// Reads a name as it was typed: with an `@`, it is an e-mail address.
    pub fn read(text: &str) -> Self {
        let read = match text.contains(['@', '\u{ff20}', '\u{fe6b}']) {
            true => email(text).map(Self::Email),
            false => username(text).map(|name| Self::Username(name.key)),
        };
        read.unwrap_or_else(|_| {
            let start: String = text.trim().chars().take(LONGEST).collect();
            Self::Nobody(start.to_lowercase().into())
        })
    }

    /// The name that guesses are counted under.
    pub fn key(&self) -> &str {
        match self {
            Self::Username(key) | Self::Nobody(key) => key,
            Self::Email(email) => &email.0,
        }
    }
}

/// A username (RFC 8265 §3.3): shown as it is written, compared without regard to case.
///
/// # Errors
/// When it is empty, longer than 255 bytes, holds an `@`, or what the profile forbids.
pub fn username(text: &str) -> Result<Username, NoName> {
    let text = text.trim();
    if text.len() > LONGEST {
        return Err(NoName);
    }
    let shown = UsernameCasePreserved::enforce(text).map_err(|_| NoName)?;
    let key = UsernameCaseMapped::enforce(text).map_err(|_| NoName)?;
    // RFC 8264 §7: some texts change once more when the rules are applied again; one that will not settle has
    // no one form.
    let again = UsernameCaseMapped::enforce(&*key).map_err(|_| NoName)?;
    let settled = UsernameCaseMapped::enforce(&*again).map_err(|_| NoName)?;
    if again != settled || settled.contains('@') || settled.len() > LONGEST {
        return Err(NoName);
    }
    Ok(Username {
        shown: shown.into(),
        key: settled.into(),
    })
}

/// An e-mail address: the local part in lower case (NFC), the domain as DNS has it (UTS 46: NFKC, lower case,
/// `xn--` where it is not ASCII).
///
/// # Errors
/// When it has not one `@`, a part of it is empty or has characters that no address has, or it is longer than
/// 255 bytes.
pub fn email(text: &str) -> Result<Email, NoName> {
    // A full-width `@` is one in every input method that makes it.
    let text = text.trim().replace(['\u{ff20}', '\u{fe6b}'], "@");
    let (local, domain) = text.split_once('@').ok_or(NoName)?;
    if domain.contains('@') || text.len() > LONGEST {
        return Err(NoName);
    }
    let local: String = local.nfc().collect::<String>().to_lowercase();
    let local: String = local.nfc().collect();
    let domain = idna::domain_to_ascii_strict(domain).map_err(|_| NoName)?;
    let whole = format!("{local}@{domain}");
    if !is_local_part(&local) || !is_domain(&domain) || whole.len() > LONGEST {
        return Err(NoName);
    }
    Ok(Email(whole.into()))
}

/// RFC 5321 §4.1.2 `Dot-string`, and RFC 6531's letters beyond ASCII; no quoted strings.
fn is_local_part(text: &str) -> bool {
    let is_word = |word: &str| {
        !word.is_empty()
            && word.chars().all(|c| match c {
                'a'..='z' | '0'..='9' => true,
                c if c.is_ascii() => "!#$%&'*+-/=?^_`{|}~".contains(c),
                c => c.is_alphanumeric() || unicode_normalization::char::is_combining_mark(c),
            })
    };
    text.chars().count() <= 64 && text.split('.').all(is_word)
}

/// A host name, dotted or not: `localhost` and intranets have addresses too.
fn is_domain(text: &str) -> bool {
    let is_label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        (1..=63).contains(&label.len())
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

/// Bytes; as long as the clients' other servers allow.
const LONGEST: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Option<String> {
        username(text).ok().map(|name| name.key.into())
    }

    fn address(text: &str) -> Option<String> {
        email(text).ok().map(|email| email.0.into())
    }

    #[test]
    fn usernames_that_look_alike_after_normalization_are_the_same() {
        for (spelt, same) in [
            ("Ada", "ada"),
            ("  ada\t", "ada"),
            ("ＡＤＡ", "ada"),
            ("Jose\u{301}", "josé"),
            ("JOSÉ", "josé"),
            ("Łukasz", "łukasz"),
            ("用户", "用户"),
        ] {
            assert_eq!(key(spelt).as_deref(), Some(same), "{spelt}");
        }
        assert_eq!(&*username("Ada").unwrap().shown, "Ada");
    }

    #[test]
    fn usernames_that_could_hide_something_are_refused() {
        for bad in [
            "",
            "   ",
            "a b",
            "a@b",
            "a＠b",
            "a\0b",
            "a\u{7}b",
            "a\u{200b}b",
            "a\u{202e}b",
            "\u{feff}a",
            "a\u{2066}b",
            "ﬁ",
            "a\u{ad}b",
            "aא1ב",
            "\u{1f600}",
        ] {
            assert_eq!(key(bad), None, "{bad:?}");
        }
        assert_eq!(key(&"a".repeat(256)), None);
        assert!(key(&"a".repeat(255)).is_some());
    }

    #[test]
    fn addresses_have_one_form() {
        for (spelt, same) in [
            (" Ada@Mail.Example ", "ada@mail.example"),
            ("ada@ｍａｉｌ.example", "ada@mail.example"),
            ("ada＠mail.example", "ada@mail.example"),
            ("Jose\u{301}@mail.example", "josé@mail.example"),
            ("ada@BÜCHER.example", "ada@xn--bcher-kva.example"),
            ("ada@xn--bcher-kva.example", "ada@xn--bcher-kva.example"),
            ("a.b+c@localhost", "a.b+c@localhost"),
            ("o'neil@mail.example", "o'neil@mail.example"),
        ] {
            assert_eq!(address(spelt).as_deref(), Some(same), "{spelt}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for bad in [
            "",
            "ada",
            "@mail.example",
            "ada@",
            "a@b@c",
            "a b@mail.example",
            "a@mail example",
            "a\0@mail.example",
            "a@mail.example\0",
            "a\u{202e}@mail.example",
            "a\u{200b}@mail.example",
            "a@mail..example",
            "a@.example",
            ".a@mail.example",
            "a..b@mail.example",
            "a@-mail.example",
            "a@[127.0.0.1]",
            "a@mail.example/",
            "<a@mail.example>",
            "a,b@mail.example",
            "a\r\nbcc:x@mail.example",
        ] {
            assert_eq!(address(bad), None, "{bad:?}");
        }
        assert_eq!(address(&format!("{}@a.example", "a".repeat(65))), None);
        let long = format!("a@{}.example", "b.".repeat(130));
        assert_eq!(address(&long), None);
    }

    #[test]
    fn a_name_with_an_at_sign_is_an_address_and_bad_names_are_nobodys() {
        let read = |text: &str| LoginName::read(text);
        assert_eq!(read(" ADA "), LoginName::Username("ada".into()));
        let email = Email("ada@mail.example".into());
        assert_eq!(read("ADA@mail.example"), LoginName::Email(email));
        for bad in ["a@b@c", "", "a\0", "' OR 1=1 --"] {
            assert!(matches!(read(bad), LoginName::Nobody(_)), "{bad:?}");
        }
        assert_eq!(read("A B").key(), "a b");
        assert!(read(&" x".repeat(9999)).key().len() <= 255);
    }

    proptest::proptest! {
        #[test]
        fn a_key_is_its_own_key(text in "\\PC{0,24}") {
            if let Some(key) = key(&text) {
                proptest::prop_assert_eq!(super::tests::key(&key), Some(key.clone()));
            }
            if let Some(address) = address(&text.replace(' ', "@")) {
                proptest::prop_assert_eq!(super::tests::address(&address), Some(address.clone()));
            }
        }
    }
}
