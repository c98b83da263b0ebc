//! `portcullis user`: users made, listed, switched off, brought from elsewhere. Passwords come from standard input or a
//! prompt without an echo, never from an argument, which others could read.

use std::process::ExitCode;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use uuid::Uuid;

use super::import::{self, Import};
use super::opened::{self, NewPassword, Opened, Place};
use crate::records::{Object, UnixMillis, User as Account, UserId};
use crate::state::Ended;
use crate::store::{Change, NewUser, OldestFirst, Sessions, StoreError, Tokens, Unique, UserQuery};

/// Look after the gateway's own users.
#[derive(clap::Args)]
pub struct User {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    call: Call,
}

#[derive(clap::Subcommand)]
enum Call {
    /// Make a user.
    Add(Add),
    /// List users, the newest first.
    List(List),
    /// Show a user and its sessions.
    Show(Who),
    /// Switch a user off: nothing of its is accepted until it is enabled again.
    Disable(Who),
    /// Switch a user on again.
    Enable(Who),
    /// Set a user's password; ends all its tokens.
    Passwd(Passwd),
    /// Delete a user with its sessions, tokens and jobs.
    Delete(Delete),
    /// Bring users from a CSV or JSON file, with their bcrypt or argon2 hashes.
    Import(Import),
}

#[derive(clap::Args)]
struct Who {
    /// The user's id, username or e-mail address.
    who: String,
}

#[derive(clap::Args)]
struct Add {
    /// The username. May be left out where there is an e-mail address.
    name: Option<String>,
    /// The e-mail address, taken for confirmed.
    #[arg(long)]
    email: Option<String>,
    /// A role for `app_metadata.roles`; may be given several times.
    #[arg(long = "role", value_name = "ROLE")]
    roles: Vec<String>,
    /// The same as `--role admin`.
    #[arg(long)]
    admin: bool,
    /// No password: nobody can log in with one until it is set.
    #[arg(long)]
    no_password: bool,
    #[command(flatten)]
    password: NewPassword,
}

#[derive(clap::Args)]
struct List {
    /// Only users with this in their e-mail address, username or full name.
    #[arg(long, value_name = "TEXT")]
    containing: Option<String>,
    /// How many at most.
    #[arg(long, default_value_t = 50)]
    limit: u64,
    /// How many to leave out.
    #[arg(long, default_value_t = 0)]
    offset: u64,
}

#[derive(clap::Args)]
struct Passwd {
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    password: NewPassword,
}

#[derive(clap::Args)]
struct Delete {
    #[command(flatten)]
    who: Who,
    /// Do it: it cannot be undone.
    #[arg(long)]
    yes: bool,
}

/// Runs `portcullis user …`.
///
/// # Errors
/// When the accounts cannot be opened, there is no such user, or the store refuses the change.
pub fn run(args: User) -> anyhow::Result<ExitCode> {
    let call = args.call;
    args.place.run(async |opened| {
        match call {
            Call::Add(add) => add.run(opened).await?,
            Call::List(list) => list.run(opened).await?,
            Call::Show(who) => show(opened, &who.who).await?,
            Call::Disable(who) => switch(opened, &who.who, Switch::Off).await?,
            Call::Enable(who) => switch(opened, &who.who, Switch::On).await?,
            Call::Passwd(passwd) => passwd.run(opened).await?,
            Call::Delete(delete) => delete.run(opened).await?,
            Call::Import(import) => return import::run(&import, opened).await,
        }
        Ok(ExitCode::SUCCESS)
    })
}

impl Add {
    async fn run(self, opened: &Opened) -> anyhow::Result<()> {
        let name = self.name.as_deref();
        let username = name.map(opened::username).transpose()?;
        let email = self.email.as_deref().map(opened::email).transpose()?;
        if username.is_none() && email.is_none() {
            bail!("a user needs a username or --email");
        }
        let password = match self.no_password {
            true => None,
            false => Some(self.password.read(&opened.accounts)?),
        };
        let mut roles = self.roles;
        if self.admin && !roles.iter().any(|role| role == "admin") {
            roles.push("admin".to_owned());
        }
        let user = NewUser {
            id: UserId(Uuid::new_v4()),
            username,
            email_confirmed_at: email.as_ref().map(|_| opened.now),
            email,
            phone: None,
            password,
            role: "authenticated".into(),
            anonymous: false,
            banned_until: None,
            app_metadata: app_metadata(&roles),
            user_metadata: Object::new(),
            phone_confirmed_at: None,
            confirmation_sent_at: None,
            created_at: opened.now,
        };
        let user = opened.store.add_user(user).await.map_err(taken)?;
        let value = told(&user);
        opened.audit("user_create", Some(user.id), None);
        opened.print(&value, || format!("added {} ({})", called(&user), user.id))
    }
}

