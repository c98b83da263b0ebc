//! What the commands on accounts stand on: the store of the configuration, opened by this process beside a gateway
//! that may be running over it, and what is printed of it. What a command ends is noted in the store, where running
//! gateways look twice a second, and told through Redis, where there is one.

use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use crate::accounts::hashes;
use crate::accounts::names::{self, LoginName};
use crate::accounts::passwords::{self, Unfit};
use crate::cli::check::config_path;
use crate::clock::Clock;
use crate::config::{self, Accounts};
use crate::gate;
use crate::identity::keyring::millis;
use crate::observe::access::Sink;
use crate::observe::event::Event;
use crate::records::{SessionId, UnixMillis, User, UserId};
use crate::secret::Secret;
use crate::server::shared;
use crate::state::Ended;
use crate::store::{self, Store};

/// Which accounts, and how they are printed.
#[derive(Clone, Debug, clap::Args)]
pub struct Place {
    /// The configuration [default: $PORTCULLIS_CONFIG, else portcullis.toml]
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
}

/// The accounts of a configuration, opened by a command.
pub struct Opened {
    /// `[accounts]`.
    pub accounts: Accounts,
    /// Where they are kept.
    pub store: Arc<dyn Store>,
    /// Now.
    pub now: UnixMillis,
    redis: Option<config::Redis>,
    json: bool,
    /// Audit lines, on standard error.
    sink: Sink,
}

impl Place {
    /// Opens the store, which is made where there is none, and runs `work` over it.
    ///
    /// # Errors
    /// When the configuration has problems or no accounts, or the store cannot be opened; and those of `work`.
    pub fn run(
        self,
        work: impl AsyncFnOnce(&Opened) -> anyhow::Result<ExitCode>,
    ) -> anyhow::Result<ExitCode> {
        let file = config_path(self.config);
        let config = config::load(&file)?;
        let nobody = || format!("{} has no [accounts]", file.display());
        let (sink, _lines) = Sink::start(std::io::stderr())?;
        let sink = sink.with(gate::switches(&config.log));
        let accounts = config.accounts.with_context(nobody)?;
        let mut place = config.store.context("there is no [store]")?;
        // Nobody else waits for a command, and an import takes its time.
        place.statement_timeout = place.statement_timeout.max(Duration::from_secs(60));
        let opened = Opened {
            accounts,
            store: store::open(&place)?,
            now: millis(&Clock::System),
            redis: config.redis,
            json: self.json,
            sink,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("the runtime could not be made")?;
        runtime.block_on(work(&opened))
    }
}

impl Opened {
    /// Prints `value`, or what `human` makes of it.
    ///
    /// # Errors
    /// When standard output takes nothing.
    pub fn print(&self, value: &Value, human: impl FnOnce() -> String) -> anyhow::Result<()> {
        let text = match self.json {
            true => format!("{value:#}\n"),
            false => format!("{}\n", human().trim_end()),
        };
        Ok(super::say(text)?)
    }

    /// Writes the audit line of something that was changed.
    pub fn audit(&self, name: &'static str, user: Option<UserId>, session: Option<SessionId>) {
        let user = user.map(|id| id.to_string());
        let session = session.map(|id| id.to_string());
        self.sink.event(&Event {
            name,
            result: "ok",
            user_id: user.as_deref(),
            session_id: session.as_deref(),
            by: Some("command_line"),
            ..Event::default()
        });
    }

    /// The user that is called so: by id, username or e-mail address.
    ///
    /// # Errors
    /// When there is none, or the store fails.
    pub async fn user(&self, who: &str) -> anyhow::Result<User> {
        let found = match Uuid::try_parse(who) {
            Ok(id) => self.store.user(UserId(id)).await?,
            Err(_) => match LoginName::read(who) {
                LoginName::Username(key) => self.store.user_by_name(&key).await?,
                LoginName::Email(email) => self.store.user_by_email(&email).await?,
                LoginName::Nobody(_) => None,
            },
        };
        found.with_context(|| format!("no user is called {}", shown(who)))
    }

