//! What faces show of users and sessions alike.

use serde_json::Value;

use crate::records::{Session, UnixMillis, User};

/// The name of a user that every client can show and log in with. Clients of APIs where every user has a username
/// cannot read a null; a user of another API may have none.
pub fn shown_name(user: &User) -> String {
    match &user.username {
        Some(username) => username.shown.to_string(),
        None => shown_email(user),
    }
}

/// The e-mail address; empty where there is none.
pub fn shown_email(user: &User) -> String {
    let email = user.email.as_ref();
    email.map_or_else(String::new, |email| email.0.to_string())
}

/// The roles that operators gave a user.
pub fn roles(user: &User) -> impl Iterator<Item = &str> {
    let roles = user.app_metadata.get("roles").and_then(Value::as_array);
    roles.into_iter().flatten().filter_map(Value::as_str)
}

/// The name of a session; one by its number where nobody gave it any.
pub fn session_name(session: &Session) -> String {
    match &session.name {
        Some(name) => name.to_string(),
        None => format!("Session {}", session.number),
    }
}

/// RFC 3339, UTC.
pub fn time(at: UnixMillis) -> String {
    let time = jiff::Timestamp::from_millisecond(at);
    time.unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_in_utc() {
        assert_eq!(time(0), "1970-01-01T00:00:00Z");
        assert_eq!(time(1_799_999_000_250), "2027-01-15T07:43:20.25Z");
        assert_eq!(time(i64::MAX), "1970-01-01T00:00:00Z");
    }
}