impl List {
    async fn run(self, opened: &Opened) -> anyhow::Result<()> {
        let query = UserQuery {
            offset: self.offset,
            limit: self.limit,
            containing: self.containing.map(Into::into),
            oldest_first: OldestFirst::No,
        };
        let (users, total) = opened.store.users(query).await?;
        let value = json!({ "total": total, "users": users.iter().map(told).collect::<Vec<_>>() });
        opened.print(&value, || {
            let head = ["id", "username", "email", "roles", "state", "last sign-in"];
            let mut rows = vec![head.map(str::to_owned).to_vec()];
            rows.extend(users.iter().map(|user| row(user, opened.now)));
            let left = total.saturating_sub(self.offset + users.len() as u64);
            let more = if left > 0 {
                format!("\n… and {left} more")
            } else {
                String::new()
            };
            format!("{}{more}", opened::table(&rows))
        })
    }
}

impl Passwd {
    async fn run(self, opened: &Opened) -> anyhow::Result<()> {
        let user = opened.user(&self.who.who).await?;
        let hash = self.password.read(&opened.accounts)?;
        let now = opened.now;
        change(opened, user.id, move |user| {
            user.password = Some(hash);
            user.updated_at = now;
        })
        .await?;
        end_all(opened, user.id).await?;
        // A code that was sent before opens a session too.
        opened.store.void_codes(user.id).await?;
        opened.audit("password_change", Some(user.id), None);
        opened.print(&told(&user), || {
            format!(
                "{} has a new password; all its tokens have ended",
                called(&user)
            )
        })
    }
}

