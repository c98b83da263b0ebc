//! Whose something is that a caller makes: user and session of its credential, of the gateway's own issuer and of
//! others alike.

use aws_lc_rs::digest::{Context, SHA256};

use crate::identity::Identity;
use crate::records::{Outsider, Owner, UserId};

/// The owner of what this caller makes.
pub fn of(identity: &Identity) -> Owner {
    if let Some(standing) = &identity.standing {
        return Owner {
            user: standing.user,
            outside: None,
            session: Some(standing.session),
            outside_session: None,
        };
    }
    let outsider = Outsider {
        // The one in the configuration may change.
        issuer: (*identity.iss).into(),
        subject: identity.user_id.clone(),
    };
    Owner {
        user: stand_in(&outsider),
        outside: Some(outsider),
        session: None,
        outside_session: identity.session_id.clone(),
    }
}

/// What stands for a user of another issuer where the store has a UUID: made of both names, so that one subject of two
/// issuers is two users. The names themselves are compared.
fn stand_in(outsider: &Outsider) -> UserId {
    let mut context = Context::new(&SHA256);
    // Neither name is told apart from the other by its length alone.
    let length = outsider.issuer.len() as u64;
    context.update(&length.to_be_bytes());
    context.update(outsider.issuer.as_bytes());
    context.update(outsider.subject.as_bytes());
    let digest = context.finish();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.as_ref()[..16]);
    // RFC 9562 §5.8: a UUID of one's own making.
    UserId(uuid::Builder::from_custom_bytes(bytes).into_uuid())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outsider(issuer: &str, subject: &str) -> UserId {
        stand_in(&Outsider {
            issuer: issuer.into(),
            subject: subject.into(),
        })
    }

    #[test]
    fn issuer_and_subject_are_told_apart() {
        assert_eq!(outsider("a", "b"), outsider("a", "b"));
        for (issuer, subject) in [("a", "c"), ("c", "b"), ("ab", ""), ("", "ab")] {
            assert_ne!(outsider("a", "b"), outsider(issuer, subject));
        }
    }
}
