//! What the tests of this folder share.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::Algorithm;
use uuid::Uuid;

use super::log_in::{Conversation, Login};
use super::notes::Others;
use super::users::Registration;
use super::{AccountError, Accounts, Parts, SignedIn, Who, keys};
use crate::clock::Clock;
use crate::config::{self, PasswordHash, Passwords};
use crate::identity::keyring::Keyring;
use crate::identity::sightings::Sightings;
use crate::identity::vault::Vault;
use crate::observe::access::Sink;
use crate::observe::metrics::Metrics;
use crate::records::{
    Api, Authentication, Client, Object, Session, SessionId, UnixMillis, User, UserId,
};
use crate::secret::Secret;
use crate::state::Revocations;
use crate::store::{self, Store};

/// Rules whose hashes cost next to nothing.
pub(crate) fn rules() -> Passwords {
    Passwords {
        hash: PasswordHash::Argon2id,
        min_length: 8,
        require: Vec::new(),
        require_current: false,
        require_recent: None,
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

/// The core over a real store, with a clock that is moved by hand.
pub(crate) struct Bench {
    pub(crate) accounts: Arc<Accounts>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) revocations: Arc<Revocations>,
    pub(crate) vault: Arc<Vault>,
    pub(crate) clock: Clock,
    pub(crate) folder: Folder,
}

/// A folder that is gone when the test is over.
pub(crate) struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let name = format!("portcullis-accounts-{}", Uuid::new_v4());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

impl Bench {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut config::Accounts)) -> Self {
        let folder = Folder::new();
        let store = store::open(&config::Store {
            place: config::StorePlace::Sqlite(folder.file("store.db")),
            connections: 4,
            connect_timeout: Duration::from_secs(10),
            statement_timeout: Duration::from_secs(20),
            ca: None,
        })
        .unwrap();
        let mut config = settings(&folder);
        change(&mut config);
        let vault = Arc::new(Vault::of(&config.secret).unwrap());
        let clock = Clock::manual(NOW);
        let now = UnixMillis::try_from(NOW * 1000).unwrap();
        keys::prepare(&*store, &vault, &config, now).await.unwrap();
        let opened = Keyring::open(store.clone(), vault.clone(), clock.clone()).await;
        let keyring = opened.unwrap();
        let revocations = Revocations::new();
        let parts = Parts {
            store: store.clone(),
            others: Others::None,
            keyring: keyring.clone(),
            revocations: revocations.clone(),
            sightings: Sightings::new(),
            vault: vault.clone(),
            clock: clock.clone(),
            metrics: Metrics::new(1),
            sink: Sink::silent(),
        };
        Self {
            accounts: Accounts::open(&config, parts).await.unwrap(),
            store,
            keyring,
            revocations,
            vault,
            clock,
            folder,
        }
    }

    pub(crate) fn pass(&self, seconds: u64) {
        self.clock.set(self.clock.now() + seconds);
    }

    /// A user `ada` with the address `ada@mail.example` and the password `correct horse`.
    pub(crate) async fn ada(&self) -> User {
        self.register("ada", "ada@mail.example").await.unwrap()
    }

    pub(crate) async fn register(&self, username: &str, email: &str) -> Result<User, AccountError> {
        let new = Registration {
            username: Some(username.to_owned()),
            email: Some(email.to_owned()),
            password: secret(PASSWORD),
            user_metadata: Object::new(),
            redirect_to: None,
        };
        self.accounts
            .register(Api::Token, new, &Client::default())
            .await
    }

    pub(crate) async fn log_in(&self, api: Api) -> SignedIn {
        self.try_log_in(api, "ada", PASSWORD).await.unwrap()
    }

    pub(crate) async fn try_log_in(
        &self,
        api: Api,
        name: &str,
        password: &str,
    ) -> Result<SignedIn, AccountError> {
        self.accounts
            .log_in(api, login(name, password), &Client::default())
            .await
    }

    pub(crate) async fn conversation(&self) -> Conversation {
        self.accounts
            .log_in_conversation(login("ada", PASSWORD), &Client::default())
            .await
            .unwrap()
    }

    pub(crate) async fn refresh(&self, token: &str) -> Result<SignedIn, AccountError> {
        self.accounts
            .refresh(Api::Token, token, &Client::default())
            .await
    }

    /// Whether what a token stands for is still good: as a verifier that looks into the store would find.
    pub(crate) async fn is_alive(&self, who: Who) -> bool {
        let found = self.store.session(who.session).await.unwrap();
        found.is_some_and(|(session, _)| session.ended_at.is_none())
    }

    pub(crate) async fn token_is_alive(&self, token: &Secret<String>) -> bool {
        let hash = super::tokens::hash(token.expose());
        self.store.token_owner(hash).await.unwrap().is_some()
    }

    pub(crate) async fn number(&self, token: &Secret<String>) -> i64 {
        let hash = super::tokens::hash(token.expose());
        let owner = self.store.token_owner(hash).await.unwrap();
        owner.unwrap().token.number
    }
}

pub(crate) fn login(name: &str, password: &str) -> Login {
    Login {
        name: name.to_owned(),
        password: secret(password),
    }
}

pub(crate) fn secret(text: &str) -> Secret<String> {
    Secret::new(text.to_owned())
}

pub(crate) fn who(signed_in: &SignedIn) -> Who {
    Who {
        user: signed_in.user.id,
        session: signed_in.session.id,
        token: None,
    }
}

fn settings(folder: &Folder) -> config::Accounts {
    config::Accounts {
        issuer: "https://gw.example/auth/v1".into(),
        secret: config::AccountsSecret::Kept(folder.file("secret")),
        algorithm: Algorithm::ES256,
        access_ttl: Duration::from_secs(3600),
        well_known: true,
        sign_up: true,
        anonymous: true,
        confirm_email: false,
        session_lifetime: None,
        session_idle: None,
        max_sessions: 500,
        anonymous_lifetime: Some(Duration::from_secs(30 * 86_400)),
        refresh_reuse: Duration::from_secs(10),
        key_notice: Duration::from_secs(1200),
        admin: None,
        password: rules(),
        attempts: config::Attempts {
            free: 5,
            delay: Duration::from_secs(1),
            max_delay: Duration::from_secs(300),
            forget: Duration::from_secs(900),
            per_address: 0,
            anonymous_per_address: 0,
            refreshes_per_address: 0,
        },
        mail: config::Mail {
            hook: config::MailHook::File(folder.file("mails")),
            code_ttl: Duration::from_secs(3600),
            resend_after: Duration::from_secs(60),
            redirects: vec!["https://x.example".into()],
        },
        apis: config::Apis {
            token: Some(config::TokenApi {
                mount: "/auth".into(),
                hosts: Vec::new(),
                access_ttl: Duration::from_secs(900),
                refresh_ttl: Duration::from_secs(7 * 86_400),
            }),
            ..config::Apis::default()
        },
    }
}

pub(crate) const PASSWORD: &str = "correct horse";
/// Unix seconds.
pub(crate) const NOW: u64 = 1_800_000_000;
