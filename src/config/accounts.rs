//! Reads `[accounts]`: the gateway's own users, what they are told apart by, and how they are looked after.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::Algorithm;

use super::check::seconds;
use super::named::Named;
use super::raw::Table;
use super::secrets::{self, Encoding};
use super::units::{self, Wrong};
use super::{ClaimPath, Issuer, KeySource, apis};
use crate::secret::Secret;

/// `[accounts]`, and the APIs of `[api]`.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "documented in config/portcullis.toml")]
pub struct Accounts {
    pub issuer: Box<str>,
    pub secret: AccountsSecret,
    /// ES256, RS256, EdDSA or HS256.
    pub algorithm: Algorithm,
    /// Whole seconds.
    pub access_ttl: Duration,
    pub well_known: bool,
    pub sign_up: bool,
    pub anonymous: bool,
    pub confirm_email: bool,
    /// `None`: no limit.
    pub session_lifetime: Option<Duration>,
    /// `None`: no limit.
    pub session_idle: Option<Duration>,
    /// Of one user, of all APIs; as many opaque tokens.
    pub max_sessions: u32,
    /// After this, anonymous users without a session are removed; `None`: they stay.
    pub anonymous_lifetime: Option<Duration>,
    pub refresh_reuse: Duration,
    /// How long a key is published before it signs.
    pub key_notice: Duration,
    pub admin: Option<FirstAdmin>,
    pub password: Passwords,
    pub attempts: Attempts,
    pub mail: Mail,
    pub apis: apis::Apis,
}

/// What seals the keys in the store and makes refresh tokens.
#[derive(Clone, Debug)]
pub enum AccountsSecret {
    /// From the configuration.
    Given(Secret<Arc<[u8]>>),
    /// In this file, which is made at the first start.
    Kept(PathBuf),
}

/// `[accounts.admin]`: the user that is made, with the role `admin`, where there is none of that name.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "documented in config/portcullis.toml")]
pub struct FirstAdmin {
    pub username: Box<str>,
    pub password: Secret<String>,
}

/// `[accounts.password]`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "documented in config/portcullis.toml")]
pub struct Passwords {
    pub hash: PasswordHash,
    /// Characters.
    pub min_length: usize,
    /// At least one of each.
    pub require: Vec<CharacterSet>,
    pub require_current: bool,
    /// `None`: any session will do.
    pub require_recent: Option<Duration>,
    /// KiB.
    pub argon2_memory: u32,
    pub argon2_iterations: u32,
    pub argon2_parallelism: u32,
    pub bcrypt_cost: u32,
    /// How many are hashed at once, at least one.
    pub threads: usize,
    /// How many may wait.
    pub queue: usize,
}

/// `hash` of `[accounts.password]`: what new passwords are kept as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum PasswordHash {
    Argon2id,
    Bcrypt,
}

/// `require` of `[accounts.password]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum CharacterSet {
    Lower,
    Upper,
    Digit,
    Symbol,
}

/// `[accounts.attempts]`: what slows guessing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "documented in config/portcullis.toml")]
pub struct Attempts {
    /// Failures of one account before the next must wait.
    pub free: u32,
    /// The first wait; each failure doubles it.
    pub delay: Duration,
    pub max_delay: Duration,
    /// Failures are forgotten after this.
    pub forget: Duration,
    /// Log-ins, sign-ups and mails of one address a minute; 0: no limit.
    pub per_address: u32,
    /// Anonymous sign-ins of one address an hour; 0: no limit.
    pub anonymous_per_address: u32,
    /// Refreshes of one address a minute; 0: no limit.
    pub refreshes_per_address: u32,
}

/// `[accounts.mail]`: where what would be mailed goes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "documented in config/portcullis.toml")]
pub struct Mail {
    pub hook: MailHook,
    pub code_ttl: Duration,
    /// Between two mails of one kind to one user.
    pub resend_after: Duration,
    /// How addresses begin that links in mails may lead to.
    pub redirects: Vec<Box<str>>,
}

