//! One-time codes: asked for without being told whether there is anybody to get one, sent by the mail thread, and
//! good once. The store knows hashes under the accounts' secret: six digits would be found from a plain hash.

use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::attempts::Class;
use super::log_in::may_use;
use super::mail::{self, Addressee, Errand, Mail};
use super::names::LoginName;
use super::profile;
use super::{AccountError, Accounts, SignedIn, Who};
use crate::config::MailHook;
use crate::identity::vault::{Purpose, VaultError};
use crate::records::{
    Api, Client, Code, CodeKind, Email, Object, TokenHash, UnixMillis, User, UserId,
};
use crate::secret::Secret;
use crate::store::{Change, NewUser};

/// A code that came back, and what it may be for.
#[derive(Clone, Debug)]
pub struct Verification {
    /// What it is.
    pub proof: Proof,
    /// For what it may have been made; the first that fits counts.
    pub kinds: Vec<CodeKind>,
}

/// A code as it came back.
#[derive(Clone, Debug)]
pub enum Proof {
    /// The six digits that this address was sent.
    Code {
        /// As typed.
        email: String,
        /// As typed.
        code: String,
    },
    /// What stood in a link.
    Link(String),
}

/// Whether somebody unknown who asks for a code becomes a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum CreateUser {
    Yes,
    No,
}

impl Accounts {
    /// Sends a code that lets the owner of an address in to choose a new password. Answers alike whoever it is.
    ///
    /// # Errors
    /// `InvalidEmail`, `TooMany`, `Busy`.
    pub async fn recover(
        &self,
        email: &str,
        redirect_to: Option<String>,
        client: &Client,
    ) -> Result<(), AccountError> {
        self.ask(CodeKind::Recovery, (email, redirect_to), client)
    }