    /// Tells gateways that are running over this store what ended in it.
    ///
    /// # Errors
    /// When the store fails: they notice it when what they remember expires ([tokens] cache_time).
    pub async fn tell(&self, ended: Ended) -> anyhow::Result<()> {
        if let Some(redis) = &self.redis {
            // If Redis is away, the note in the store does; it is read a little later.
            shared::announce(redis, ended).await;
        }
        let told = self.store.note_end(ended, self.now).await;
        told.context("it is done, but running gateways were not told: they notice within [tokens] cache_time")
    }
}

/// A password that is to be set.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct NewPassword {
    /// Take a password that the rules of [accounts.password] refuse.
    #[arg(long)]
    allow_weak_password: bool,
}

impl NewPassword {
    /// Reads the password and hashes it.
    ///
    /// # Errors
    /// When there is none, it does not meet the rules, or cannot be hashed.
    pub fn read(self, accounts: &Accounts) -> anyhow::Result<Secret<String>> {
        let (password, rules) = (typed()?, &accounts.password);
        match passwords::check(rules, &password) {
            Ok(()) => {}
            Err(Unfit::Weak(_)) if self.allow_weak_password => {}
            Err(Unfit::Weak(weaknesses)) => bail!(
                "the password is too weak ({}): [accounts.password] asks for more, and --allow-weak-password for less",
                weaknesses
                    .iter()
                    .map(|it| it.word())
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
            Err(Unfit::TooLong) => bail!("the password is longer than its hash can take"),
            Err(Unfit::Nul) => bail!("the password holds a NUL"),
        }
        Ok(hashes::make(
            rules,
            &password,
            &mut hashes::Memory::default(),
        )?)
    }
}

/// Asked for twice without an echo at a terminal, else the first line of standard input.
fn typed() -> anyhow::Result<Secret<String>> {
    let stdin = std::io::stdin();
    let password = if stdin.is_terminal() {
        let password = Secret::new(rpassword::prompt_password("Password: ")?);
        let again = Secret::new(rpassword::prompt_password("Again: ")?);
        if password.expose() != again.expose() {
            bail!("the two differ");
        }
        password
    } else {
        let mut line = String::new();
        stdin.lock().read_line(&mut line)?;
        Secret::new(line.trim_end_matches(['\r', '\n']).to_owned())
    };
    if password.expose().is_empty() {
        bail!("there is no password: write it to standard input, or run this at a terminal");
    }
    Ok(password)
}

/// A username, checked.
///
/// # Errors
/// When it is none.
pub fn username(text: &str) -> anyhow::Result<crate::records::Username> {
    names::username(text).with_context(|| format!("{} is no username", shown(text)))
}

/// An e-mail address, checked.
///
/// # Errors
/// When it is none.
pub fn email(text: &str) -> anyhow::Result<crate::records::Email> {
    names::email(text).with_context(|| format!("{} is no e-mail address", shown(text)))
}

/// A time as RFC 3339 in UTC; `null` where there is none.
pub fn time(at: Option<UnixMillis>) -> Value {
    let date = at.and_then(|at| Timestamp::from_millisecond(at).ok());
    date.map_or(Value::Null, |date| date.to_string().into())
}

/// A text from elsewhere as a terminal may show it.
pub fn shown(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{FFFD}' } else { c })
        .collect()
}

/// Rows as columns, each as wide as its widest text.
pub fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |at: usize| {
        let cells = rows.iter().filter_map(|row| row.get(at));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths);
        let cells: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The text of a JSON value as a cell: nothing for `null`.
pub fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => shown(text),
        other => shown(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_text() {
        let rows = [
            vec!["a".into(), "bb".into()],
            vec!["用户".into(), String::new()],
        ];
        assert_eq!(table(&rows), "a   bb\n用户");
        assert_eq!(table(&[]), "");
    }

    #[test]
    fn what_could_steer_a_terminal_is_not_shown() {
        assert_eq!(shown("a\u{1b}[2Jb"), "a\u{FFFD}[2Jb");
    }

    #[test]
    fn times_are_in_utc() {
        assert_eq!(time(Some(1_500)), "1970-01-01T00:00:01.5Z");
        assert_eq!(time(None), Value::Null);
    }
}