/// `hook` of `[accounts.mail]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MailHook {
    /// Nothing that needs a mail works.
    Off,
    /// A line in the log, code included: for trying it out.
    Log,
    /// A line of JSON at the end of this file (0600).
    File(PathBuf),
    /// A `POST` of JSON to this URL, with `Authorization: Bearer` where a secret is given.
    Webhook(Box<str>, Option<Secret<String>>),
}

/// Reads `[accounts]` and `[api]`; `None`: no users of our own.
pub(super) fn accounts(mut table: Table<'_>, apis: apis::Apis, postgres: bool) -> Option<Accounts> {
    let given = table.is_given();
    let password = password(table.table("password"));
    let attempts = attempts(table.table("attempts"));
    let mail = mail(table.table("mail"));
    let admin = first_admin(table.table("admin"));
    let secret = secret(&mut table, postgres && given);
    let issuer = table.text("issuer", units::filled);
    if given {
        table.require("issuer", "\"https://gateway.example/auth/v1\"");
    }
    let accounts = Accounts {
        issuer: issuer.unwrap_or_default(),
        secret,
        algorithm: table
            .choice("algorithm", &ALGORITHMS)
            .unwrap_or(Algorithm::ES256),
        access_ttl: whole(&mut table, "access_ttl", seconds(3600)),
        well_known: table.flag("well_known").unwrap_or(true),
        sign_up: table.flag("sign_up").unwrap_or(true),
        anonymous: table.flag("anonymous").unwrap_or(true),
        confirm_email: confirm_email(&mut table, &mail),
        session_lifetime: table.duration_or_zero("session_lifetime").filter(some_time),
        session_idle: table.duration_or_zero("session_idle").filter(some_time),
        max_sessions: table.integer("max_sessions", 1..=100_000).unwrap_or(500),
        anonymous_lifetime: anonymous_lifetime(&mut table),
        refresh_reuse: table
            .duration_or_zero("refresh_reuse")
            .unwrap_or(seconds(10)),
        key_notice: table
            .duration_or_zero("key_notice")
            .unwrap_or(seconds(1200)),
        admin,
        password,
        attempts,
        mail,
        apis,
    };
    if accounts.access_ttl < seconds(120) {
        table.warning(
            "access_ttl",
            "Supabase clients refresh on every call when tokens live less than two minutes",
            "make it longer",
        );
    }
    given.then_some(accounts)
}

fn anonymous_lifetime(table: &mut Table<'_>) -> Option<Duration> {
    let given = table.duration_or_zero("anonymous_lifetime");
    given.or(Some(seconds(30 * 86_400))).filter(some_time)
}

/// Puts the gateway's own issuer beside the others, and says what is missing between the tables.
pub(super) fn join(
    top: &Table<'_>,
    accounts: Option<&Accounts>,
    apis: &apis::Apis,
    issuers: &mut Named<Issuer>,
) {
    let Some(accounts) = accounts else {
        if !apis.is_empty() {
            let mend = "add [accounts] with an issuer, or leave [api] out";
            top.report.problem(
                top.line_of("api"),
                "[api] has a log-in API, but there are no [accounts]",
                mend,
            );
        }
        return;
    };
    let line = top.line_of("accounts");
    if issuers.find(OWN_ISSUER).is_ok() {
        let mend = "give that [[issuer]] another name";
        let what = "an [[issuer]] is called \"portcullis\", as the gateway's own is";
        top.report.problem(line, what, mend);
    }
    if issuers.iter().any(|(_, it)| it.iss == accounts.issuer) {
        let what = "[accounts] `issuer` is an [[issuer]]'s `iss` too";
        top.report
            .problem(line, what, "tokens say by it who made them: choose another");
    }
    issuers.push(OWN_ISSUER, own_issuer(accounts));
}

/// The issuer that the gateway is for its own tokens.
fn own_issuer(accounts: &Accounts) -> Issuer {
    let path = |members: &[&str]| ClaimPath(members.iter().map(|it| (*it).into()).collect());
    Issuer {
        name: OWN_ISSUER.into(),
        iss: accounts.issuer.clone(),
        audience: vec!["authenticated".into()],
        algorithms: ALGORITHMS.iter().map(|(_, it)| *it).collect(),
        keys: KeySource::Own,
        roles: vec![path(&["role"]), path(&["app_metadata", "roles"])],
        trust_user_metadata: false,
    }
}

