//! Reads `[redis]`: what several gateways share for a short while: counters, leases, tickets and news.

use std::sync::Arc;
use std::time::Duration;

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};

use super::check::seconds;
use super::raw::Table;
use super::secrets;
use super::units::{self, Wrong};
use crate::secret::Secret;

/// `[redis]`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "documented in config/portcullis.toml")]
pub struct Redis {
    pub place: RedisPlace,
    /// What every key begins with.
    pub prefix: Box<str>,
    pub timeout: Duration,
    pub connect_timeout: Duration,
    /// `ca_file`: PEM text of the certificates to trust; `None`: the machine's roots.
    pub ca: Option<Arc<str>>,
    /// How long what is remembered counts while Redis is away; zero: not at all (`revocation = "closed"`).
    pub max_stale: Duration,
    /// How much news is kept for those that were cut off.
    pub history: usize,
}

/// Where it is, by URLs that hold passwords.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisPlace {
    /// One server.
    Server(Secret<String>),
    /// The master that the sentinels know by the host's name of the first URL.
    Sentinel(Secret<String>, Vec<Secret<String>>),
    /// Nodes of a cluster, at least one.
    Cluster(Vec<Secret<String>>),
}

/// `revocation`: what becomes of what is remembered while Redis is away.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Revocation {
    Closed,
    Stale,
}

/// Reads `[redis]`; `None` where the file has none.
pub(super) fn redis(mut table: Table<'_>) -> Option<Redis> {
    let report = table.report;
    // Not shown: URLs hold passwords.
    let url = table.secret("url", url);
    for key in ["url", "sentinels", "nodes"] {
        table.warn_if_written_out(key, units::holds_password);
    }
    if table.is_given() {
        table.require("url", "\"redis://localhost:6379\"");
    }
    let sentinels = table.secrets("sentinels", url_of_host).unwrap_or_default();
    let nodes = table.secrets("nodes", url_of_host).unwrap_or_default();
    let cluster = table.flag("cluster").unwrap_or(false);
    let prefix = table.text("prefix", prefix);
    let timeout = table.duration("timeout").unwrap_or(TIMEOUT);
    let connect_timeout = table.duration("connect_timeout");
    let ca = table.text("ca_file", |name| secrets::certificates(report, name));
    let words = [("closed", Revocation::Closed), ("stale", Revocation::Stale)];
    let revocation = table.choice("revocation", &words);
    let max_stale = table.duration("max_stale");
    let closed = revocation.unwrap_or(Revocation::Closed) == Revocation::Closed;
    if closed && max_stale.is_some() {
        let what = "`max_stale` is without effect where `revocation` is \"closed\"";
        table.problem("max_stale", what, "write revocation = \"stale\"");
    }
    let history = table.integer("history", 1000..=10_000_000);
    let url = url?;
    check_place(&table, &url, (&sentinels, &nodes, cluster));
    let place = match (cluster, sentinels.is_empty()) {
        (true, _) => RedisPlace::Cluster(std::iter::once(url).chain(nodes).collect()),
        (false, true) => RedisPlace::Server(url),
        (false, false) => RedisPlace::Sentinel(url, sentinels),
    };
    Some(Redis {
        place,
        prefix: prefix.unwrap_or_else(|| PREFIX.into()),
        timeout,
        connect_timeout: connect_timeout.unwrap_or(CONNECT_TIMEOUT),
        ca: ca.map(|(_, text)| text),
        max_stale: match closed {
            true => Duration::ZERO,
            false => max_stale.unwrap_or(MAX_STALE),
        },
        history: history.unwrap_or(HISTORY),
    })
}

/// Whether the keys that say where it is go together.
fn check_place(
    table: &Table<'_>,
    url: &Secret<String>,
    (sentinels, nodes, cluster): (&[Secret<String>], &[Secret<String>], bool),
) {
    let Ok(info) = server(url.expose()) else {
        return;
    };
    if !nodes.is_empty() && !cluster {
        let what = "`nodes` are those of a cluster";
        table.problem("nodes", what, "write cluster = true, or take it out");
    }
    if cluster && !sentinels.is_empty() {
        let what = "`sentinels` do not go with a cluster";
        table.problem("sentinels", what, "take one of the two out");
    }
    if cluster && info.redis_settings().db() != 0 {
        let what = "`url` names a database, of which a cluster has none";
        table.problem("url", what, "take the number out");
    }
    let local = matches!(info.addr(), ConnectionAddr::Unix(_));
    if local && (cluster || !sentinels.is_empty()) {
        let what = "`url` is a socket of this machine";
        table.problem("url", what, "write \"redis://host:port\"");
    }
    let plain = |url: &Secret<String>| !is_tls(url.expose());
    if table.has("ca_file") && plain(url) && sentinels.iter().all(plain) {
        let what = "`ca_file` is for TLS alone";
        table.problem("ca_file", what, "write \"rediss://…\", or take it out");
    }
}

fn url(text: &str) -> Result<Secret<String>, Wrong> {
    server(text)?;
    Ok(Secret::new(text.to_owned()))
}

/// One that is reached over the network.
fn url_of_host(text: &str) -> Result<Secret<String>, Wrong> {
    match server(text)?.addr() {
        ConnectionAddr::Unix(_) => Err(Wrong::new(NO_SERVER, SERVER)),
        _ => url(text),
    }
}

