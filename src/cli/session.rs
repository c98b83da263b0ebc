//! `portcullis session`: sessions of a user, listed and ended.

use std::process::ExitCode;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use uuid::Uuid;

use super::opened::{self, Opened, Place};
use crate::records::{Api, SessionId};
use crate::state::Ended;
use crate::store::{SessionSummary, Sessions, Tokens};

/// Look after sessions.
#[derive(clap::Args)]
pub struct Session {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    call: Call,
}

#[derive(clap::Subcommand)]
enum Call {
    /// List the sessions of a user, the last used first.
    List {
        /// The user's id, username or e-mail address.
        who: String,
    },
    /// End a session, or all of a user, with their tokens and streams.
    End {
        /// The session's id.
        #[arg(required_unless_present = "user", conflicts_with = "user")]
        id: Option<Uuid>,
        /// All sessions of this user.
        #[arg(long, value_name = "WHO")]
        user: Option<String>,
    },
}

/// Runs `portcullis session …`.
///
/// # Errors
/// When the accounts cannot be opened, or there is no such user or session.
pub fn run(args: Session) -> anyhow::Result<ExitCode> {
    let call = args.call;
    args.place.run(async |opened| {
        match call {
            Call::List { who } => list(opened, &who).await?,
            Call::End {
                user: Some(who), ..
            } => end_all(opened, &who).await?,
            Call::End { id: Some(id), .. } => end(opened, SessionId(id)).await?,
            Call::End { .. } => bail!("which session?"),
        }
        Ok(ExitCode::SUCCESS)
    })
}

async fn list(opened: &Opened, who: &str) -> anyhow::Result<()> {
    let user = opened.user(who).await?;
    let sessions = opened.store.sessions_of(user.id).await?;
    let value = json!({ "sessions": sessions.iter().map(told).collect::<Vec<_>>() });
    opened.print(&value, || opened::table(&rows(&sessions)))
}

async fn end(opened: &Opened, id: SessionId) -> anyhow::Result<()> {
    opened
        .store
        .session(id)
        .await?
        .context("there is no such session")?;
    let ended = opened
        .store
        .end_sessions(Sessions::One(id), opened.now)
        .await?;
    opened.store.revoke_tokens(Tokens::OfSession(id)).await?;
    opened.audit("session_end", None, Some(id));
    opened.tell(Ended::Session(id)).await?;
    report(opened, &ended)
}

async fn end_all(opened: &Opened, who: &str) -> anyhow::Result<()> {
    let user = opened.user(who).await?;
    let ended = opened
        .store
        .end_sessions(Sessions::All(user.id), opened.now)
        .await?;
    opened.store.revoke_tokens(Tokens::All(user.id)).await?;
    opened.audit("sessions_end", Some(user.id), None);
    opened.tell(Ended::User(user.id)).await?;
    report(opened, &ended)
}

fn report(opened: &Opened, ended: &[SessionId]) -> anyhow::Result<()> {
    let ids: Vec<String> = ended.iter().map(ToString::to_string).collect();
    opened.print(&json!({ "ended": ids }), || match ids.len() {
        0 => "it had ended before".to_owned(),
        1 => "ended 1 session".to_owned(),
        many => format!("ended {many} sessions"),
    })
}

/// A session as JSON.
pub(super) fn told(summary: &SessionSummary) -> Value {
    let session = &summary.session;
    json!({
        "id": session.id.to_string(),
        "number": session.number,
        "api": session.api.word(),
        "name": session.name,
        "method": session.authentication.method,
        "user_agent": session.client.user_agent,
        "address": session.client.address.map(|address| address.to_string()),
        "jobs": summary.job_count,
        "created_at": opened::time(Some(session.created_at)),
        "last_used_at": opened::time(Some(session.last_used_at)),
        "ended_at": opened::time(session.ended_at),
    })
}

/// Sessions as a table with its head.
pub(super) fn rows(sessions: &[SessionSummary]) -> Vec<Vec<String>> {
    let head = ["session", "api", "name", "address", "last used", "state"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows.extend(sessions.iter().map(|summary| {
        let value = told(summary);
        let mut row: Vec<String> = ["id", "api", "name", "address", "last_used_at"]
            .map(|name| opened::cell(&value[name]))
            .to_vec();
        let conversation = summary.session.api == Api::Session;
        row.push(match (summary.session.ended_at, conversation) {
            (Some(_), _) => "ended".to_owned(),
            (None, true) => "conversation".to_owned(),
            (None, false) => "active".to_owned(),
        });
        row
    }));
    rows
}