/// The name of the gateway's own issuer.
pub const OWN_ISSUER: &str = "portcullis";

const ALGORITHMS: [(&str, Algorithm); 4] = [
    ("ES256", Algorithm::ES256),
    ("RS256", Algorithm::RS256),
    ("EdDSA", Algorithm::EdDSA),
    ("HS256", Algorithm::HS256),
];

fn secret(table: &mut Table<'_>, must_be_given: bool) -> AccountsSecret {
    let report = table.report;
    let given = table.own_secret("secret", |text| secrets::shared(text, Encoding::Text));
    let file = table.text("secret_file", |name| {
        units::filled(name)?;
        Ok(report.beside(name))
    });
    if table.has("secret") && table.has("secret_file") {
        let mend = "keep one of them";
        table.problem("secret", "`secret` and `secret_file` are both given", mend);
    }
    if must_be_given && !table.has("secret") && !table.has("secret_file") {
        let what =
            "`secret` is missing: gateways that share a PostgreSQL store share its secret too";
        table.note(
            table.line,
            what,
            "add secret = \"${PORTCULLIS_SECRET}\", or secret_file",
        );
    }
    match (given, file) {
        (Some(secret), _) => AccountsSecret::Given(secret),
        (None, Some(path)) => AccountsSecret::Kept(path),
        (None, None) => AccountsSecret::Kept(report.beside("portcullis.secret")),
    }
}

fn first_admin(mut table: Table<'_>) -> Option<FirstAdmin> {
    let username = table.text("username", units::filled);
    let password = table.own_secret("password", |text| match text.chars().count() {
        0..8 => Err(Wrong::new(
            "has fewer than 8 characters",
            "choose a longer one: password = \"${PORTCULLIS_ADMIN_PASSWORD}\"",
        )),
        _ => Ok(Secret::new(text.to_owned())),
    });
    if table.is_given() {
        table.require("username", "\"admin\"");
        table.require("password", "\"${PORTCULLIS_ADMIN_PASSWORD}\"");
    }
    Some(FirstAdmin {
        username: username?,
        password: password?,
    })
}

fn password(mut table: Table<'_>) -> Passwords {
    let hashes = [
        ("argon2id", PasswordHash::Argon2id),
        ("bcrypt", PasswordHash::Bcrypt),
    ];
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Passwords {
        hash: table
            .choice("hash", &hashes)
            .unwrap_or(PasswordHash::Argon2id),
        min_length: table.integer("min_length", 6..=128).unwrap_or(8),
        require: table.texts("require", character_set).unwrap_or_default(),
        require_current: table.flag("require_current").unwrap_or(false),
        require_recent: table.duration_or_zero("require_recent").filter(some_time),
        argon2_memory: argon2_memory(&mut table),
        argon2_iterations: table.integer("argon2_iterations", 1..=64).unwrap_or(2),
        argon2_parallelism: table.integer("argon2_parallelism", 1..=16).unwrap_or(1),
        bcrypt_cost: table.integer("bcrypt_cost", 10..=16).unwrap_or(12),
        threads: match table.integer("threads", 0..=256) {
            None | Some(0) => cores.div_ceil(2),
            Some(threads) => threads,
        },
        queue: table.integer("queue", 1..=100_000).unwrap_or(256),
    }
}

/// In KiB; OWASP's least is 7 MiB with five iterations.
fn argon2_memory(table: &mut Table<'_>) -> u32 {
    let bytes: u64 = table
        .size("argon2_memory", 7 << 20..=4 << 30)
        .unwrap_or(19 << 20);
    u32::try_from(bytes >> 10).unwrap_or(u32::MAX)
}

fn character_set(text: &str) -> Result<CharacterSet, Wrong> {
    match text {
        "lower" => Ok(CharacterSet::Lower),
        "upper" => Ok(CharacterSet::Upper),
        "digit" => Ok(CharacterSet::Digit),
        "symbol" => Ok(CharacterSet::Symbol),
        _ => Err(Wrong::new(
            "is not a set of characters",
            "known here: lower, upper, digit, symbol",
        )),
    }
}