/// Whether a URL asks for TLS.
pub(crate) fn is_tls(url: &str) -> bool {
    url.starts_with("rediss:") || url.starts_with("valkeys:")
}

/// What the URL of a server says.
pub(crate) fn server(url: &str) -> Result<ConnectionInfo, Wrong> {
    // The driver would take `#insecure` for leave to believe any certificate.
    if url.contains('#') {
        let mend = "take it out; give the certificates to trust as `ca_file`";
        return Err(Wrong::new("has a part behind a #", mend));
    }
    let options = url.split_once('?').map_or("", |(_, options)| options);
    let known = ["db=", "user=", "pass=", "protocol="];
    let mut given = options.split('&').filter(|option| !option.is_empty());
    if !given.all(|option| known.iter().any(|name| option.starts_with(name))) {
        return Err(Wrong::new("has an unknown option", SERVER));
    }
    // What the driver says may hold a part of the URL.
    url.into_connection_info()
        .map_err(|_| Wrong::new(NO_SERVER, SERVER))
}

fn prefix(text: &str) -> Result<Box<str>, Wrong> {
    // Braces would choose the slot of a cluster, the same for every key.
    let good = |c: char| c.is_ascii_graphic() && c != '{' && c != '}';
    match text.chars().all(good) && text.len() <= 64 {
        true => Ok(text.into()),
        false => Err(Wrong::new(
            "is not what keys can begin with",
            "write at most 64 letters, digits and signs, with no { and no }",
        )),
    }
}

const NO_SERVER: &str = "is not the URL of a Redis server";
const SERVER: &str =
    "write \"redis://user:password@host:port/0\", \"rediss://…\" for TLS, or \"unix:///path?db=0\"";
const PREFIX: &str = "portcullis:";
const TIMEOUT: Duration = Duration::from_millis(250);
const CONNECT_TIMEOUT: Duration = seconds(1);
const MAX_STALE: Duration = seconds(60);
const HISTORY: usize = 100_000;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn read(text: &str) -> Result<Redis, String> {
        let text = format!("{BASE}\n[redis]\n{text}\n");
        crate::config::parse(&text, Path::new("portcullis.toml"), &|_| None)
            .map(|config| config.redis.unwrap())
            .map_err(|problems| problems.to_string())
    }

    const BASE: &str = r#"
        [[upstream]]
        name = "app"
        endpoints = ["http://127.0.0.1:8000"]
        [[route]]
        name = "all"
        path = "/{*rest}"
        upstream = "app"
        auth = "public"
    "#;

    #[test]
    fn where_it_is_comes_from_the_urls() {
        let secret = |url: &str| Secret::new(url.to_owned());
        for (text, place) in [
            (
                r#"url = "redis://:hunter2@db:6380/3""#,
                RedisPlace::Server(secret("redis://:hunter2@db:6380/3")),
            ),
            (
                r#"url = "unix:///run/redis.sock?db=1&pass=hunter2""#,
                RedisPlace::Server(secret("unix:///run/redis.sock?db=1&pass=hunter2")),
            ),
            (
                "url = \"rediss://:a@main/0\"\nsentinels = [\"redis://one:26379\"]",
                RedisPlace::Sentinel(
                    secret("rediss://:a@main/0"),
                    vec![secret("redis://one:26379")],
                ),
            ),
            (
                "url = \"redis://one\"\ncluster = true\nnodes = [\"redis://two\"]",
                RedisPlace::Cluster(vec![secret("redis://one"), secret("redis://two")]),
            ),
        ] {
            let redis = read(text).unwrap();
            assert_eq!(redis.place, place, "{text}");
            assert!(!format!("{redis:?}").contains("hunter2"));
        }
    }

    #[test]
    fn what_is_no_server_is_refused_and_not_shown() {
        for text in [
            "",
            r#"url = """#,
            r#"url = "db:6379""#,
            r#"url = "http://hunter2@db:6379""#,
            r#"url = "redis://:hunter2@db:port""#,
            r#"url = "redis://:hunter2@db/one""#,
            r#"url = "rediss://:hunter2@db/#insecure""#,
            r#"url = "redis://:hunter2@db/?hunter2=1""#,
            r#"url = "unix:///redis.sock?pass=hunter2&cluster""#,
            "url = \"redis://db\"\nsentinels = [\"unix:///run/hunter2.sock\"]",
            "url = \"redis://db\"\nnodes = [\"redis://other\"]",
            "url = \"redis://db/1\"\ncluster = true",
            "url = \"redis://db\"\ncluster = true\nsentinels = [\"redis://one\"]",
            "url = \"unix:///run/redis.sock\"\ncluster = true",
            "url = \"redis://db\"\nmax_stale = \"5s\"",
            "url = \"redis://db\"\nprefix = \"{a}\"",
        ] {
            let problems = read(text).unwrap_err();
            assert!(!problems.contains("hunter2"), "{problems}");
        }
    }

    #[test]
    fn without_a_word_nothing_is_believed_while_it_is_away() {
        for (text, stale) in [
            ("", Duration::ZERO),
            ("revocation = \"closed\"", Duration::ZERO),
            ("revocation = \"stale\"", MAX_STALE),
            ("revocation = \"stale\"\nmax_stale = \"5s\"", seconds(5)),
        ] {
            let redis = read(&format!("url = \"redis://db\"\n{text}")).unwrap();
            assert_eq!(redis.max_stale, stale, "{text}");
        }
    }
}
