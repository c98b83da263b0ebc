//! Reads `[store]`: where users, sessions and signing keys are kept.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::config::Host;

use super::check::seconds;
use super::problem::Report;
use super::raw::Table;
use super::secrets;
use super::units::{self, Wrong};
use crate::secret::Secret;

/// `[store]`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "documented in config/portcullis.toml")]
pub struct Store {
    /// `url`.
    pub place: StorePlace,
    pub connections: usize,
    pub connect_timeout: Duration,
    pub statement_timeout: Duration,
    /// `ca_file`: PEM text of the certificates to trust; `None`: the machine's roots.
    pub ca: Option<Arc<str>>,
}

/// Which engine, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StorePlace {
    /// One file, made where it is missing.
    Sqlite(PathBuf),
    /// A server by its URL, which holds a password.
    Postgres(Secret<String>),
}

impl Store {
    /// The store of accounts that name none: a file beside the configuration.
    pub(super) fn beside(report: &Report) -> Self {
        Self {
            place: StorePlace::Sqlite(report.beside("portcullis.db")),
            connections: CONNECTIONS,
            connect_timeout: CONNECT_TIMEOUT,
            statement_timeout: STATEMENT_TIMEOUT,
            ca: None,
        }
    }
}

const CONNECTIONS: usize = 10;
const CONNECT_TIMEOUT: Duration = seconds(3);
const STATEMENT_TIMEOUT: Duration = seconds(5);

/// Reads `[store]`; `None` where the file has none.
pub(super) fn store(mut table: Table<'_>) -> Option<Store> {
    let report = table.report;
    // Not shown: a URL of PostgreSQL holds a password.
    let place = table.secret("url", |url| place(report, url));
    table.warn_if_written_out("url", units::holds_password);
    if table.is_given() {
        table.require("url", "\"sqlite:portcullis.db\"");
    }
    let connections = table
        .integer("connections", 1..=1000)
        .unwrap_or(CONNECTIONS);
    let connect_timeout = table.duration("connect_timeout");
    let statement_timeout = table.duration("statement_timeout");
    let ca = table.text("ca_file", |name| secrets::certificates(report, name));
    if ca.is_some() && matches!(place, Some(StorePlace::Sqlite(_))) {
        table.problem(
            "ca_file",
            "`ca_file` is for PostgreSQL alone",
            "take it out",
        );
    }
    Some(Store {
        place: place?,
        connections,
        connect_timeout: connect_timeout.unwrap_or(CONNECT_TIMEOUT),
        statement_timeout: statement_timeout.unwrap_or(STATEMENT_TIMEOUT),
        ca: ca.map(|(_, text)| text),
    })
}

fn place(report: &Report, url: &str) -> Result<StorePlace, Wrong> {
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        server(url)?;
        return Ok(StorePlace::Postgres(Secret::new(url.to_owned())));
    }
    let path = url.strip_prefix("sqlite:").ok_or_else(|| {
        Wrong::new(
            "is neither a file of SQLite nor a PostgreSQL server",
            "write \"sqlite:portcullis.db\" or \"postgres://user:password@host/database\"",
        )
    })?;
    // "sqlite:///a" and "sqlite:/a" are the same file; "sqlite://a" might mean a host.
    let path = match path.strip_prefix("//") {
        Some(path) if path.starts_with('/') => path,
        Some(_) => "",
        None => path,
    };
    if path.is_empty() || path.ends_with('/') || path.starts_with(':') || path.contains(['?', '\0'])
    {
        return Err(Wrong::new(
            "names no file",
            "write \"sqlite:portcullis.db\", or an absolute path: \"sqlite:/var/lib/portcullis/portcullis.db\"",
        ));
    }
    Ok(StorePlace::Sqlite(report.beside(path)))
}

/// How a connection to a server is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SslMode {
    /// Not at all.
    Disable,
    /// If the server can, whoever it is.
    Prefer,
    /// Always, and the certificate must be the host's.
    VerifyFull,
}

