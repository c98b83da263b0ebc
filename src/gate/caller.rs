//! Rung 4: who calls, by what was found in a request.

use http::Method;

use crate::config;
use crate::gate::{Conn, Gate};
use crate::identity::Caller;
use crate::identity::cache::LocalTokens;
use crate::refusal::Refusal;
use crate::request::credential::{Credential, Found, Place};
use crate::request::head::Head;
use crate::route::Route;
use crate::tickets::{Again, Hold, TicketError, Use};

impl Gate {
    /// Who calls: by a verified token, by a bad one, or by none.
    pub(super) async fn caller(&self, route: &Route, found: Found, tokens: &LocalTokens) -> Caller {
        match found {
            _ if !route.verifies() => Caller::Guest,
            Found::Nothing => Caller::Guest,
            Found::Bad(refusal, credential) => Caller::Unverified(refusal, credential),
            Found::Token(credential) => {
                let credential = Some(credential);
                self.verifier
                    .identify(tokens, credential, route.issuers())
                    .await
            }
        }
    }

    /// Who calls by a ticket: the bearer of the token that it stands for, if that is still good.
    ///
    /// # Errors
    /// `TicketInUse`, on every route: where a guest may come in too, its stream would go on as a guest's.
    pub(super) async fn bearer(
        &self,
        head: &Head,
        (route, ticket): (&Route, Credential),
        conn: &Conn,
    ) -> Result<(Caller, Option<Hold>), Refusal> {
        let refused = |refusal, ticket| Ok((Caller::Unverified(refusal, ticket), None));
        let Some(settings) = &self.config.tickets else {
            return refused(Refusal::TicketInvalid, ticket);
        };
        let tickets = &conn.desk.tickets;
        let place = ticket_use(head, settings);
        let text = ticket.token.expose();
        let redeemed = match tickets.redeem(text, &place, settings.per_user).await {
            Ok(redeemed) => redeemed,
            Err(TicketError::InUse) => return Err(Refusal::TicketInUse),
            Err(error) => return refused(error.into(), ticket),
        };
        let credential = Credential {
            token: redeemed.token,
            place: Place::Ticket,
        };
        let found = Found::Token(credential);
        match self.caller(route, found, &conn.desk.tokens).await {
            Caller::Unverified(refusal, _) => refused(refusal, ticket),
            caller => Ok((caller, redeemed.hold)),
        }
    }
}

/// What a request with a ticket uses it for. Only an event stream can be resumed.
fn ticket_use<'h>(head: &'h Head, settings: &config::Tickets) -> Use<'h> {
    let (method, again) = match head.is_websocket() {
        // Also where it is an extended CONNECT (RFC 8441).
        true => ("GET", Again::Never),
        false
            if settings.resume && *head.method() == Method::GET && head.accepts_event_stream() =>
        {
            ("GET", Again::OnceEnded)
        }
        false => (head.method().as_str(), Again::Never),
    };
    Use {
        method,
        path: head.path(),
        again,
    }
}
