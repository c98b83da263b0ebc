//! One contract for both places that tickets are kept in.

use super::*;
use crate::identity::testing::identity;
use crate::policy::Permit;
use crate::state::redis::testing::Server;

const NOW: UnixSeconds = 1_800_000_000;
const SETTINGS: config::Tickets = config::Tickets {
    lifetime: 30,
    resume: true,
    per_user: 3,
};
const STREAM: Use<'_> = Use {
    method: "GET",
    path: "/events",
    again: Again::OnceEnded,
};
const ONCE: Use<'_> = Use {
    again: Again::Never,
    ..STREAM
};

fn bearer(token: &str, ends_at: UnixSeconds) -> Identity {
    Identity {
        token: Secret::new(token.into()),
        ..identity("u", ends_at)
    }
}

/// The system's time, which Redis goes by.
fn real() -> UnixSeconds {
    Clock::System.now()
}

fn left(token: &str, ends_at: UnixSeconds, end: Option<End>) -> Left {
    let caller = crate::identity::Caller::Known(Arc::new(bearer(token, ends_at)));
    Left {
        permit: Permit::for_test(caller),
        end,
    }
}

/// What a ticket stands for when it is used.
async fn token_of(
    tickets: &Arc<Tickets>,
    ticket: &str,
    place: &Use<'_>,
) -> Result<String, TicketError> {
    let redeemed = tickets.redeem(ticket, place, SETTINGS.per_user).await?;
    std::mem::forget(redeemed.hold);
    Ok(redeemed.token.expose().to_string())
}

async fn issue(tickets: &Tickets, ends_at: UnixSeconds) -> Result<String, TicketError> {
    let issued = tickets
        .issue(&SETTINGS, &bearer("t", ends_at), &ONCE)
        .await?;
    Ok(issued.ticket.expose().clone())
}

/// What comes of a use once the ticket has been given back: over Redis that happens beside, and nobody is told.
async fn settled(
    tickets: &Arc<Tickets>,
    ticket: &str,
    place: &Use<'_>,
) -> Result<String, TicketError> {
    for _ in 0..500 {
        match token_of(tickets, ticket, place).await {
            Err(TicketError::InUse) => {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await
            }
            told => return told,
        }
    }
    Err(TicketError::InUse)
}

async fn a_ticket_is_good_once_and_for_its_place_only(tickets: &Arc<Tickets>, end: UnixSeconds) {
    let ticket = issue(tickets, end).await.unwrap();
    let elsewhere = [
        Use {
            path: "/events/",
            ..ONCE
        },
        Use {
            path: "/other",
            ..ONCE
        },
        Use {
            method: "POST",
            ..ONCE
        },
    ];
    for place in &elsewhere {
        assert_eq!(
            token_of(tickets, &ticket, place).await,
            Err(TicketError::Invalid)
        );
    }
    let spoilt = ticket.replace(&ticket[10..12], "AA");
    for bad in [
        "",
        "pt_",
        "t",
        spoilt.as_str(),
        &ticket[3..],
        &format!("{ticket}A"),
    ] {
        assert_eq!(
            token_of(tickets, bad, &ONCE).await,
            Err(TicketError::Invalid),
            "{bad}"
        );
    }
    assert_eq!(token_of(tickets, &ticket, &ONCE).await.as_deref(), Ok("t"));
    for place in [&ONCE, &STREAM] {
        assert_eq!(
            token_of(tickets, &ticket, place).await,
            Err(TicketError::Invalid)
        );
    }
}

async fn of_two_uses_at_once_one_wins(tickets: &Arc<Tickets>, end: UnixSeconds) {
    for place in [&ONCE, &STREAM] {
        let ticket = issue(tickets, end).await.unwrap();
        let (one, other) = tokio::join!(
            token_of(tickets, &ticket, place),
            token_of(tickets, &ticket, place)
        );
        assert!(one.is_ok() != other.is_ok(), "{one:?} {other:?}");
    }
}

async fn a_stream_is_resumed_once_it_has_ended(tickets: &Arc<Tickets>, end: UnixSeconds) {
    let ticket = issue(tickets, end).await.unwrap();
    let first = tickets.redeem(&ticket, &STREAM, 3).await.unwrap();
    let again = token_of(tickets, &ticket, &STREAM).await;
    assert_eq!(again, Err(TicketError::InUse));
    // It stands for the newest token of the session then.
    first.hold.unwrap().leave(&left("newer", end + 60, None));
    assert_eq!(
        settled(tickets, &ticket, &STREAM).await.as_deref(),
        Ok("newer")
    );
    // Its session ended: nothing is left of it.
    let ticket = issue(tickets, end).await.unwrap();
    for over in [End::Expired, End::Revoked] {
        let Ok(used) = tickets.redeem(&ticket, &STREAM, 3).await else {
            break;
        };
        used.hold.unwrap().leave(&left("t", end, Some(over)));
        assert_eq!(
            settled(tickets, &ticket, &STREAM).await,
            Err(TicketError::Invalid)
        );
    }
    // No stream came of it.
    let ticket = issue(tickets, end).await.unwrap();
    drop(tickets.redeem(&ticket, &STREAM, 3).await.unwrap());
    assert_eq!(
        settled(tickets, &ticket, &STREAM).await,
        Err(TicketError::Invalid)
    );
    // What rests opens an event stream and nothing else.
    let ticket = issue(tickets, end).await.unwrap();
    let used = tickets.redeem(&ticket, &STREAM, 3).await.unwrap();
    used.hold
        .unwrap()
        .leave(&left("t", end, Some(End::Draining)));
    assert_eq!(
        settled(tickets, &ticket, &ONCE).await,
        Err(TicketError::Invalid)
    );
    assert_eq!(settled(tickets, &ticket, &STREAM).await.as_deref(), Ok("t"));
}

