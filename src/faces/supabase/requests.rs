//! What the Supabase API is asked. Members that are not known are passed over: the clients send `gotrue_meta_security`,
//! `code_challenge` and more, absent, null or filled.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use uuid::Uuid;

use crate::accounts::admin;
use crate::records::{Object, UnixMillis};
use crate::secret::Secret;

use super::refusals::Failure;

/// `/signup`: anonymous where neither `email` nor `phone` is.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct SignUp {
    pub(super) email: Option<String>,
    pub(super) phone: Option<String>,
    #[schemars(with = "Option<String>")]
    pub(super) password: Option<Secret<String>>,
    /// The user's metadata.
    pub(super) data: Option<Object>,
}

/// `/token`: with a password or a refresh token, as `grant_type` says.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Grant {
    pub(super) email: Option<String>,
    pub(super) phone: Option<String>,
    #[schemars(with = "Option<String>")]
    pub(super) password: Option<Secret<String>>,
    #[schemars(with = "Option<String>")]
    pub(super) refresh_token: Option<Secret<String>>,
}

/// `PUT /user`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct UserUpdate {
    pub(super) email: Option<String>,
    pub(super) phone: Option<String>,
    #[schemars(with = "Option<String>")]
    pub(super) password: Option<Secret<String>>,
    #[schemars(with = "Option<String>")]
    pub(super) current_password: Option<Secret<String>>,
    /// The code of `/reauthenticate`, where the session is too old for a new password.
    pub(super) nonce: Option<String>,
    /// Merged into the user's metadata; null deletes a member.
    pub(super) data: Option<Object>,
    /// Refused: only a service key may.
    pub(super) app_metadata: Option<Object>,
}

/// `/recover`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Recover {
    pub(super) email: Option<String>,
}

/// `/otp` and `/magiclink`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Otp {
    pub(super) email: Option<String>,
    pub(super) phone: Option<String>,
    pub(super) data: Option<Object>,
    pub(super) create_user: Option<bool>,
}

/// `/resend`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Resend {
    pub(super) r#type: Option<String>,
    pub(super) email: Option<String>,
}

/// `/verify`: a code and whose it is, or a link's.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Verify {
    pub(super) r#type: Option<String>,
    pub(super) email: Option<String>,
    pub(super) token: Option<String>,
    pub(super) token_hash: Option<String>,
}

/// `/invite`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct Invite {
    pub(super) email: Option<String>,
    /// The user's metadata.
    pub(super) data: Option<Object>,
}

/// `/admin/generate_link`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct GenerateLink {
    /// `signup`, `invite`, `magiclink`, `recovery` or `email_change_new`.
    pub(super) r#type: Option<String>,
    pub(super) email: Option<String>,
    /// Of a sign-up.
    #[schemars(with = "Option<String>")]
    pub(super) password: Option<Secret<String>>,
    /// Of a change of address.
    pub(super) new_email: Option<String>,
    /// The user's metadata.
    pub(super) data: Option<Object>,
    /// The query's counts before it.
    pub(super) redirect_to: Option<String>,
}

/// `POST /admin/users` and `PUT /admin/users/{id}`.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct AdminUser {
    #[schemars(extend("format" = "uuid"))]
    pub(super) id: Option<String>,
    pub(super) email: Option<String>,
    pub(super) phone: Option<String>,
    #[schemars(with = "Option<String>")]
    pub(super) password: Option<Secret<String>>,
    #[schemars(with = "Option<String>")]
    pub(super) password_hash: Option<Secret<String>>,
    pub(super) email_confirm: Option<bool>,
    pub(super) phone_confirm: Option<bool>,
    pub(super) user_metadata: Option<Object>,
    pub(super) app_metadata: Option<Object>,
    pub(super) role: Option<String>,
    /// `24h`, `1h30m`; `none` lifts the ban.
    pub(super) ban_duration: Option<String>,
}

/// `DELETE /admin/users/{id}`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub struct DeleteUser {
    pub(super) should_soft_delete: Option<bool>,
}

/// Empty is not given.
pub(super) fn filled(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

/// A UUID in the one form that the clients send; `Uuid` alone would read others too.
pub(super) fn uuid(text: &str) -> Option<Uuid> {
    let id = Uuid::try_parse(text).ok();
    id.filter(|_| text.len() == uuid::fmt::Hyphenated::LENGTH)
}

/// A page of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// From 1.
    pub(super) number: u64,
    pub(super) size: u64,
}

impl Page {
    /// Reads `page` and `per_page`. The clients send both empty where they were given none.
    ///
    /// # Errors
    /// What is no number from 1 on.
    pub fn read(number: Option<&str>, size: Option<&str>) -> Result<Self, Failure> {
        Ok(Self {
            number: counted(number, 1)?,
            size: counted(size, 50)?.min(LARGEST_PAGE),
        })
    }

    /// How many stand before it.
    pub fn offset(self) -> u64 {
        (self.number - 1).saturating_mul(self.size)
    }

    /// `Link` (RFC 8288) as the clients take it apart: `page` first, `rel` quoted, no `next` on the last page.
    pub fn link(self, path: &str, total: u64) -> String {
        let (size, last) = (self.size, total.div_ceil(self.size).max(1));
        let mut link = String::new();
        if self.number < last {
            let next = self.number + 1;
            link = format!("<{path}?page={next}&per_page={size}>; rel=\"next\", ");
        }
        link + &format!("<{path}?page={last}&per_page={size}>; rel=\"last\"")
    }
}

