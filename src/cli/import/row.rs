//! From a row to a user, with every value checked as if the user had typed it.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde_json::Value;
use uuid::Uuid;

use super::read::Row;
use crate::accounts::{hashes, names};
use crate::cli::opened::shown;
use crate::cli::user::app_metadata;
use crate::records::{Object, UnixMillis, User, UserId};
use crate::secret::Secret;

/// How rows are read.
pub(super) struct Wanted<'a> {
    /// Columns that are left out.
    pub(super) ignored: &'a [String],
    /// Whether a user needs no hash.
    pub(super) without_passwords: bool,
    /// When what says no time was made.
    pub(super) now: UnixMillis,
}

/// What a row says, before it is a user.
#[derive(Default)]
struct Said {
    id: Option<Uuid>,
    username: Option<String>,
    email: Option<String>,
    hash: Option<String>,
    roles: Vec<String>,
    admin: bool,
    disabled: bool,
    created_at: Option<UnixMillis>,
}

impl Wanted<'_> {
    /// The user of a row; or what is wrong with it.
    pub(super) fn user(&self, row: Row) -> Result<User, String> {
        let mut said = Said::default();
        for (name, value) in row.columns? {
            if !self
                .ignored
                .iter()
                .any(|ignored| ignored.eq_ignore_ascii_case(&name))
            {
                said.take(&name, &value)?;
            }
        }
        if said.hash.is_none() && !self.without_passwords {
            return Err(
                "has no password_hash (--without-passwords takes it all the same)".to_owned(),
            );
        }
        said.user(self.now)
    }
}

impl Said {
    fn take(&mut self, name: &str, value: &Value) -> Result<(), String> {
        let bad = |what: &str| format!("{name}: {what}");
        if value.is_null() {
            return match KNOWN.contains(&name) {
                true => Ok(()),
                false => Err(unknown(name)),
            };
        }
        match name {
            "id" => {
                let id = value.as_str().and_then(|text| Uuid::try_parse(text).ok());
                self.id = Some(id.ok_or_else(|| bad("is no UUID (--ignore id gives new ones)"))?);
            }
            "username" => self.username = Some(text(value).ok_or_else(|| bad("is no text"))?),
            "email" => self.email = Some(text(value).ok_or_else(|| bad("is no text"))?),
            "password_hash" | "hashed_password" | "encrypted_password" => {
                let hash = text(value).filter(|text| hashes::is_hash(text));
                self.hash =
                    Some(hash.ok_or_else(|| bad("is neither a bcrypt nor an argon2 hash"))?);
            }
            "roles" => self.roles = roles(value).ok_or_else(|| bad("is no list of roles"))?,
            "is_admin" | "is_superuser" => {
                self.admin = flag(value).ok_or_else(|| bad("is neither true nor false"))?;
            }
            "is_active" => {
                self.disabled = !flag(value).ok_or_else(|| bad("is neither true nor false"))?;
            }
            "created_at" => {
                self.created_at = Some(time(value).ok_or_else(|| bad("is no time"))?);
            }
            _ => return Err(unknown(name)),
        }
        Ok(())
    }

    fn user(mut self, now: UnixMillis) -> Result<User, String> {
        let refused = |name: &str, text: &str| format!("{name}: {} cannot be used", shown(text));
        let username = self
            .username
            .as_deref()
            .map(|text| names::username(text).map_err(|_| refused("username", text)));
        let email = self
            .email
            .as_deref()
            .map(|text| names::email(text).map_err(|_| refused("email", text)));
        let (username, email) = (username.transpose()?, email.transpose()?);
        if username.is_none() && email.is_none() {
            return Err("has neither a username nor an email".to_owned());
        }
        if self.admin && !self.roles.iter().any(|role| role == "admin") {
            self.roles.push("admin".to_owned());
        }
        let created_at = self.created_at.unwrap_or(now);
        Ok(User {
            id: UserId(self.id.unwrap_or_else(Uuid::new_v4)),
            number: 0,
            username,
            // An existing table's addresses have been in use.
            email_confirmed_at: email.as_ref().map(|_| created_at),
            email,
            phone: None,
            password: self.hash.map(Secret::new),
            role: "authenticated".into(),
            anonymous: false,
            disabled: self.disabled,
            banned_until: None,
            app_metadata: app_metadata(&self.roles),
            user_metadata: Object::new(),
            phone_confirmed_at: None,
            confirmation_sent_at: None,
            invited_at: None,
            recovery_sent_at: None,
            reauthentication_sent_at: None,
            email_change: None,
            last_sign_in_at: None,
            created_at,
            updated_at: now,
            deleted_at: None,
        })
    }
}

fn unknown(name: &str) -> String {
    let name = shown(name);
    format!("the column {name} is not known (--ignore {name} leaves it out)")
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(|text| text.trim().to_owned())
}

fn flag(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(flag) => Some(*flag),
        Value::Number(number) => match number.as_u64()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        },
        Value::String(text) => match text.trim().to_lowercase().as_str() {
            "true" | "t" | "yes" | "y" | "1" => Some(true),
            "false" | "f" | "no" | "n" | "0" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// A list, or a text with commas, semicolons or spaces between the roles.
fn roles(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::Array(roles) => roles.iter().map(text).collect(),
        Value::String(text) => {
            let words = text.split([',', ';', ' ']).filter(|word| !word.is_empty());
            Some(words.map(str::to_owned).collect())
        }
        _ => None,
    }
}

