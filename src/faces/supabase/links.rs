//! Links: where those in mails lead to, and what an operator does to have some made. What a link carries lets in
//! whoever has it, so it leads nowhere but to where the operator says (`redirects` of `[accounts.mail]`).

use http::header::{CACHE_CONTROL, LOCATION, REFERRER_POLICY};
use http::{HeaderValue, Method, Response, StatusCode};

use super::mail::{NO_EMAIL, kinds};
use super::refusals::{Failure, Place};
use super::replies::{LinkReply, TokenReply, UserReply};
use super::requests::{GenerateLink, Invite, filled};
use super::{Answered, Asked, Supabase, reply};
use crate::accounts::codes::{Proof, Verification};
use crate::accounts::links::LinkFor;
use crate::body::Body;
use crate::records::{Api, CodeKind};

impl Supabase {
    /// Spends the code of a link, and sends the browser on with a session, or with what was wrong. Both stand behind
    /// the `#`, which no server is told.
    pub(super) async fn verify_link(&self, asked: Asked<'_>) -> Answered {
        // Whoever looks whether a link is alive asks so, and must not use it up.
        if *asked.call.head.method() == Method::HEAD {
            return Ok(Response::new(Body::Empty));
        }
        let query = &asked.query;
        let kinds = query.r#type.as_deref().and_then(kinds);
        let kinds = kinds.ok_or(Failure::invalid("Verify requires a verification type"))?;
        let token = filled(query.token_hash.clone()).or(filled(query.token.clone()));
        let token = token.ok_or(Failure::invalid("Verify requires a token or a token hash"))?;
        // Before the code is spent: with nowhere to go there is nobody to give the session to.
        let place = self.accounts.destination(query.redirect_to.as_deref());
        let place = place.ok_or(NOWHERE)?;
        let verification = Verification {
            proof: Proof::Link(token),
            kinds,
        };
        let signed_in = self
            .accounts
            .verify(Api::Supabase, verification, &asked.call.client())
            .await;
        let told = match signed_in {
            Ok(signed_in) => {
                let word = query.r#type.as_deref().unwrap_or_default();
                TokenReply::of(&signed_in).fragment(word)
            }
            // Whatever it is: a browser is waiting, and only the application can say it in its own way.
            Err(error) => Failure::of(&error, Place::Verify).fragment(),
        };
        onward(&place, &told)
    }

    pub(super) async fn invite(&self, mut asked: Asked<'_>) -> Answered {
        self.admin(&asked).await?;
        self.mails()?;
        let wanted: Invite = asked.read().await?;
        let email = filled(wanted.email).ok_or(NO_EMAIL)?;
        let user = self
            .accounts
            .invite(
                (&email, asked.query.redirect_to.take()),
                wanted.data.unwrap_or_default(),
            )
            .await;
        let user = user.map_err(|error| Failure::of(&error, Place::Admin))?;
        Ok(reply(&UserReply::of(&user)))
    }

    pub(super) async fn generate_link(&self, mut asked: Asked<'_>) -> Answered {
        self.admin(&asked).await?;
        let wanted: GenerateLink = asked.read().await?;
        let email = filled(wanted.email.clone()).ok_or(NO_EMAIL)?;
        let link_for = link_for(&wanted)?;
        let said = wanted.data.unwrap_or_default();
        let link = self.accounts.link(&email, (link_for, said)).await;
        let link = link.map_err(|error| Failure::of(&error, Place::Admin))?;
        let redirect_to = filled(asked.query.redirect_to.take()).or(wanted.redirect_to);
        let redirect_to = self.accounts.destination(redirect_to.as_deref());
        let redirect_to = redirect_to.unwrap_or_default();
        let query = form(&[
            ("token", link.token.expose()),
            ("type", link.kind.word()),
            ("redirect_to", &redirect_to),
        ]);
        Ok(reply(&LinkReply {
            user: UserReply::of(&link.user),
            action_link: format!("{}/verify?{query}", self.accounts.issuer()),
            email_otp: link.code.expose().clone(),
            hashed_token: link.token.expose().clone(),
            redirect_to,
            verification_type: match link.kind {
                CodeKind::EmailChange => "email_change_new",
                kind => kind.word(),
            },
        }))
    }
}