/// What the URL of a server says. `sslmode` is ours to read: the driver knows no mode that verifies.
pub(crate) fn server(url: &str) -> Result<(tokio_postgres::Config, SslMode), Wrong> {
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let (modes, others): (Vec<_>, Vec<_>) = query
        .split('&')
        .filter(|option| !option.is_empty())
        .partition(|option| option.starts_with("sslmode="));
    if others.iter().any(|option| option.starts_with("ssl")) {
        let what = "asks for another option of TLS than `sslmode`";
        return Err(Wrong::new(
            what,
            "give the certificates to trust as `ca_file`",
        ));
    }
    let mode = modes.last().map(|option| ssl_mode(option)).transpose()?;
    let rest = format!("{base}?{}", others.join("&"));
    let config: tokio_postgres::Config = rest.parse().map_err(|_| Wrong::new(NO_SERVER, SERVER))?;
    let (mut named, mut local) = (false, true);
    for host in config.get_hosts() {
        named = true;
        if let Host::Tcp(host) = host {
            if host.contains('@') {
                let mend = "write %40 for an @ in the password, %2F for a /, %3F for a ?";
                return Err(Wrong::new("has a second @", mend));
            }
            let address = host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
            local &= host == "localhost" || address;
        }
    }
    if !named {
        return Err(Wrong::new("names no host", SERVER));
    }
    let default = match local {
        true => SslMode::Prefer,
        false => SslMode::VerifyFull,
    };
    Ok((config, mode.unwrap_or(default)))
}

const NO_SERVER: &str = "is not the URL of a PostgreSQL server";
const SERVER: &str = "write \"postgres://user:password@host:port/database\"";

fn ssl_mode(option: &str) -> Result<SslMode, Wrong> {
    match option {
        "sslmode=disable" => Ok(SslMode::Disable),
        "sslmode=prefer" => Ok(SslMode::Prefer),
        "sslmode=require" | "sslmode=verify-full" => Ok(SslMode::VerifyFull),
        _ => Err(Wrong::new(
            "has an unknown `sslmode`",
            "write sslmode=disable, prefer or verify-full",
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn read(url: &str) -> Result<StorePlace, Wrong> {
        place(
            &Report::new(Path::new("/etc/portcullis/portcullis.toml")),
            url,
        )
    }

    #[test]
    fn a_file_is_taken_from_the_folder_of_the_config() {
        for (url, path) in [
            ("sqlite:users.db", "/etc/portcullis/users.db"),
            ("sqlite:data/users.db", "/etc/portcullis/data/users.db"),
            ("sqlite:/srv/users.db", "/srv/users.db"),
            ("sqlite:///srv/users.db", "/srv/users.db"),
        ] {
            assert_eq!(read(url), Ok(StorePlace::Sqlite(path.into())), "{url}");
        }
    }

    #[test]
    fn what_is_no_store_is_refused_and_not_shown() {
        for url in [
            "",
            "sqlite:",
            "sqlite:folder/",
            "sqlite://users.db",
            "sqlite::memory:",
            "sqlite:users.db?mode=ro",
            "mysql://root:hunter2@db/users",
            "users.db",
            "postgres://",
            "postgres:///users",
            "postgres://me:hunter2@db:port/users",
            "postgres://me:hunter2@db/users?sslmode=allow",
            "postgres://me:hunter2@db/users?sslrootcert=ca.pem",
            "postgres://me:hunter2@db/users?hunter2=1",
            "postgres://me:secret@hunter2@db/users",
        ] {
            let wrong = read(url).unwrap_err();
            assert!(!wrong.to_string().contains("hunter2"), "{url}");
        }
    }

    #[test]
    fn a_server_is_not_printed() {
        let place = read("postgres://portcullis:hunter2@db/portcullis").unwrap();
        assert_eq!(format!("{place:?}"), "Postgres(***)");
    }

    #[test]
    fn a_server_elsewhere_must_prove_who_it_is() {
        for (url, mode) in [
            ("postgres://me@db/users", SslMode::VerifyFull),
            (
                "postgres://me@db/users?sslmode=require",
                SslMode::VerifyFull,
            ),
            ("postgres://me@localhost,db/users", SslMode::VerifyFull),
            ("postgresql://me@db?sslmode=prefer", SslMode::Prefer),
            (
                "postgres://me@db?sslmode=disable&application_name=a",
                SslMode::Disable,
            ),
            ("postgres://me@localhost/users", SslMode::Prefer),
            ("postgres://me@[::1]:5433/users", SslMode::Prefer),
            ("postgres://me@%2Frun%2Fpostgresql/users", SslMode::Prefer),
            (
                "postgres://me@localhost/a?sslmode=verify-full",
                SslMode::VerifyFull,
            ),
        ] {
            let (_, found) = server(url).unwrap_or_else(|wrong| panic!("{url}: {wrong}"));
            assert_eq!(found, mode, "{url}");
        }
    }
}
