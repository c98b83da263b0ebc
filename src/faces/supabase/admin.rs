//! Administering users with a service key.

use http::HeaderValue;
use http::header::LINK;

use super::refusals::{self, Failure, Place};
use super::replies::{Done, UserReply, UsersReply};
use super::requests::{self, AdminUser, Ban, DeleteUser, Page, filled};
use super::{Answered, Asked, Supabase, reply};
use crate::accounts::admin::{self, Confirmed, Deletion, NewPassword};
use crate::identity::access_token::AUDIENCE;
use crate::records::{User, UserId};
use crate::store::{OldestFirst, UserQuery};

impl Supabase {
    pub(super) async fn list_users(&self, asked: Asked<'_>) -> Answered {
        self.admin(&asked).await?;
        let query = &asked.query;
        let page = Page::read(query.page.as_deref(), query.per_page.as_deref())?;
        let wanted = UserQuery {
            offset: page.offset(),
            limit: page.size,
            containing: filled(query.filter.clone()).map(Into::into),
            oldest_first: order(query.sort.as_deref())?,
        };
        let found = self.accounts.admin_users(wanted).await;
        let (users, total) = found.map_err(|error| Failure::of(&error, Place::Admin))?;
        let mut response = reply(&UsersReply {
            users: users.iter().map(UserReply::of).collect(),
            aud: AUDIENCE,
        });
        let headers = response.headers_mut();
        headers.insert("x-total-count", HeaderValue::from(total));
        if let Ok(link) = HeaderValue::try_from(page.link("/admin/users", total)) {
            headers.insert(LINK, link);
        }
        Ok(response)
    }

    /// The rules for passwords are for users: an operator may set any that can be hashed.
    pub(super) async fn create_user(&self, mut asked: Asked<'_>) -> Answered {
        self.admin(&asked).await?;
        let mut new: AdminUser = asked.read().await?;
        // It would be one that everybody knows. Where none is given, none lets anybody in.
        new.password = new.password.filter(|it| !it.expose().is_empty());
        let new = self.read_user(new, NewPassword::Unchecked)?;
        if new.email.is_none() && new.phone.is_none() {
            return Err(Failure::invalid(
                "Cannot create a user without either an email or phone",
            ));
        }
        shown(self.accounts.admin_create(new).await)
    }

    pub(super) async fn get_user(&self, asked: Asked<'_>) -> Answered {
        self.admin(&asked).await?;
        shown(self.accounts.admin_user(id(&asked)?).await)
    }

    pub(super) async fn change_user(&self, mut asked: Asked<'_>) -> Answered {
        self.admin(&asked).await?;
        let id = id(&asked)?;
        let new: AdminUser = asked.read().await?;
        let new = self.read_user(new, NewPassword::Checked)?;
        shown(self.accounts.admin_update(id, new).await)
    }

    pub(super) async fn delete_user(&self, mut asked: Asked<'_>) -> Answered {
        self.admin(&asked).await?;
        let id = id(&asked)?;
        let wanted: DeleteUser = asked.read().await?;
        let deletion = match wanted.should_soft_delete {
            Some(true) => Deletion::Soft,
            Some(false) | None => Deletion::Hard,
        };
        let deleted = self.accounts.admin_delete(id, deletion).await;
        deleted.map_err(|error| Failure::of(&error, Place::Admin))?;
        Ok(reply(&Done {}))
    }

    /// What an operator wants a user to be. `checked`: what becomes of a password that is no hash.
    fn read_user(
        &self,
        new: AdminUser,
        checked: fn(crate::secret::Secret<String>) -> NewPassword,
    ) -> Result<admin::AdminUser, Failure> {
        let password = match (new.password, new.password_hash) {
            (Some(_), Some(_)) => {
                return Err(Failure::invalid(
                    "Only a password or a password hash should be provided",
                ));
            }
            (Some(plain), None) => Some(checked(plain)),
            (None, Some(hash)) => Some(NewPassword::Hash(hash)),
            (None, None) => None,
        };
        let id = filled(new.id)
            .map(|id| requests::uuid(&id).filter(|id| !id.is_nil()).ok_or(BAD_ID))
            .transpose()?;
        let ban = filled(new.ban_duration);
        let ban = ban.as_deref().map(Ban::read).transpose()?;
        Ok(admin::AdminUser {
            id: id.map(UserId),
            email: filled(new.email),
            phone: filled(new.phone),
            password,
            email_confirmed: new.email_confirm.and_then(confirmed),
            phone_confirmed: new.phone_confirm.and_then(confirmed),
            user_metadata: new.user_metadata,
            app_metadata: new.app_metadata,
            role: filled(new.role),
            ban: ban.map(|ban| ban.from(self.accounts.now())),
            ..admin::AdminUser::default()
        })
    }
}

const BAD_ID: Failure = Failure::invalid("ID must conform to the uuid v4 format");

/// `false` takes no confirmation back, as in the original.
fn confirmed(yes: bool) -> Option<Confirmed> {
    yes.then_some(Confirmed::Yes)
}

/// `sort`: a column and a direction. Users are sorted by one column only.
fn order(sort: Option<&str>) -> Result<OldestFirst, Failure> {
    match sort {
        None | Some("" | "created_at" | "created_at desc") => Ok(OldestFirst::No),
        Some("created_at asc") => Ok(OldestFirst::Yes),
        Some(_) => Err(Failure::invalid("Bad Sort Parameters")),
    }
}

/// Whom the path names.
fn id(asked: &Asked<'_>) -> Result<UserId, Failure> {
    let text = asked.args.first().copied().unwrap_or_default();
    requests::uuid(text).map(UserId).ok_or(refusals::NOT_A_UUID)
}

fn shown(user: Result<User, crate::accounts::AccountError>) -> Answered {
    let user = user.map_err(|error| Failure::of(&error, Place::Admin))?;
    Ok(reply(&UserReply::of(&user)))
}
