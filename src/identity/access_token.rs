//! What an access token says of a user and its session, and how one is made. An opaque session token makes the same
//! identity, so its claims come from here too. Pure.

use serde_json::{Map, Value, json};

use crate::clock::UnixSeconds;
use crate::identity::keyring::{Keyring, KeyringError};
use crate::records::{Object, Session, UnixMillis, User};
use crate::secret::Secret;

/// From when until when a token is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Life {
    pub issued_at: UnixSeconds,
    pub expires_at: UnixSeconds,
}

/// The claims of a user in a session, without times, as Supabase words them. `issuer`: who says so.
pub fn claims_of(user: &User, session: &Session, issuer: &str) -> Object {
    let text = |value: Option<&str>| Value::from(value.unwrap_or_default());
    let mut claims = Map::new();
    let mut add = |name: &str, value: Value| drop(claims.insert(name.to_owned(), value));
    add("iss", issuer.into());
    add("sub", user.id.to_string().into());
    add("aud", AUDIENCE.into());
    add("email", text(user.email.as_ref().map(|email| &*email.0)));
    add("phone", text(user.phone.as_deref()));
    add("role", Value::from(&*user.role));
    add("is_anonymous", user.anonymous.into());
    add("session_id", session.id.to_string().into());
    add("aal", "aal1".into());
    let authentication = &session.authentication;
    let amr = json!([{
        "method": authentication.method, "timestamp": seconds(authentication.at),
    }]);
    add("amr", amr);
    add("user_metadata", user_metadata(user).into());
    add("app_metadata", user.app_metadata.clone().into());
    claims
}

/// The claims, where they say other rights than the user has by now: as they would be said now. What a token says of
/// these is good until they are taken away, and no longer.
pub fn corrected(claims: &Object, user: &User) -> Option<Object> {
    let is = |name: &str, value: &Value| claims.get(name) == Some(value);
    let role = Value::from(&*user.role);
    let app = Value::from(user.app_metadata.clone());
    if is("role", &role) && is("app_metadata", &app) {
        return None;
    }
    let mut corrected = claims.clone();
    corrected.insert("role".to_owned(), role);
    corrected.insert("app_metadata".to_owned(), app);
    // It says who is an admin.
    corrected.insert("user_metadata".to_owned(), user_metadata(user).into());
    Some(corrected)
}

/// What the user wrote of itself, but for what upstreams may take for the gateway's word: the name that nobody else
/// has, whether its address is confirmed, and whether it is an admin, which only its roles say.
pub fn user_metadata(user: &User) -> Object {
    let mut metadata = user.user_metadata.clone();
    if let Some(username) = &user.username {
        metadata.insert("username".to_owned(), Value::from(&*username.shown));
    }
    match user.email_confirmed_at.is_some() && user.email.is_some() {
        true => drop(metadata.insert("email_verified".to_owned(), true.into())),
        false => drop(metadata.remove("email_verified")),
    }
    metadata.insert("is_admin".to_owned(), is_admin(user).into());
    metadata
}

/// Whether a user has the role `admin`.
pub fn is_admin(user: &User) -> bool {
    let roles = user.app_metadata.get("roles").and_then(Value::as_array);
    roles.is_some_and(|roles| roles.iter().any(|role| role == "admin"))
}

/// An access token with these claims, good for this long.
///
/// # Errors
/// When it cannot be signed.
pub fn issue(
    keyring: &Keyring,
    mut claims: Object,
    life: Life,
) -> Result<Secret<String>, KeyringError> {
    claims.insert("iat".to_owned(), life.issued_at.into());
    claims.insert("exp".to_owned(), life.expires_at.into());
    keyring.sign(TYPE, &claims).map(Secret::new)
}

fn seconds(at: UnixMillis) -> i64 {
    at.div_euclid(1000)
}

/// `aud` of the gateway's own tokens.
pub const AUDIENCE: &str = "authenticated";
/// `typ` of the gateway's own tokens: nothing else that it signs is one.
pub const TYPE: &str = "JWT";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::testing;
    use crate::records::{Email, Username};

    #[test]
    fn claims_are_those_of_the_contract() {
        let mut user = testing::user(0x5b1f);
        user.username = Some(Username {
            shown: "Ada".into(),
            key: "ada".into(),
        });
        user.email = Some(Email("ada@mail.example".into()));
        user.app_metadata = object(json!({"provider": "email", "roles": ["admin"]}));
        user.user_metadata = object(json!({"avatar": null}));
        let session = testing::session(7, &user);
        let claims = claims_of(&user, &session, "https://gw.example/auth/v1");
        let expected = json!({
            "iss": "https://gw.example/auth/v1",
            "sub": "00000000-0000-0000-0000-000000005b1f",
            "aud": "authenticated",
            "email": "ada@mail.example",
            "phone": "",
            "role": "authenticated",
            "is_anonymous": false,
            "session_id": "00000000-0000-0000-0000-000000000007",
            "aal": "aal1",
            "amr": [{"method": "password", "timestamp": 1_799_999_000}],
            "user_metadata": {"avatar": null, "username": "Ada", "is_admin": true},
            "app_metadata": {"provider": "email", "roles": ["admin"]},
        });
        assert_eq!(Value::from(claims), expected);
    }

    #[test]
    fn users_do_not_make_themselves_admins_nor_take_names() {
        let mut user = testing::user(1);
        user.username = Some(Username {
            shown: "eve".into(),
            key: "eve".into(),
        });
        user.user_metadata =
            object(json!({"is_admin": true, "username": "ada", "roles": ["admin"]}));
        let claims = claims_of(&user, &testing::session(1, &user), "i");
        let expected = json!({"is_admin": false, "username": "eve", "roles": ["admin"]});
        assert_eq!(claims["user_metadata"], expected);
        user.user_metadata.clear();
        let claims = claims_of(&user, &testing::session(1, &user), "i");
        let expected = json!({"is_admin": false, "username": "eve"});
        assert_eq!(claims["user_metadata"], expected);
    }

    #[test]
    fn an_address_is_verified_when_the_gateway_says_so() {
        let mut user = testing::user(1);
        user.email = Some(Email("ada@mail.example".into()));
        user.user_metadata = object(json!({"email_verified": true}));
        assert!(!user_metadata(&user).contains_key("email_verified"));
        user.email_confirmed_at = Some(1);
        user.user_metadata = object(json!({"email_verified": false}));
        assert_eq!(user_metadata(&user)["email_verified"], true);
        user.email = None;
        assert!(!user_metadata(&user).contains_key("email_verified"));
    }

    fn object(value: Value) -> Object {
        value.as_object().unwrap().clone()
    }
}
