//! What the tests of this folder share.

use uuid::Uuid;

use crate::config::{PasswordHash, Passwords};
use crate::records::{Api, Authentication, Client, Session, SessionId, UnixMillis, UserId};

/// Rules whose hashes cost next to nothing.
pub(crate) fn rules() -> Passwords {
    Passwords {
        hash: PasswordHash::Argon2id,
        min_length: 8,
        require: Vec::new(),
        require_current: false,
        argon2_memory: 8,
        argon2_iterations: 1,
        argon2_parallelism: 1,
        bcrypt_cost: 4,
        threads: 1,
        queue: 64,
    }
}

/// A session that was made at `now`.
pub(crate) fn session(api: Api, now: UnixMillis) -> Session {
    Session {
        id: SessionId(Uuid::from_u128(1)),
        number: 1,
        user: UserId(Uuid::from_u128(2)),
        api,
        name: None,
        client: Client::default(),
        authentication: Authentication {
            method: "password".into(),
            at: now,
        },
        created_at: now,
        last_used_at: now,
        refreshed_at: None,
        refresh_counter: 1,
        ended_at: None,
    }
}