async fn a_user_has_so_many_at_most(tickets: &Arc<Tickets>, end: UnixSeconds) {
    for _ in 0..SETTINGS.per_user {
        issue(tickets, end).await.unwrap();
    }
    assert_eq!(issue(tickets, end).await, Err(TicketError::TooMany));
    let other = Identity {
        issuer: "other".into(),
        ..bearer("t", end)
    };
    assert!(tickets.issue(&SETTINGS, &other, &ONCE).await.is_ok());
}

#[tokio::test]
async fn in_memory() {
    let new = || Tickets::new(Clock::manual(NOW));
    let end = NOW + 3600;
    a_ticket_is_good_once_and_for_its_place_only(&new(), end).await;
    of_two_uses_at_once_one_wins(&new(), end).await;
    a_stream_is_resumed_once_it_has_ended(&new(), end).await;
    a_user_has_so_many_at_most(&new(), end).await;
}

#[tokio::test]
async fn in_redis() {
    let server = Server::start().await;
    let redis = server.handle();
    let end = real() + 3600;
    let emptied = async || {
        let _: () = redis.call(&redis::cmd("FLUSHALL")).await.unwrap();
        Tickets::shared(&redis, Clock::System)
    };
    a_ticket_is_good_once_and_for_its_place_only(&emptied().await, end).await;
    of_two_uses_at_once_one_wins(&emptied().await, end).await;
    a_stream_is_resumed_once_it_has_ended(&emptied().await, end).await;
    a_user_has_so_many_at_most(&emptied().await, end).await;
}

#[tokio::test]
async fn a_ticket_in_redis_is_another_gateways_too_and_refused_while_redis_is_away() {
    let mut server = Server::start().await;
    let [here, there] = [0, 1].map(|_| Tickets::shared(&server.handle(), Clock::System));
    let end = real() + 3600;
    let ticket = issue(&here, end).await.unwrap();
    assert_eq!(token_of(&there, &ticket, &ONCE).await.as_deref(), Ok("t"));
    assert_eq!(
        token_of(&here, &ticket, &ONCE).await,
        Err(TicketError::Invalid)
    );
    let ticket = issue(&here, end).await.unwrap();
    server.down();
    assert_eq!(
        token_of(&there, &ticket, &ONCE).await,
        Err(TicketError::Away)
    );
    assert_eq!(issue(&here, end).await, Err(TicketError::Away));
}

#[tokio::test]
async fn a_ticket_is_over_in_time_and_with_its_token() {
    let clock = Clock::manual(NOW);
    let tickets = Tickets::new(clock.clone());
    let late = issue(&tickets, NOW + 3600).await.unwrap();
    let short = issue(&tickets, NOW + 10).await.unwrap();
    clock.set(NOW + 10);
    assert_eq!(
        token_of(&tickets, &short, &ONCE).await,
        Err(TicketError::Invalid)
    );
    clock.set(NOW + 30);
    assert_eq!(
        token_of(&tickets, &late, &ONCE).await,
        Err(TicketError::Invalid)
    );
    // What is over counts no more.
    for _ in 0..SETTINGS.per_user {
        issue(&tickets, NOW + 3600).await.unwrap();
    }
}

#[tokio::test]
async fn what_rests_makes_room_for_new_ones() {
    let tickets = Tickets::new(Clock::manual(NOW));
    let mut all = Vec::new();
    for _ in 0..10 {
        let ticket = issue(&tickets, NOW + 3600).await.unwrap();
        let used = tickets.redeem(&ticket, &STREAM, 3).await.unwrap();
        used.hold.unwrap().leave(&left("t", NOW + 3600, None));
        all.push(ticket);
    }
    let good = |ticket: String| {
        let tickets = Arc::clone(&tickets);
        async move { token_of(&tickets, &ticket, &STREAM).await.is_ok() }
    };
    assert!(good(all[9].clone()).await);
    assert!(!good(all[0].clone()).await, "the oldest went");
}

#[tokio::test]
async fn what_is_kept_tells_neither_ticket_nor_token_nor_user() {
    let server = Server::start().await;
    let redis = server.handle();
    let tickets = Tickets::shared(&redis, Clock::System);
    let secret = "eyJ-a-token-that-nobody-may-see";
    let bearer = bearer(secret, real() + 3600);
    let issued = tickets.issue(&SETTINGS, &bearer, &ONCE).await.unwrap();
    let ticket = issued.ticket.expose();
    let keys: Vec<String> = redis.call(redis::cmd("KEYS").arg("*")).await.unwrap();
    assert_eq!(keys.len(), 2);
    for key in keys {
        let kept: Vec<u8> = redis.call(redis::cmd("DUMP").arg(&key)).await.unwrap();
        for word in [secret, &ticket[3..], "/events"] {
            let found = kept.windows(word.len()).any(|it| it == word.as_bytes());
            assert!(!found && !key.contains(word), "{word}");
        }
    }
}
