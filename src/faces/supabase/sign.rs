//! How sessions begin and go on: sign-up, passwords, refresh tokens, mailed codes. The bearer makes no difference here: the
//! clients send whatever they have, an expired token too.

use super::refusals::{self, Failure, Place};
use super::replies::{TokenReply, UserReply};
use super::requests::{Grant, SignUp, filled};
use super::{Answered, Asked, Supabase, reply};
use crate::accounts::SignedIn;
use crate::accounts::log_in::Login;
use crate::accounts::users::{Registration, SignedUp};
use crate::records::Api;

impl Supabase {
    /// Whoever gives neither an e-mail nor a phone is anonymous, whatever else is given.
    pub(super) async fn sign_up(&self, mut asked: Asked<'_>) -> Answered {
        let wanted: SignUp = asked.read().await?;
        let client = asked.call.client();
        let data = wanted.data.unwrap_or_default();
        let email = match (filled(wanted.email), filled(wanted.phone)) {
            (None, None) => {
                let signed_in = self
                    .accounts
                    .sign_in_anonymously(Api::Supabase, data, &client)
                    .await;
                return session(signed_in.map_err(|error| Failure::of(&error, Place::SignUp))?);
            }
            (None, Some(_)) => return Err(refusals::PHONE_DISABLED),
            (Some(_), Some(_)) => return Err(ONE_OF_BOTH),
            (Some(email), None) => email,
        };
        let Some(password) = wanted.password.filter(|it| !it.expose().is_empty()) else {
            return Err(Failure::invalid("Signup requires a valid password"));
        };
        let new = Registration {
            username: None,
            email: Some(email),
            password,
            user_metadata: data,
            redirect_to: filled(asked.query.redirect_to.take()),
        };
        let signed_up = self.accounts.sign_up(Api::Supabase, new, &client).await;
        match signed_up.map_err(|error| Failure::of(&error, Place::SignUp))? {
            SignedUp::In(signed_in) => session(*signed_in),
            SignedUp::Unconfirmed(user) => Ok(reply(&UserReply::of(&user))),
        }
    }

    pub(super) async fn token(&self, mut asked: Asked<'_>) -> Answered {
        match asked.query.grant_type.as_deref() {
            Some("password") => {
                let grant = asked.read().await?;
                self.by_password(&asked, grant).await
            }
            Some("refresh_token") => {
                let grant = asked.read().await?;
                self.by_refresh_token(&asked, grant).await
            }
            _ => Err(refusals::UNSUPPORTED_GRANT),
        }
    }

    async fn by_password(&self, asked: &Asked<'_>, grant: Grant) -> Answered {
        let name = match (filled(grant.email), filled(grant.phone)) {
            (Some(email), None) => email,
            (None, Some(_)) => return Err(refusals::PHONE_DISABLED),
            (Some(_), Some(_)) => return Err(ONE_OF_BOTH),
            (None, None) => return Err(Failure::invalid("missing email or phone")),
        };
        let login = Login {
            name,
            password: grant.password.unwrap_or_default(),
        };
        let signed_in = self
            .accounts
            .log_in(Api::Supabase, login, &asked.call.client())
            .await;
        session(signed_in.map_err(|error| Failure::of(&error, Place::SignIn))?)
    }

    async fn by_refresh_token(&self, asked: &Asked<'_>, grant: Grant) -> Answered {
        let token = grant.refresh_token.unwrap_or_default();
        let refreshed = self
            .accounts
            .refresh(Api::Supabase, token.expose(), &asked.call.client())
            .await;
        session(refreshed.map_err(|error| Failure::of(&error, Place::Refresh))?)
    }
}

const ONE_OF_BOTH: Failure =
    Failure::invalid("Only an email address or phone number should be provided");

fn session(signed_in: SignedIn) -> Answered {
    Ok(reply(&TokenReply::of(&signed_in)))
}