/// RFC 3339, the same without a zone (UTC), or Unix seconds or milliseconds.
fn time(value: &Value) -> Option<UnixMillis> {
    if let Some(number) = value.as_i64() {
        return unix(number);
    }
    let text = value.as_str()?.trim();
    if let Ok(number) = text.parse() {
        return unix(number);
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time.as_millisecond());
    }
    let local: DateTime = text.parse().ok()?;
    let zoned = local.to_zoned(TimeZone::UTC).ok()?;
    Some(zoned.timestamp().as_millisecond())
}

/// Nobody was a user before 1973, nor will be after 5138.
fn unix(number: i64) -> Option<UnixMillis> {
    match number {
        1..100_000_000_000 => Some(number * 1000),
        100_000_000_000..100_000_000_000_000 => Some(number),
        _ => None,
    }
}

const KNOWN: [&str; 11] = [
    "id",
    "username",
    "email",
    "password_hash",
    "hashed_password",
    "encrypted_password",
    "roles",
    "is_admin",
    "is_superuser",
    "is_active",
    "created_at",
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const BCRYPT: &str = "$2b$04$......................LAtw7/ohmmBAhnXqmkuIz83Rl5Qdjhm";

    fn read(columns: Value, without_passwords: bool) -> Result<User, String> {
        let wanted = Wanted {
            ignored: &["note".to_owned()],
            without_passwords,
            now: 7,
        };
        let columns = Ok(columns.as_object().unwrap().clone());
        wanted.user(Row { line: 1, columns })
    }

    #[test]
    fn a_row_becomes_the_user_that_it_was() {
        let user = read(
            json!({
                "id": "5b1f6c1e-9a0c-4d6e-8a53-0d1f2b7c9e10", "username": "Ada", "email": "Ada@Mail.Example",
                "hashed_password": BCRYPT, "is_superuser": 1, "is_active": "f", "roles": "editor,writer",
                "created_at": "2024-05-01 10:00:00", "note": "left out",
            }),
            false,
        )
        .unwrap();
        assert_eq!(user.id.to_string(), "5b1f6c1e-9a0c-4d6e-8a53-0d1f2b7c9e10");
        assert_eq!(&*user.username.unwrap().key, "ada");
        assert_eq!(&*user.email.unwrap().0, "ada@mail.example");
        assert_eq!(
            user.app_metadata["roles"],
            json!(["editor", "writer", "admin"])
        );
        assert!(user.disabled && user.password.is_some());
        assert_eq!(user.created_at, 1_714_557_600_000);
    }

    #[test]
    fn every_bad_value_is_named() {
        for (columns, word) in [
            (json!({ "username": "ada" }), "password_hash"),
            (
                json!({ "username": "ada", "password_hash": "hunter2" }),
                "password_hash",
            ),
            (
                json!({ "username": "ada", "password_hash": "d41d8cd98f00b204e9800998ecf8427e" }),
                "password_hash",
            ),
            (json!({ "password_hash": BCRYPT }), "neither"),
            (
                json!({ "username": "a b", "password_hash": BCRYPT }),
                "username",
            ),
            (
                json!({ "email": "nobody", "password_hash": BCRYPT }),
                "email",
            ),
            (
                json!({ "username": 7, "password_hash": BCRYPT }),
                "username",
            ),
            (
                json!({ "username": "ada", "id": 7, "password_hash": BCRYPT }),
                "--ignore id",
            ),
            (
                json!({ "username": "ada", "is_active": "maybe", "password_hash": BCRYPT }),
                "is_active",
            ),
            (
                json!({ "username": "ada", "created_at": "soon", "password_hash": BCRYPT }),
                "created_at",
            ),
            (
                json!({ "username": "ada", "pasword_hash": BCRYPT }),
                "pasword_hash",
            ),
            (
                json!({ "username": "ada", "shoe_size": null, "password_hash": BCRYPT }),
                "shoe_size",
            ),
        ] {
            let what = read(columns.clone(), false).unwrap_err();
            assert!(what.contains(word), "{columns}: {what}");
            assert!(!what.contains("hunter2"), "{what}");
        }
    }

    #[test]
    fn users_without_passwords_are_taken_where_that_is_wanted() {
        assert!(
            read(json!({ "username": "ada" }), true)
                .unwrap()
                .password
                .is_none()
        );
        assert!(read(json!({ "username": "ada", "password_hash": "x" }), true).is_err());
    }

    #[test]
    fn times_are_read_as_tables_have_them() {
        for (value, expected) in [
            (json!(1_714_557_600), Some(1_714_557_600_000)),
            (json!(1_714_557_600_000_i64), Some(1_714_557_600_000)),
            (json!("1714557600"), Some(1_714_557_600_000)),
            (json!("2024-05-01T10:00:00Z"), Some(1_714_557_600_000)),
            (json!("2024-05-01T12:00:00+02:00"), Some(1_714_557_600_000)),
            (json!("2024-05-01"), Some(1_714_521_600_000)),
            (json!(-1), None),
            (json!(true), None),
        ] {
            assert_eq!(time(&value), expected, "{value}");
        }
    }
}
