//! What a user is made of: names, metadata, and what follows from an address that is confirmed. Pure.

use serde_json::Value;
use uuid::Uuid;

use super::AccountError;
use super::names;
use super::users::Registration;
use crate::records::{Email, Object, UnixMillis, User, UserId, Username};
use crate::store::NewUser;

pub(super) fn username(text: &str) -> Result<Username, AccountError> {
    names::username(text).map_err(|_| AccountError::InvalidUsername)
}

pub(super) fn email(text: &str) -> Result<Email, AccountError> {
    names::email(text).map_err(|_| AccountError::InvalidEmail)
}

/// A phone number: digits, as E.164 has them, without the plus.
pub(super) fn phone(text: &str) -> Result<Box<str>, AccountError> {
    let separators = [' ', '-', '(', ')'];
    let plain = text.trim().replace(separators, "");
    let digits = plain.strip_prefix('+').unwrap_or(&plain);
    let is_number = (5..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
    match is_number {
        true => Ok(digits.into()),
        false => Err(AccountError::InvalidPhone),
    }
}

/// A user without credentials.
pub(super) fn anonymous(mut said: Object, now: UnixMillis) -> Result<NewUser, AccountError> {
    cleanse(&mut said);
    Ok(NewUser {
        anonymous: true,
        app_metadata: Object::new(),
        ..permanent(said, now)?
    })
}

/// A user with no name yet.
pub(super) fn permanent(said: Object, now: UnixMillis) -> Result<NewUser, AccountError> {
    let app_metadata = by_email();
    fits(&said, &app_metadata)?;
    Ok(NewUser {
        id: UserId(Uuid::new_v4()),
        username: None,
        email: None,
        phone: None,
        password: None,
        role: "authenticated".into(),
        anonymous: false,
        banned_until: None,
        app_metadata,
        user_metadata: said,
        email_confirmed_at: None,
        phone_confirmed_at: None,
        confirmation_sent_at: None,
        created_at: now,
    })
}

/// What the metadata of somebody says who came with an address.
pub(super) fn by_email() -> Object {
    let provider = |name: &str, value: Value| (name.to_owned(), value);
    Object::from_iter([
        provider("provider", "email".into()),
        provider("providers", vec!["email"].into()),
    ])
}

/// Takes out what is not the user's to say: a name that is unique, whether its address is confirmed, and whether it is an
/// admin.
pub(super) fn cleanse(said: &mut Object) {
    for name in ["username", "email_verified", "is_admin"] {
        said.remove(name);
    }
}

/// `said` over `old`; a null takes a member away.
pub(super) fn merged(old: &Object, said: &Object) -> Object {
    let mut merged = old.clone();
    for (name, value) in said {
        match value {
            Value::Null => drop(merged.remove(name)),
            value => drop(merged.insert(name.clone(), value.clone())),
        }
    }
    merged
}

/// Whether an access token with this metadata would still be taken by anybody: headers end at some length.
pub(super) fn fits(user: &Object, app: &Object) -> Result<(), AccountError> {
    let length = |object| serde_json::to_vec(object).map_or(usize::MAX, |text| text.len());
    match length(user).saturating_add(length(app)) {
        0..=METADATA_LONGEST => Ok(()),
        _ => Err(AccountError::MetadataTooLarge),
    }
}

/// The address is the user's from now on, and whoever was anonymous is not.
pub(super) fn confirm(user: &mut User, email: Email, now: UnixMillis) {
    user.email = Some(email);
    user.email_change = None;
    user.email_confirmed_at = Some(now);
    if user.anonymous {
        user.anonymous = false;
        user.app_metadata = merged(&user.app_metadata, &by_email());
    }
}

/// What a stranger is shown who signs up with an address that is another's: nothing in it tells so.
pub(super) fn made_up(new: &Registration, now: UnixMillis) -> User {
    let mut said = new.user_metadata.clone();
    cleanse(&mut said);
    User {
        id: UserId(Uuid::new_v4()),
        number: 0,
        username: new.username.as_deref().and_then(|it| username(it).ok()),
        email: new.email.as_deref().and_then(|it| email(it).ok()),
        phone: None,
        password: None,
        role: "authenticated".into(),
        anonymous: false,
        disabled: false,
        banned_until: None,
        app_metadata: by_email(),
        user_metadata: said,
        email_confirmed_at: None,
        phone_confirmed_at: None,
        invited_at: None,
        confirmation_sent_at: Some(now),
        recovery_sent_at: None,
        reauthentication_sent_at: None,
        email_change: None,
        last_sign_in_at: None,
        created_at: now,
        updated_at: now,
        deleted_at: None,
    }
}

/// Bytes of JSON.
const METADATA_LONGEST: usize = 4096;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Object {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn metadata_is_merged_at_the_top_and_a_null_takes_away() {
        let old = object(json!({"a": 1, "b": {"c": 2}, "d": 3}));
        let said = object(json!({"b": {"e": 4}, "d": null, "f": null}));
        let expected = object(json!({"a": 1, "b": {"e": 4}}));
        assert_eq!(merged(&old, &said), expected);
    }

    #[test]
    fn what_is_the_gateways_to_say_is_taken_out() {
        let said = object(json!({"is_admin": true, "username": "root", "name": "Ada"}));
        let user = anonymous(said, 0).unwrap();
        assert_eq!(user.user_metadata, object(json!({"name": "Ada"})));
        assert!(user.app_metadata.is_empty());
    }

    #[test]
    fn metadata_that_no_token_can_carry_is_refused() {
        let long = object(json!({"note": "x".repeat(5000)}));
        assert_eq!(
            permanent(long, 0).err(),
            Some(AccountError::MetadataTooLarge)
        );
        assert!(permanent(object(json!({"note": "x".repeat(3900)})), 0).is_ok());
    }

    #[test]
    fn phones_are_digits() {
        assert_eq!(phone("+49 (30) 123-456").as_deref(), Ok("4930123456"));
        for bad in [
            "",
            "+",
            "1234",
            "12a456",
            "+1234567890123456",
            "１２３４５６",
        ] {
            assert_eq!(phone(bad), Err(AccountError::InvalidPhone), "{bad}");
        }
    }
}
