//! `portcullis user import`: an existing table of users, with the hashes of their passwords. Every bad row is told with
//! its line; all rows are imported or none, unless `--skip-bad` says otherwise.

#![expect(clippy::print_stderr, reason = "the command line talks to a person")]

mod read;
mod row;

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use serde_json::json;

use self::read::Row;
use self::row::Wanted;
use super::opened::Opened;
use super::user::taken;
use crate::records::User;

/// What to import, and how.
#[derive(clap::Args)]
pub struct Import {
    /// CSV with a head line, a JSON list, or JSON lines. Columns: id, username, email, password_hash, roles, is_admin,
    /// is_active, created_at.
    file: PathBuf,
    /// A column that is left out; may be given several times.
    #[arg(long = "ignore", value_name = "COLUMN")]
    ignored: Vec<String>,
    /// Users without a hash are welcome: nobody can log in as them until a password is set.
    #[arg(long)]
    without_passwords: bool,
    /// Import the good rows even where there are bad ones.
    #[arg(long)]
    skip_bad: bool,
    /// Look at every row and import none.
    #[arg(long)]
    dry_run: bool,
}

/// A row that cannot be imported.
#[derive(Debug, PartialEq, Eq)]
struct Bad {
    line: u64,
    what: String,
}

/// Imports.
///
/// # Errors
/// When the file cannot be read or the store fails. Bad rows are told, and make the exit code 1 unless they are skipped.
pub(super) async fn run(args: &Import, opened: &Opened) -> anyhow::Result<ExitCode> {
    let name = args.file.display();
    let text = fs::read_to_string(&args.file).with_context(|| format!("{name} cannot be read"))?;
    let rows = read::rows(&text).with_context(|| format!("{name} is no table of users"))?;
    let wanted = Wanted {
        ignored: &args.ignored,
        without_passwords: args.without_passwords,
        now: opened.now,
    };
    let (mut users, mut bad) = sort(rows, &wanted);
    exclude_known(opened, &mut users, &mut bad).await?;
    bad.sort_by_key(|bad| bad.line);
    for Bad { line, what } in &bad {
        eprintln!("line {line}: {what}");
    }
    let refused = !bad.is_empty() && !args.skip_bad;
    let users: Vec<User> = users.into_iter().map(|(_, user)| user).collect();
    let (good, kept) = (users.len(), refused || args.dry_run);
    if !kept && good > 0 {
        opened
            .store
            .add_users(users)
            .await
            .map_err(taken)
            .context("nothing was imported")?;
        opened.audit("users_import", None, None);
    }
    let imported = if kept { 0 } else { good };
    let value = json!({
        "imported": imported,
        "good": good,
        "bad": bad.iter().map(|bad| json!({ "line": bad.line, "what": bad.what })).collect::<Vec<_>>(),
    });
    opened.print(&value, || match (refused, args.dry_run) {
        (true, _) => format!(
            "{} bad rows: nothing was imported (--skip-bad imports the {good} others)",
            bad.len()
        ),
        (false, true) => format!("{good} users could be imported"),
        (false, false) => format!("imported {imported} users"),
    })?;
    Ok(if refused {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// The rows that are users, and those that are not or that another row has made impossible.
fn sort(rows: Vec<Row>, wanted: &Wanted<'_>) -> (Vec<(u64, User)>, Vec<Bad>) {
    let mut seen: HashMap<String, u64> = HashMap::new();
    let (mut users, mut bad) = (Vec::new(), Vec::new());
    for row in rows {
        let line = row.line;
        match wanted.user(row) {
            Err(what) => bad.push(Bad { line, what }),
            Ok(user) => match keys(&user).find_map(|key| seen.get(&key)) {
                Some(first) => bad.push(Bad {
                    line,
                    what: format!("has the name, e-mail address or id of line {first}"),
                }),
                None => {
                    seen.extend(keys(&user).map(|key| (key, line)));
                    users.push((line, user));
                }
            },
        }
    }
    (users, bad)
}

/// What of a user must be unique, told apart.
fn keys(user: &User) -> impl Iterator<Item = String> + use<> {
    let username = user
        .username
        .as_ref()
        .map(|name| format!("username {}", name.key));
    let email = user
        .email
        .as_ref()
        .map(|email| format!("email {}", email.0));
    [Some(format!("id {}", user.id)), username, email]
        .into_iter()
        .flatten()
}

/// Moves users whose names are taken already to the bad ones.
async fn exclude_known(
    opened: &Opened,
    users: &mut Vec<(u64, User)>,
    bad: &mut Vec<Bad>,
) -> anyhow::Result<()> {
    let mut fresh = Vec::with_capacity(users.len());
    for (line, user) in std::mem::take(users) {
        let what = match known(opened, &user).await? {
            Some(what) => what,
            None => {
                fresh.push((line, user));
                continue;
            }
        };
        bad.push(Bad {
            line,
            what: what.to_owned(),
        });
    }
    *users = fresh;
    Ok(())
}

async fn known(opened: &Opened, user: &User) -> anyhow::Result<Option<&'static str>> {
    if let Some(name) = &user.username
        && opened.store.user_by_name(&name.key).await?.is_some()
    {
        return Ok(Some("there is a user with this username already"));
    }
    if let Some(email) = &user.email
        && opened.store.user_by_email(email).await?.is_some()
    {
        return Ok(Some("there is a user with this e-mail address already"));
    }
    if opened.store.user(user.id).await?.is_some() {
        return Ok(Some("there is a user with this id already"));
    }
    Ok(None)
}