impl Delete {
    async fn run(self, opened: &Opened) -> anyhow::Result<()> {
        let user = opened.user(&self.who.who).await?;
        if !self.yes {
            bail!(
                "this deletes {} ({}) for good: say --yes",
                called(&user),
                user.id
            );
        }
        opened
            .store
            .change_user(user.id, Box::new(|_| Change::Delete))
            .await?;
        opened.audit("user_delete", Some(user.id), None);
        opened.tell(Ended::User(user.id)).await?;
        opened.print(&told(&user), || format!("deleted {}", called(&user)))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Switch {
    On,
    Off,
}

async fn switch(opened: &Opened, who: &str, to: Switch) -> anyhow::Result<()> {
    let user = opened.user(who).await?;
    let now = opened.now;
    let user = change(opened, user.id, move |user| {
        user.disabled = to == Switch::Off;
        user.updated_at = now;
    })
    .await?;
    let name = match to {
        Switch::On => "user_enable",
        Switch::Off => "user_disable",
    };
    opened.audit(name, Some(user.id), None);
    if to == Switch::Off {
        opened.tell(Ended::User(user.id)).await?;
    }
    let word = if to == Switch::Off {
        "disabled"
    } else {
        "enabled"
    };
    opened.print(&told(&user), || format!("{word} {}", called(&user)))
}

async fn show(opened: &Opened, who: &str) -> anyhow::Result<()> {
    let user = opened.user(who).await?;
    let sessions = opened.store.sessions_of(user.id).await?;
    let mut value = told(&user);
    value["sessions"] = sessions.iter().map(super::session::told).collect();
    opened.print(&value, || {
        let fields = value.as_object().into_iter().flatten();
        let lines = fields.filter(|(name, value)| *name != "sessions" && !value.is_null());
        let rows: Vec<_> = lines
            .map(|(name, value)| vec![name.clone(), opened::cell(value)])
            .collect();
        let sessions = super::session::rows(&sessions);
        format!("{}\n\n{}", opened::table(&rows), opened::table(&sessions))
    })
}

/// Writes a change, if the user is still there.
async fn change(
    opened: &Opened,
    id: UserId,
    change: impl FnOnce(&mut Account) + Send + 'static,
) -> anyhow::Result<Account> {
    let write = move |user: &Account| {
        let mut user = user.clone();
        change(&mut user);
        Change::Write(user)
    };
    let changed = opened.store.change_user(id, Box::new(write)).await?;
    changed.context("the user is gone by now")
}

/// Ends every token of a user. Conversations stay, for the next log-in.
async fn end_all(opened: &Opened, user: UserId) -> anyhow::Result<()> {
    let log_ins = Sessions::LogIns(user);
    opened.store.end_sessions(log_ins, opened.now).await?;
    opened.store.revoke_tokens(Tokens::All(user)).await?;
    opened.tell(Ended::User(user)).await
}

/// What only the gateway writes of a user: where it comes from, and its roles.
pub(super) fn app_metadata(roles: &[String]) -> Object {
    let mut metadata = Object::new();
    metadata.insert("provider".to_owned(), "email".into());
    metadata.insert("providers".to_owned(), json!(["email"]));
    if !roles.is_empty() {
        metadata.insert("roles".to_owned(), json!(roles));
    }
    metadata
}

/// A refusal of the store in a person's words.
pub(super) fn taken(error: StoreError) -> anyhow::Error {
    match error {
        StoreError::Taken(Unique::Username) => anyhow::anyhow!("another user has this username"),
        StoreError::Taken(Unique::Email) => anyhow::anyhow!("another user has this e-mail address"),
        StoreError::Taken(Unique::Id) => anyhow::anyhow!("another user has this id"),
        other => other.into(),
    }
}

/// A user as JSON: everything but the hash itself.
fn told(user: &Account) -> Value {
    json!({
        "id": user.id.to_string(),
        "number": user.number,
        "username": user.username.as_ref().map(|name| &name.shown),
        "email": user.email.as_ref().map(|email| &email.0),
        "phone": user.phone,
        "role": user.role,
        "password": user.password.as_ref().map(|hash| scheme(hash.expose())),
        "anonymous": user.anonymous,
        "disabled": user.disabled,
        "banned_until": opened::time(user.banned_until),
        "app_metadata": user.app_metadata,
        "user_metadata": user.user_metadata,
        "email_confirmed_at": opened::time(user.email_confirmed_at),
        "invited_at": opened::time(user.invited_at),
        "last_sign_in_at": opened::time(user.last_sign_in_at),
        "created_at": opened::time(Some(user.created_at)),
        "updated_at": opened::time(Some(user.updated_at)),
        "deleted_at": opened::time(user.deleted_at),
    })
}

/// What a password is kept as.
fn scheme(hash: &str) -> &str {
    match hash.split('$').nth(1) {
        Some("2a" | "2b" | "2y") => "bcrypt",
        Some(scheme) => scheme,
        None => "unknown",
    }
}

fn row(user: &Account, now: UnixMillis) -> Vec<String> {
    let value = told(user);
    let roles = value["app_metadata"]["roles"]
        .as_array()
        .into_iter()
        .flatten();
    let roles: Vec<String> = roles.map(opened::cell).collect();
    vec![
        user.id.to_string(),
        opened::cell(&value["username"]),
        opened::cell(&value["email"]),
        roles.join(","),
        state(user, now).to_owned(),
        opened::cell(&value["last_sign_in_at"]),
    ]
}

fn state(user: &Account, now: UnixMillis) -> &'static str {
    match user {
        user if user.deleted_at.is_some() => "deleted",
        user if user.disabled => "disabled",
        user if user.banned_until.is_some_and(|until| until > now) => "banned",
        user if user.anonymous => "anonymous",
        _ => "active",
    }
}

/// The best name that a user has.
pub(super) fn called(user: &Account) -> String {
    let username = user.username.as_ref().map(|name| &*name.shown);
    let email = user.email.as_ref().map(|email| &*email.0);
    opened::shown(username.or(email).unwrap_or("a user without a name"))
}
