//! News as they go from gateway to gateway: lists of JSON, the first of which says what happened. What a later version
//! tells and this one does not understand may have been an end.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::clock::UnixSeconds;
use crate::records::{SessionId, UserId};
use crate::state::bans::Banned;
use crate::state::{Ended, News};
use crate::streams::{Extended, Filter, Kind, Message};

/// What a piece of news is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// What was verified.
    Verified(News),
    /// Live streams.
    Streams(Message),
    /// The lease of this name is another's now.
    LeaseTaken(Box<str>),
    /// Tokens of other issuers, since when.
    Banned(Banned, UnixSeconds),
    /// There are new ones of those in Redis.
    Bans,
}

/// That there are new bans in Redis.
pub(super) const BANS: &str = "[\"bans\"]";

/// News about what was verified.
pub(super) fn write(news: News) -> String {
    let list = match news {
        News::Ended(Ended::Session(session)) => json!(["session_ended", id(session.0)]),
        News::Ended(Ended::User(user)) => json!(["user_ended", id(user.0)]),
        News::Ended(Ended::UserExceptSession(user, session)) => {
            json!(["others_ended_than_session", id(user.0), id(session.0)])
        }
        News::Ended(Ended::UserExceptToken(user, token)) => {
            json!(["others_ended_than_token", id(user.0), token])
        }
        News::Ended(Ended::Token(token)) => json!(["token_ended", token]),
        News::Changed(user) => json!(["user_changed", id(user.0)]),
    };
    list.to_string()
}

/// News about live streams.
pub(super) fn write_streams(news: &Message) -> String {
    let list = match news {
        Message::Extended(it) => {
            json!(["extended", it.issuer, it.subject, it.session, it.until])
        }
        Message::Kill(it) => {
            let kind = it.kind.map(Kind::word);
            json!(["kill", it.issuer, it.user, it.session, it.route, kind])
        }
    };
    list.to_string()
}

/// That a lease is another's now.
pub(super) fn write_lease(lease: &str) -> String {
    json!(["lease_taken", lease]).to_string()
}

/// Tokens of other issuers that are refused.
pub(super) fn write_ban(banned: &Banned, at: UnixSeconds) -> String {
    let (what, whose) = match banned {
        Banned::User(user) => ("user_banned", user),
        Banned::Session(session) => ("session_banned", session),
    };
    json!([what, whose, at]).to_string()
}

/// What was written; `None`: it is not understood.
pub(super) fn read(text: &str) -> Option<Told> {
    let list: Vec<Value> = serde_json::from_str(text).ok()?;
    let (what, rest) = list.split_first()?;
    let verified = |news| Some(Told::Verified(news));
    let ended = |ended| verified(News::Ended(ended));
    match (what.as_str()?, rest) {
        ("session_ended", [session]) => ended(Ended::Session(SessionId(uuid(session)?))),
        ("user_ended", [user]) => ended(Ended::User(UserId(uuid(user)?))),
        ("others_ended_than_session", [user, session]) => {
            let (user, session) = (UserId(uuid(user)?), SessionId(uuid(session)?));
            ended(Ended::UserExceptSession(user, session))
        }
        ("others_ended_than_token", [user, token]) => {
            ended(Ended::UserExceptToken(UserId(uuid(user)?), token.as_i64()?))
        }
        ("token_ended", [token]) => ended(Ended::Token(token.as_i64()?)),
        ("user_changed", [user]) => verified(News::Changed(UserId(uuid(user)?))),
        ("extended", [issuer, subject, session, until]) => {
            let extended = Extended {
                issuer: issuer.as_str()?.into(),
                subject: subject.as_str()?.into(),
                session: session.as_str()?.into(),
                until: until.as_u64()?,
            };
            Some(Told::Streams(Message::Extended(extended)))
        }
        ("lease_taken", [lease]) => Some(Told::LeaseTaken(lease.as_str()?.into())),
        ("bans", []) => Some(Told::Bans),
        ("user_banned", [user, at]) => Some(Told::Banned(
            Banned::User(user.as_str()?.into()),
            at.as_u64()?,
        )),
        ("session_banned", [session, at]) => Some(Told::Banned(
            Banned::Session(session.as_str()?.into()),
            at.as_u64()?,
        )),
        ("kill", [issuer, user, session, route, kind]) => {
            let filter = Filter {
                issuer: name(issuer)?,
                user: name(user)?,
                session: name(session)?,
                route: name(route)?,
                kind: match name(kind)? {
                    None => None,
                    Some(word) => Some(kind_of(&word)?),
                },
            };
            Some(Told::Streams(Message::Kill(filter)))
        }
        _ => None,
    }
}

fn id(id: Uuid) -> String {
    id.to_string()
}

fn uuid(value: &Value) -> Option<Uuid> {
    Uuid::try_parse(value.as_str()?).ok()
}

/// `Some(None)`: it is not said.
fn name(value: &Value) -> Option<Option<Box<str>>> {
    match value {
        Value::Null => Some(None),
        value => Some(Some(value.as_str()?.into())),
    }
}

fn kind_of(word: &str) -> Option<Kind> {
    [Kind::Sse, Kind::Websocket]
        .into_iter()
        .find(|kind| kind.word() == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_are_read_as_they_were_written() {
        let (user, session) = (UserId(Uuid::from_u128(1)), SessionId(Uuid::from_u128(2)));
        for news in [
            News::Ended(Ended::Session(session)),
            News::Ended(Ended::User(user)),
            News::Ended(Ended::UserExceptSession(user, session)),
            News::Ended(Ended::UserExceptToken(user, i64::MAX)),
            News::Ended(Ended::Token(-1)),
            News::Changed(user),
        ] {
            assert_eq!(read(&write(news)), Some(Told::Verified(news)));
        }
        let extended = Extended {
            issuer: "a \"b\"".into(),
            subject: "用户".into(),
            session: "\n".into(),
            until: u64::MAX,
        };
        for banned in [Banned::User("a".into()), Banned::Session("用".into())] {
            let text = write_ban(&banned, 7);
            assert_eq!(read(&text), Some(Told::Banned(banned, 7)));
        }
        assert_eq!(read(BANS), Some(Told::Bans));
        let some = Filter {
            issuer: Some("a".into()),
            user: Some("b".into()),
            session: Some("c".into()),
            route: Some("d".into()),
            kind: Some(Kind::Websocket),
        };
        for news in [
            Message::Extended(extended),
            Message::Kill(some),
            Message::Kill(Filter::default()),
        ] {
            assert_eq!(read(&write_streams(&news)), Some(Told::Streams(news)));
        }
        let taken = Told::LeaseTaken("a".into());
        assert_eq!(read(&write_lease("a")), Some(taken));
    }

    #[test]
    fn what_is_not_understood_is_not_guessed() {
        for text in [
            "",
            "{}",
            "[]",
            "[1]",
            "[\"token_ended\"]",
            "[\"token_ended\",\"1\"]",
            "[\"token_ended\",1,2]",
            "[\"user_ended\",\"x\"]",
            "[\"kill\",1,null,null,null,null]",
            "[\"kill\",null,null,null,null,\"carrier pigeon\"]",
            "[\"everything_ended\"]",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
