//! What users do with what is theirs: look at themselves, change themselves, log out.

use http::{Response, StatusCode};

use super::refusals::{self, Failure, Place};
use super::replies::{Done, UserReply};
use super::requests::{self, filled};
use super::{Answered, Asked, Supabase, reply};
use crate::accounts::AccountError;
use crate::accounts::sessions::Scope;
use crate::accounts::users::UserUpdate;
use crate::body::Body;
use crate::records::Api;

impl Supabase {
    pub(super) async fn user(&self, asked: Asked<'_>) -> Answered {
        let (_, user) = self.caller(&asked).await?;
        Ok(reply(&UserReply::of(&user)))
    }

    pub(super) async fn update_user(&self, mut asked: Asked<'_>) -> Answered {
        let (who, _) = self.caller(&asked).await?;
        let update: requests::UserUpdate = asked.read().await?;
        if update.app_metadata.is_some() {
            return Err(refusals::NOT_ADMIN);
        }
        if filled(update.phone).is_some() {
            return Err(refusals::PHONE_DISABLED);
        }
        let update = UserUpdate {
            username: None,
            email: filled(update.email),
            password: update.password,
            current_password: update.current_password,
            nonce: filled(update.nonce),
            user_metadata: update.data,
            redirect_to: asked.query.redirect_to.take(),
        };
        let user = self
            .accounts
            .change_user(Api::Supabase, who, (update, &asked.call.client()))
            .await;
        let user = user.map_err(|error| Failure::of(&error, Place::User))?;
        Ok(reply(&UserReply::of(&user)))
    }

    /// 204 without a body: the only call of which the clients expect that. Whose session has ended is told so,
    /// which they take for done.
    pub(super) async fn log_out(&self, asked: Asked<'_>) -> Answered {
        let scope = match asked.query.scope.as_deref() {
            None | Some("" | "global") => Scope::Global,
            Some("local") => Scope::Local,
            Some("others") => Scope::Others,
            Some(_) => return Err(Failure::invalid("Unsupported logout scope")),
        };
        let who = self.who(&asked).await?;
        let done = self
            .accounts
            .log_out(Api::Supabase, who, (scope, &asked.call.client()))
            .await;
        match done {
            Ok(()) | Err(AccountError::SessionGone) => {}
            Err(error) => return Err(Failure::of(&error, Place::User)),
        }
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = StatusCode::NO_CONTENT;
        Ok(response)
    }

    pub(super) async fn reauthenticate(&self, asked: Asked<'_>) -> Answered {
        let (who, _) = self.caller(&asked).await?;
        let sent = self
            .accounts
            .reauthenticate(who, &asked.call.client())
            .await;
        sent.map_err(|error| Failure::of(&error, Place::User))?;
        Ok(reply(&Done {}))
    }
}
