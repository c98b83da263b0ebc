//! What goes by mail: codes to recover, to sign in and to confirm with. Everybody gets the same answer, whether there is
//! somebody of that address or not.

use super::refusals::{self, Failure, Place};
use super::replies::{Done, TokenReply};
use super::requests::{Otp, Recover, Resend, Verify, filled};
use super::{Answered, Asked, Supabase, reply};
use crate::accounts::AccountError;
use crate::accounts::codes::{CreateUser, Proof, Verification};
use crate::accounts::names;
use crate::records::{Api, CodeKind};

impl Supabase {
    pub(super) async fn recover(&self, mut asked: Asked<'_>) -> Answered {
        self.mails()?;
        let wanted: Recover = asked.read().await?;
        let email = filled(wanted.email).ok_or(NO_EMAIL)?;
        let sent = self
            .accounts
            .recover(&email, asked.query.redirect_to.take(), &asked.call.client())
            .await;
        done(sent)
    }

    pub(super) async fn otp(&self, mut asked: Asked<'_>) -> Answered {
        self.mails()?;
        let wanted: Otp = asked.read().await?;
        let email = match (filled(wanted.email), filled(wanted.phone)) {
            (Some(email), None) => email,
            (None, Some(_)) => return Err(refusals::PHONE_DISABLED),
            _ => return Err(NO_EMAIL),
        };
        let create = match wanted.create_user {
            Some(false) => CreateUser::No,
            Some(true) | None => CreateUser::Yes,
        };
        let sent = self
            .accounts
            .otp(
                (&email, asked.query.redirect_to.take()),
                (create, wanted.data.unwrap_or_default()),
                &asked.call.client(),
            )
            .await;
        done(sent)
    }

    pub(super) async fn resend(&self, mut asked: Asked<'_>) -> Answered {
        self.mails()?;
        let wanted: Resend = asked.read().await?;
        let kind = match wanted.r#type.as_deref() {
            Some("signup") => CodeKind::Signup,
            Some("email_change") => CodeKind::EmailChange,
            _ => {
                return Err(Failure::invalid(
                    "Missing one of these types: signup, email_change",
                ));
            }
        };
        let email = filled(wanted.email).ok_or(NO_EMAIL)?;
        let sent = self
            .accounts
            .resend(
                kind,
                (&email, asked.query.redirect_to.take()),
                &asked.call.client(),
            )
            .await;
        done(sent)
    }

    /// A code opens a session. Everything that may be wrong with one is told alike.
    pub(super) async fn verify(&self, mut asked: Asked<'_>) -> Answered {
        let wanted: Verify = asked.read().await?;
        let kinds = wanted.r#type.as_deref().and_then(kinds);
        let kinds = kinds.ok_or(Failure::invalid("Verify requires a verification type"))?;
        let proof = match (
            filled(wanted.token_hash),
            filled(wanted.token),
            filled(wanted.email),
        ) {
            (Some(link), None, None) => Proof::Link(link),
            (None, Some(code), Some(email)) => Proof::Code { email, code },
            _ => {
                return Err(Failure::invalid(
                    "Only the token_hash, or the token and the email, must be given",
                ));
            }
        };
        if let Proof::Code { email, .. } = &proof
            && names::email(email).is_err()
        {
            return Err(NOT_AN_ADDRESS);
        }
        let verification = Verification { proof, kinds };
        let signed_in = self
            .accounts
            .verify(Api::Supabase, verification, &asked.call.client())
            .await;
        let signed_in = signed_in.map_err(|error| Failure::of(&error, Place::Verify))?;
        Ok(reply(&TokenReply::of(&signed_in)))
    }

    /// Whether there is anything that mails.
    pub(super) fn mails(&self) -> Result<(), Failure> {
        self.accounts
            .mails()
            .then_some(())
            .ok_or(refusals::OTP_DISABLED)
    }
}

/// What a code of this type may have been made for: an application does not know whether a sign-in made a user.
pub(super) fn kinds(word: &str) -> Option<Vec<CodeKind>> {
    Some(match word {
        "email" | "magiclink" => vec![CodeKind::Magiclink, CodeKind::Signup],
        "signup" => vec![CodeKind::Signup, CodeKind::Magiclink],
        "recovery" => vec![CodeKind::Recovery],
        "email_change" => vec![CodeKind::EmailChange],
        "invite" => vec![CodeKind::Invite],
        _ => return None,
    })
}

fn done(sent: Result<(), AccountError>) -> Answered {
    sent.map_err(|error| Failure::of(&error, Place::SignUp))?;
    Ok(reply(&Done {}))
}

const NOT_AN_ADDRESS: Failure = Failure::new(
    422,
    "validation_failed",
    "Unable to validate email address: invalid format",
);
pub(super) const NO_EMAIL: Failure = Failure::invalid("An email address is required");
