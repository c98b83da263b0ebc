//! What would be mailed, and where it goes: a log, a file, or a webhook. All of it happens on a thread of its own:
//! a caller waits for nothing, and what it takes to find out that there is nobody to mail cannot be told from
//! outside.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Weak;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::mpsc;

use super::{AccountError, Accounts};
use crate::config::MailHook;
use crate::records::{CodeKind, Email, UserId};

/// The way to the thread that mails. Dropping it ends the thread.
pub(super) struct Courier(mpsc::Sender<Errand>);

/// Somebody may be owed a mail.
#[derive(Clone, Debug)]
pub(super) struct Errand {
    pub(super) kind: CodeKind,
    pub(super) to: Addressee,
    pub(super) redirect_to: Option<String>,
}

/// Whom an errand is about.
#[derive(Clone, Debug)]
pub(super) enum Addressee {
    /// A user, who has been told that a mail is on its way.
    User(UserId),
    /// Whoever has this address, if anybody: not more often than may be.
    Address(Email),
}

/// A mail, as the hook is given it.
#[derive(Debug, Serialize)]
pub(super) struct Mail<'a> {
    pub(super) kind: &'static str,
    pub(super) to: &'a str,
    pub(super) user_id: String,
    /// To be typed.
    pub(super) code: &'a str,
    /// To be put into a link.
    pub(super) token_hash: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) redirect_to: Option<&'a str>,
}

/// Why a mail did not go out. Words of our own: a library's message may quote what it saw.
#[derive(Debug, thiserror::Error)]
pub(super) enum MailError {
    #[error("the file cannot be written: {0}")]
    File(#[from] io::Error),
    #[error("the webhook cannot be reached")]
    Unreachable,
    #[error("the webhook answered {0}")]
    Status(u16),
}

impl Courier {
    /// A courier, and the errands that it is given.
    pub(super) fn new() -> (Self, mpsc::Receiver<Errand>) {
        let (sender, errands) = mpsc::channel(WAITING_MOST);
        (Self(sender), errands)
    }

    /// Starts the thread.
    pub(super) fn start(
        accounts: Weak<Accounts>,
        mut errands: mpsc::Receiver<Errand>,
    ) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let work = async move {
            while let Some(errand) = errands.recv().await {
                // The last errands of a core that is gone are nobody's.
                let Some(accounts) = accounts.upgrade() else {
                    return;
                };
                if let Err(error) = accounts.run(errand).await {
                    tracing::warn!(%error, "a mail was not sent");
                }
            }
        };
        std::thread::Builder::new()
            .name("portcullis-mail".to_owned())
            .spawn(move || runtime.block_on(work))?;
        Ok(())
    }

    /// Gives an errand.
    ///
    /// # Errors
    /// `Busy` where too many wait.
    pub(super) fn give(&self, errand: Errand) -> Result<(), AccountError> {
        self.0.try_send(errand).map_err(|_| AccountError::Busy {
            retry_after: Duration::from_secs(5),
        })
    }
}

/// Brings a mail to the hook.
pub(super) async fn deliver(hook: &MailHook, mail: &Mail<'_>) -> Result<(), MailError> {
    match hook {
        MailHook::Off => Ok(()),
        MailHook::Log => {
            tracing::info!(
                kind = mail.kind,
                to = mail.to,
                code = mail.code,
                token_hash = mail.token_hash,
                "a mail: give [accounts.mail] a hook that sends it"
            );
            Ok(())
        }
        MailHook::File(path) => {
            let mut line = serde_json::to_string(mail).map_err(io::Error::from)?;
            line.push('\n');
            let mut file = OpenOptions::new()
                .create(true)
                .append(true)
                .mode(0o600)
                .open(path)?;
            // In one write, so that lines of several processes do not mix.
            Ok(file.write_all(line.as_bytes())?)
        }
        MailHook::Webhook(url, secret) => {
            let body = serde_json::to_vec(mail).map_err(io::Error::from)?;
            let client = crate::identity::jwks_fetch::client();
            let client = client.map_err(|_| MailError::Unreachable)?;
            let mut request = client
                .post(&**url)
                .header(http::header::CONTENT_TYPE, "application/json")
                .timeout(WEBHOOK_TIMEOUT)
                .body(body);
            if let Some(secret) = secret {
                request = request.bearer_auth(secret.expose());
            }
            let answer = request.send().await.map_err(|_| MailError::Unreachable)?;
            match answer.status() {
                status if status.is_success() => Ok(()),
                status => Err(MailError::Status(status.as_u16())),
            }
        }
    }
}

const WAITING_MOST: usize = 1000;
const WEBHOOK_TIMEOUT: Duration = Duration::from_secs(10);