/// What a link is asked for.
fn link_for(wanted: &GenerateLink) -> Result<LinkFor, Failure> {
    Ok(match wanted.r#type.as_deref() {
        Some("signup") => {
            let password = wanted.password.clone();
            let password = password.filter(|it| !it.expose().is_empty());
            LinkFor::SignUp(password.ok_or(Failure::invalid("Signup requires a valid password"))?)
        }
        Some("invite") => LinkFor::Invite,
        Some("magiclink") => LinkFor::LogIn,
        Some("recovery") => LinkFor::Recovery,
        Some("email_change_new") => {
            let new = filled(wanted.new_email.clone());
            LinkFor::EmailChange(new.ok_or(Failure::invalid("A new email address is required"))?)
        }
        // A change of address is confirmed at the new one alone: there is no such link.
        Some("email_change_current") => return Err(ONE_HALF),
        _ => return Err(Failure::invalid("Invalid email action link type requested")),
    })
}

/// To the application. The address is nobody's to keep, or to be told as where a visitor came from.
fn onward(place: &str, told: &str) -> Answered {
    let plain = place.split_once('#').map_or(place, |(plain, _)| plain);
    let location = HeaderValue::try_from(format!("{plain}#{told}")).map_err(|_| NOWHERE)?;
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = StatusCode::SEE_OTHER;
    let headers = response.headers_mut();
    headers.insert(LOCATION, location);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    Ok(response)
}

impl TokenReply {
    /// A session as the clients find it behind the `#`.
    fn fragment(&self, word: &str) -> String {
        form(&[
            ("access_token", &self.access_token),
            ("expires_at", &self.expires_at.to_string()),
            ("expires_in", &self.expires_in.to_string()),
            ("refresh_token", &self.refresh_token),
            ("token_type", self.token_type),
            ("type", word),
        ])
    }
}

impl Failure {
    /// A failure as the clients find it behind the `#`: RFC 6749 §4.2.2.1.
    fn fragment(&self) -> String {
        let error = match self.status {
            400 | 422 => "invalid_request",
            503 => "temporarily_unavailable",
            500.. => "server_error",
            _ => "access_denied",
        };
        form(&[
            ("error", error),
            ("error_code", self.code),
            ("error_description", self.message),
        ])
    }
}

/// Pairs as `application/x-www-form-urlencoded` has them.
fn form(pairs: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, value) in pairs {
        if !text.is_empty() {
            text.push('&');
        }
        text.push_str(name);
        text.push('=');
        for byte in value.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    text.push(char::from(byte));
                }
                b' ' => text.push('+'),
                _ => {
                    text.push('%');
                    text.extend(
                        [byte >> 4, byte & 15].map(|half| char::from(HEX[usize::from(half)])),
                    );
                }
            }
        }
    }
    text
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

const NOWHERE: Failure =
    Failure::invalid("There is nowhere to go: accounts.mail.redirects names no place");
const ONE_HALF: Failure = Failure::invalid(
    "A change of address is confirmed at the new address: ask for email_change_new",
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_in_an_address_is_escaped() {
        let text = form(&[("a", "x y&z=1"), ("b", "ü#/?"), ("c", "")]);
        assert_eq!(text, "a=x+y%26z%3D1&b=%C3%BC%23%2F%3F&c=");
    }

    #[test]
    fn the_fragment_of_a_destination_gives_way() {
        let response = onward("https://app.example/x?y#z", "a=b").unwrap();
        assert_eq!(response.headers()[LOCATION], "https://app.example/x?y#a=b");
    }
}