fn counted(text: Option<&str>, default: u64) -> Result<u64, Failure> {
    match text {
        None | Some("") => Ok(default),
        Some(text) => match text.parse() {
            // `+1` is a number to Rust.
            Ok(number) if number > 0 && text.bytes().all(|byte| byte.is_ascii_digit()) => {
                Ok(number)
            }
            _ => Err(Failure::invalid("Bad Pagination Parameters")),
        },
    }
}

/// For how long a user is banned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ban {
    /// The ban is lifted.
    Lifted,
    /// From now on.
    For(Duration),
}

impl Ban {
    /// Reads `ban_duration`: `none`, or numbers with units one after the other, as Go writes durations.
    ///
    /// # Errors
    /// What is neither.
    pub fn read(text: &str) -> Result<Self, Failure> {
        match text {
            "none" => Ok(Self::Lifted),
            text => duration(text)
                .map(Self::For)
                .ok_or(Failure::invalid("Invalid format for ban duration")),
        }
    }

    /// As the core has it.
    pub fn from(self, now: UnixMillis) -> admin::Ban {
        match self {
            Self::Lifted => admin::Ban::Lifted,
            Self::For(time) => {
                let millis = UnixMillis::try_from(time.as_millis()).unwrap_or(UnixMillis::MAX);
                admin::Ban::Until(now.saturating_add(millis))
            }
        }
    }
}

/// `1h30m`, `1.5h`, `0`; `None` where it is none, negative, or longer than a thousand years.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut nanos = 0.0_f64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.');
        let (unit, after) = after.split_at(end.unwrap_or(after.len()));
        // Without this, `f64` would also take `.`-less words such as `inf`.
        if !number.bytes().any(|byte| byte.is_ascii_digit()) {
            return None;
        }
        nanos += number.parse::<f64>().ok()? * nanos_of(unit)?;
        rest = after;
    }
    (nanos <= LONGEST_BAN).then(|| Duration::from_secs_f64(nanos / 1e9))
}

fn nanos_of(unit: &str) -> Option<f64> {
    Some(match unit {
        "ns" => 1.0,
        "us" | "µs" | "μs" => 1e3,
        "ms" => 1e6,
        "s" => 1e9,
        "m" => 60e9,
        "h" => 3600e9,
        _ => return None,
    })
}

/// Nanoseconds.
const LONGEST_BAN: f64 = 1000.0 * 365.25 * 86_400e9;

/// Whoever asks for more gets so many.
const LARGEST_PAGE: u64 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_numbers_from_one_on_and_empty_means_not_given() {
        let page = |number, size| Page { number, size };
        for (asked, read) in [
            ((None, None), Ok(page(1, 50))),
            ((Some(""), Some("")), Ok(page(1, 50))),
            ((Some("3"), Some("20")), Ok(page(3, 20))),
            ((Some("1"), Some("99999")), Ok(page(1, 1000))),
            ((Some("0"), None), Err(400)),
            ((Some("-1"), None), Err(400)),
            ((Some("+1"), None), Err(400)),
            ((Some("1.5"), None), Err(400)),
            ((Some("x"), None), Err(400)),
            ((None, Some("0")), Err(400)),
            ((None, Some("99999999999999999999")), Err(400)),
        ] {
            let (number, size) = asked;
            assert_eq!(
                Page::read(number, size).map_err(|failure| failure.status),
                read,
                "{asked:?}"
            );
        }
        assert_eq!(page(u64::MAX, 1000).offset(), u64::MAX);
    }

    #[test]
    fn links_are_as_the_client_takes_them_apart() {
        let link = |number, total| Page { number, size: 50 }.link("/admin/users", total);
        assert_eq!(
            link(1, 120),
            "</admin/users?page=2&per_page=50>; rel=\"next\", </admin/users?page=3&per_page=50>; rel=\"last\""
        );
        assert_eq!(
            link(3, 120),
            "</admin/users?page=3&per_page=50>; rel=\"last\""
        );
        assert_eq!(
            link(9, 120),
            "</admin/users?page=3&per_page=50>; rel=\"last\""
        );
        assert_eq!(
            link(1, 0),
            "</admin/users?page=1&per_page=50>; rel=\"last\""
        );
        assert_eq!(
            link(1, 50),
            "</admin/users?page=1&per_page=50>; rel=\"last\""
        );
    }

    #[test]
    fn bans_last_as_long_as_go_says() {
        let seconds = |seconds| Ok(Ban::For(Duration::from_secs(seconds)));
        for (text, read) in [
            ("none", Ok(Ban::Lifted)),
            ("24h", seconds(86_400)),
            ("1h30m", seconds(5400)),
            ("1.5h", seconds(5400)),
            ("1500ms", Ok(Ban::For(Duration::from_millis(1500)))),
            ("876000h", seconds(3_153_600_000)),
            ("0", seconds(0)),
            ("", Err(400)),
            ("24", Err(400)),
            ("h", Err(400)),
            (".h", Err(400)),
            ("-1h", Err(400)),
            ("1d", Err(400)),
            ("1h ", Err(400)),
            ("1.2.3h", Err(400)),
            ("infh", Err(400)),
            ("1e9h", Err(400)),
            ("99999999999h", Err(400)),
            ("forever", Err(400)),
        ] {
            assert_eq!(
                Ban::read(text).map_err(|failure| failure.status),
                read,
                "{text}"
            );
        }
    }
}