    /// Sends a code to log in with. Answers alike whoever it is.
    ///
    /// # Errors
    /// `InvalidEmail`, `SignUpsOff`, `MetadataTooLarge`, `TooMany`, `Busy`, `Unavailable`, `Failed`.
    pub async fn otp(
        &self,
        (email, redirect_to): (&str, Option<String>),
        (create, mut said): (CreateUser, Object),
        client: &Client,
    ) -> Result<(), AccountError> {
        let address = profile::email(email)?;
        if create == CreateUser::Yes && self.settings().config.sign_up {
            self.attempts.take(Class::SignUp, client.address)?;
            profile::cleanse(&mut said);
            let now = self.now();
            let user = NewUser {
                email: Some(address),
                ..profile::permanent(said, now)?
            };
            match self.store.add_user(user).await {
                Ok(_) | Err(crate::store::StoreError::Taken(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.ask(CodeKind::Magiclink, (email, redirect_to), client)
    }

    /// Sends the code of a sign-up or of a change of address again. Answers alike whoever it is.
    ///
    /// # Errors
    /// `InvalidEmail`, `TooMany`, `Busy`.
    pub async fn resend(
        &self,
        kind: CodeKind,
        (email, redirect_to): (&str, Option<String>),
        client: &Client,
    ) -> Result<(), AccountError> {
        self.ask(kind, (email, redirect_to), client)
    }

    /// Sends a user a code with which it shows that it still reads its mail.
    ///
    /// # Errors
    /// `InvalidEmail` (it has none), `EmailNotConfirmed`, `UserGone`, `TooMany`, `MailedJustNow`, `Busy`, `Unavailable`,
    /// `Failed`.
    pub async fn reauthenticate(&self, who: Who, client: &Client) -> Result<(), AccountError> {
        self.attempts.take(Class::Mail, client.address)?;
        let user = self.user(who.user).await?;
        let email = user.email.ok_or(AccountError::InvalidEmail)?;
        if user.email_confirmed_at.is_none() {
            return Err(AccountError::EmailNotConfirmed);
        }
        self.may_mail_again(user.reauthentication_sent_at)?;
        self.courier.give(Errand {
            kind: CodeKind::Reauthentication,
            to: Addressee::Address(email),
            redirect_to: None,
        })
    }

    /// Whether whoever holds a session is its user still: it has just logged in, or reads its mail.
    ///
    /// # Errors
    /// `ReauthenticationNeeded`, `CodeInvalid`, `SessionGone`, `TooMany`, `Unavailable`, `Failed`.
    pub(super) async fn is_present(
        &self,
        who: Who,
        user: &User,
        (nonce, client): (Option<&str>, &Client),
    ) -> Result<(), AccountError> {
        let settings = self.settings();
        let (Some(recent), Some(_)) = (settings.config.password.require_recent, &user.password)
        else {
            return Ok(());
        };
        let (session, _) = self.session(who).await?;
        let age = self.now().saturating_sub(session.authentication.at);
        if u128::try_from(age).unwrap_or_default() < recent.as_millis() {
            return Ok(());
        }
        let nonce = nonce.ok_or(AccountError::ReauthenticationNeeded)?;
        let kind = CodeKind::Reauthentication;
        let name = format!("nonce:{}", user.id);
        let attempt = self.attempts.begin(&name, client.address).await?;
        let hash = self.code_hash(user.id, kind, nonce.trim());
        let hash = hash.map_err(|error| AccountError::failed(&error))?;
        let taken = self.store.take_code(Some(user.id), kind, hash).await?;
        match taken.map(|code| self.fresh(code)) {
            Some(Ok(_)) => {
                attempt.succeeded();
                Ok(())
            }
            _ => {
                attempt.failed();
                Err(AccountError::CodeInvalid)
            }
        }
    }

    /// Takes a code, confirms the address that it was sent to, and logs its owner in.
    ///
    /// # Errors
    /// `CodeInvalid` (wrong, used, too old, nobody's), `UserExists` (the new address has become another's),
    /// `UserBanned`, `UserDisabled`, `TooMany`, `Unavailable`, `Failed`.
    pub async fn verify(
        &self,
        api: Api,
        verification: Verification,
        client: &Client,
    ) -> Result<SignedIn, AccountError> {
        self.attempts.take(Class::Code, client.address)?;
        let code = match &verification.proof {
            Proof::Code { email, code } => {
                // In the one form in which it is compared: no other spelling gives more guesses.
                let name = format!("code:{}", LoginName::read(email).key());
                let attempt = self.attempts.begin(&name, client.address).await?;
                match self.take_digits((email, code), &verification.kinds).await {
                    Ok(code) => {
                        attempt.succeeded();
                        code
                    }
                    Err(AccountError::CodeInvalid) => {
                        attempt.failed();
                        return Err(AccountError::CodeInvalid);
                    }
                    Err(error) => return Err(error),
                }
            }
            Proof::Link(token) => self.take_link(token, &verification.kinds).await?,
        };
        let user = self.confirm(&code).await?;
        let (user, session) = self.new_session(user, api, "otp", client).await?;
        self.tokens(user, session, Vec::new())
    }

    fn ask(
        &self,
        kind: CodeKind,
        (email, redirect_to): (&str, Option<String>),
        client: &Client,
    ) -> Result<(), AccountError> {
        self.attempts.take(Class::Mail, client.address)?;
        self.courier.give(Errand {
            kind,
            to: Addressee::Address(profile::email(email)?),
            redirect_to,
        })
    }

    /// Whether a user who is told so may be mailed again, the last time having been then: mails go to whomever the user
    /// names, who must not be flooded through us.
    pub(super) fn may_mail_again(&self, last: Option<UnixMillis>) -> Result<(), AccountError> {
        let Some(last) = last else {
            return Ok(());
        };
        let age = u64::try_from(self.now().saturating_sub(last)).unwrap_or_default();
        let again = self.settings().config.mail.resend_after;
        match again.checked_sub(Duration::from_millis(age)) {
            Some(retry_after) if !retry_after.is_zero() => {
                Err(AccountError::MailedJustNow { retry_after })
            }
            _ => Ok(()),
        }
    }

    /// Does an errand of which nobody waits to hear. If too many wait, the mail can be asked for again.
    pub(super) fn send(&self, errand: Errand) {
        if self.courier.give(errand).is_err() {
            tracing::warn!("a mail was not sent: too many wait");
        }
    }

    /// Does an errand, on the mail thread.
    pub(super) async fn run(&self, errand: Errand) -> Result<(), AccountError> {
        let settings = self.settings();
        let hook = &settings.config.mail.hook;
        if *hook == MailHook::Off {
            return Ok(());
        }
        let told = matches!(errand.to, Addressee::User(_));
        let user = match &errand.to {
            Addressee::User(id) => self.store.user(*id).await?,
            Addressee::Address(email) => self.store.user_by_email(email).await?,
        };
        let Some(user) = user else {
            return Ok(());
        };
        let again = settings.config.mail.resend_after;
        let again = UnixMillis::try_from(again.as_millis()).unwrap_or(UnixMillis::MAX);
        let due = Due {
            kind: errand.kind,
            now: self.now(),
            again: if told { 0 } else { again },
        };
        let Some(to) = due.address(&user) else {
            return Ok(());
        };
        let noted = Box::new(move |user: &User| match due.address(user) {
            Some(_) => Change::Write(noted(user.clone(), (due.kind, due.now))),
            None => Change::Keep,
        });
        self.store.change_user(user.id, noted).await?;
        let leads = |to: &&str| settings.config.mail.leads_to(to);
        let made = self.make_code(user.id, errand.kind, &to).await?;
        let mail = Mail {
            kind: errand.kind.word(),
            to: &to.0,
            user_id: user.id.to_string(),
            code: made.digits.expose(),
            token_hash: made.link.expose(),
            redirect_to: errand.redirect_to.as_deref().filter(leads),
        };
        mail::deliver(hook, &mail)
            .await
            .map_err(|error| AccountError::failed(&error))
    }

    /// Makes a code for whoever reads what is sent to an address. The last of its kind is good no more.
    pub(super) async fn make_code(
        &self,
        user: UserId,
        kind: CodeKind,
        to: &Email,
    ) -> Result<Made, AccountError> {
        let failed = |error: VaultError| AccountError::failed(&error);
        let (digits, link) = (digits()?, link()?);
        let code = Code {
            user,
            kind,
            hash: self.code_hash(user, kind, &digits).map_err(failed)?,
            link_hash: self.link_hash(kind, &link).map_err(failed)?,
            sent_to: to.clone(),
            made_at: self.now(),
        };
        self.store.put_code(code).await?;
        Ok(Made {
            digits: Secret::new(digits),
            link: Secret::new(link),
        })
    }

    async fn take_digits(
        &self,
        (email, code): (&str, &str),
        kinds: &[CodeKind],
    ) -> Result<Code, AccountError> {
        let email = profile::email(email).map_err(|_| AccountError::CodeInvalid)?;
        let mut users: Vec<User> = self
            .store
            .user_by_email(&email)
            .await?
            .into_iter()
            .collect();
        if kinds.contains(&CodeKind::EmailChange) {
            // It was sent to the address that is to become the user's.
            users.extend(self.store.users_by_email_change(&email).await?);
        }
        for user in users.iter().map(|user| user.id) {
            for kind in kinds {
                let hash = self.code_hash(user, *kind, code.trim());
                let hash = hash.map_err(|error| AccountError::failed(&error))?;
                if let Some(code) = self.store.take_code(Some(user), *kind, hash).await? {
                    return self.fresh(code);
                }
            }
        }
        Err(AccountError::CodeInvalid)
    }

    async fn take_link(&self, token: &str, kinds: &[CodeKind]) -> Result<Code, AccountError> {
        for kind in kinds {
            let hash = self.link_hash(*kind, token.trim());
            let hash = hash.map_err(|error| AccountError::failed(&error))?;
            if let Some(code) = self.store.take_code(None, *kind, hash).await? {
                return self.fresh(code);
            }
        }
        Err(AccountError::CodeInvalid)
    }

    fn fresh(&self, code: Code) -> Result<Code, AccountError> {
        let ttl = self.settings().config.mail.code_ttl.as_millis();
        let age = self.now().saturating_sub(code.made_at);
        match u128::try_from(age) {
            Ok(age) if age >= ttl => Err(AccountError::CodeInvalid),
            _ => Ok(code),
        }
    }

    /// What follows from a code: the address that it was sent to is the user's.
    async fn confirm(&self, code: &Code) -> Result<User, AccountError> {
        let (now, kind, to) = (self.now(), code.kind, code.sent_to.clone());
        let change = Box::new(move |user: &User| match confirmed(user, (kind, &to), now) {
            Some(user) => Change::Write(user),
            None => Change::Keep,
        });
        let user = self.store.change_user(code.user, change).await?;
        let user = user.ok_or(AccountError::CodeInvalid)?;
        if user.email.as_ref() != Some(&code.sent_to) {
            return Err(AccountError::CodeInvalid);
        }
        may_use(&user, now)?;
        self.revocations.recheck(user.id);
        Ok(user)
    }

    fn code_hash(
        &self,
        user: UserId,
        kind: CodeKind,
        digits: &str,
    ) -> Result<TokenHash, VaultError> {
        let thing = [user.0.as_bytes(), kind.word().as_bytes()].concat();
        self.keyed_hash(&thing, digits)
    }

    /// Of whoever's link it is: the token is long enough to be no other's.
    fn link_hash(&self, kind: CodeKind, token: &str) -> Result<TokenHash, VaultError> {
        self.keyed_hash(kind.word().as_bytes(), token)
    }

    fn keyed_hash(&self, thing: &[u8], text: &str) -> Result<TokenHash, VaultError> {
        let key = self.vault.key(Purpose::OneTimeCodes, thing)?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose());
        let tag = hmac::sign(&key, text.as_bytes());
        let mut hash = [0; 32];
        hash.copy_from_slice(tag.as_ref());
        Ok(TokenHash(hash))
    }
}

/// A code that was made, in both its forms.
pub(super) struct Made {
    /// To be typed.
    pub(super) digits: Secret<String>,
    /// To be put into a link.
    pub(super) link: Secret<String>,
}

/// Whether a user is owed a code of a kind now.
#[derive(Clone, Copy)]
struct Due {
    kind: CodeKind,
    now: UnixMillis,
    again: UnixMillis,
}

impl Due {
    /// Where it would go; `None`: nothing is due.
    fn address(&self, user: &User) -> Option<Email> {
        if may_use(user, self.now).is_err() {
            return None;
        }
        let (address, last) = match self.kind {
            CodeKind::Signup | CodeKind::Invite if user.email_confirmed_at.is_some() => {
                return None;
            }
            CodeKind::Signup | CodeKind::Invite => (user.email.clone(), user.confirmation_sent_at),
            CodeKind::Recovery | CodeKind::Magiclink => (user.email.clone(), user.recovery_sent_at),
            CodeKind::Reauthentication => (user.email.clone(), user.reauthentication_sent_at),
            CodeKind::EmailChange => {
                let (email, at) = user.email_change.clone()?;
                (Some(email), Some(at))
            }
        };
        let soon = last.is_some_and(|last| self.now.saturating_sub(last) < self.again);
        address.filter(|_| !soon)
    }
}

/// The user with a note of when a code of this kind was made for it.
pub(super) fn noted(mut user: User, (kind, now): (CodeKind, UnixMillis)) -> User {
    match kind {
        CodeKind::Signup => user.confirmation_sent_at = Some(now),
        CodeKind::Invite => {
            user.confirmation_sent_at = Some(now);
            user.invited_at = Some(now);
        }
        CodeKind::Recovery | CodeKind::Magiclink => user.recovery_sent_at = Some(now),
        CodeKind::Reauthentication => user.reauthentication_sent_at = Some(now),
        CodeKind::EmailChange => {
            user.email_change = user.email_change.map(|(email, _)| (email, now));
        }
    }
    user
}

/// The user with the address confirmed; `None`: the code does not fit any more, or changes nothing.
fn confirmed(user: &User, (kind, to): (CodeKind, &Email), now: UnixMillis) -> Option<User> {
    let pending = user.email_change.as_ref().map(|(email, _)| email);
    let fits = match kind {
        CodeKind::EmailChange => pending == Some(to),
        _ => user.email.as_ref() == Some(to) && user.email_confirmed_at.is_none(),
    };
    fits.then(|| {
        let mut user = user.clone();
        let change = user.email_change.take();
        profile::confirm(&mut user, to.clone(), now);
        match kind {
            CodeKind::EmailChange => {}
            // Asked for by whoever has the mailbox, who need not be the one that signed up: a password that a
            // stranger chose for this address must not open it once its owner has confirmed it.
            CodeKind::Recovery | CodeKind::Magiclink | CodeKind::Invite => user.password = None,
            CodeKind::Signup | CodeKind::Reauthentication => user.email_change = change,
        }
        user.updated_at = now;
        user
    })
}

/// Six digits.
fn digits() -> Result<String, AccountError> {
    let random = getrandom::u64().map_err(|error| AccountError::failed(&error))?;
    Ok(format!("{:06}", random % 1_000_000))
}

fn link() -> Result<String, AccountError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| AccountError::failed(&error))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}