fn attempts(mut table: Table<'_>) -> Attempts {
    Attempts {
        free: table.integer("free", 1..=1000).unwrap_or(5),
        delay: table.duration("delay").unwrap_or(seconds(1)),
        max_delay: table.duration("max_delay").unwrap_or(seconds(300)),
        forget: table.duration("forget").unwrap_or(seconds(900)),
        per_address: table.integer("per_address", 0..=1_000_000).unwrap_or(60),
        anonymous_per_address: table
            .integer("anonymous_per_address", 0..=1_000_000)
            .unwrap_or(30),
        refreshes_per_address: table
            .integer("refreshes_per_address", 0..=1_000_000)
            .unwrap_or(600),
    }
}

fn mail(mut table: Table<'_>) -> Mail {
    let report = table.report;
    let hooks = ["off", "log", "file", "webhook"].map(|word| (word, word));
    let file = table.text("file", |name| {
        units::filled(name)?;
        Ok(report.beside(name))
    });
    let url = table.secret("url", super::issuer::url);
    let secret = table.own_secret("secret", |text| Ok(Secret::new(text.to_owned())));
    let hook = match table.choice("hook", &hooks) {
        Some("log") => {
            let what = "codes that open accounts stand in the log";
            table.warning(
                "hook",
                what,
                "for more than trying it out: \"file\" or \"webhook\"",
            );
            MailHook::Log
        }
        Some("file") => {
            table.require("file", "\"mails.jsonl\"");
            MailHook::File(file.unwrap_or_default())
        }
        Some("webhook") => {
            table.require("url", "\"https://…\"");
            MailHook::Webhook(url.unwrap_or_default(), secret)
        }
        _ => MailHook::Off,
    };
    Mail {
        hook,
        code_ttl: table.duration("code_ttl").unwrap_or(seconds(3600)),
        resend_after: table
            .duration_or_zero("resend_after")
            .unwrap_or(seconds(60)),
        redirects: table.texts("redirects", redirect).unwrap_or_default(),
    }
}

/// Who must confirm an e-mail must get a mail.
fn confirm_email(table: &mut Table<'_>, mail: &Mail) -> bool {
    let confirms = table.flag("confirm_email").unwrap_or(false);
    if confirms && mail.hook == MailHook::Off {
        let what = "`confirm_email` needs mails, and [accounts.mail] sends none";
        table.problem(
            "confirm_email",
            what,
            "add accounts.mail.hook = \"webhook\" and its url",
        );
    }
    confirms
}

/// A scheme and what follows it, without the slash at the end.
fn redirect(text: &str) -> Result<Box<str>, Wrong> {
    let text = text.trim_end_matches('/');
    let sound = text.bytes().all(|byte| byte.is_ascii_graphic());
    match text.split_once("://") {
        Some((scheme, rest)) if sound && !scheme.is_empty() && !rest.is_empty() => Ok(text.into()),
        _ => Err(Wrong::new(
            "is not the start of an address",
            "write scheme and host: \"https://app.example.com\", \"myapp://sign-in\"",
        )),
    }
}

impl Mail {
    /// Where a link leads that was to lead to `wanted`: there, or, if it may not or says nothing, to the first place
    /// that the operator names.
    pub fn destination<'a>(&'a self, wanted: Option<&'a str>) -> Option<&'a str> {
        wanted
            .filter(|wanted| self.leads_to(wanted))
            .or(self.redirects.first().map(|start| &**start))
    }

    /// Whether a link in a mail may lead there: whoever asks for a mail to somebody else names this too, and what the
    /// link carries lets in whoever it is brought to.
    pub fn leads_to(&self, address: &str) -> bool {
        let behind = |start: &str| address.strip_prefix(start);
        let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'\\';
        address.bytes().all(plain)
            && self
                .redirects
                .iter()
                .filter_map(|start| behind(start))
                .any(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#']))
    }
}

/// A duration of whole seconds.
pub(super) fn whole(table: &mut Table<'_>, key: &'static str, default: Duration) -> Duration {
    let duration = table.duration(key).unwrap_or(default);
    if duration.subsec_nanos() > 0 {
        table.problem(key, &format!("`{key}` must be whole seconds"), "");
    }
    duration
}

fn some_time(duration: &Duration) -> bool {
    !duration.is_zero()
}
