//! The access line of each request or stream, and the audit line of each refusal, to one sink. `line.rs`
//! prints them. The path is written without its query, because a query may hold a token.

use std::cell::RefCell;
use std::io::{self, Write};
use std::net::IpAddr;
use std::time::Duration;

use http::Version;

use super::Kind;
use super::event::Event;
use super::log::Format;
use super::writer::{Flush, Writer};
use crate::clock::Clock;

/// Where access and audit lines go. Cheap to clone; a clone may have other switches, so that a reload
/// turns lines on and off without touching the sink.
#[derive(Clone)]
pub struct Sink {
    writer: Writer,
    clock: Clock,
    switches: Switches,
}

/// Which lines are written, and how: `[log]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Switches {
    /// JSON or human; `Auto` stands for JSON here, see [`Format::resolve`].
    pub format: Format,
    /// Whether each request and stream gets its line.
    pub access: bool,
    /// Whether each refusal gets its line.
    pub audit: bool,
    /// Whether lines name e-mail addresses.
    pub email: bool,
}

/// Everything that a line tells. What is `None` is left out.
#[derive(Clone, Copy, Debug, Default)]
#[expect(missing_docs, reason = "each field is the line's member of that name")]
pub struct Line<'a> {
    pub request_id: &'a str,
    pub kind: Kind,
    /// The client's address, behind trusted proxies.
    pub client: Option<IpAddr>,
    pub protocol: Version,
    pub method: &'a str,
    pub host: Option<&'a str>,
    /// Anything from a `?` on is cut off.
    pub path: &'a str,
    pub route: Option<&'a str>,
    pub status: u16,
    pub auth: Auth,
    pub user_id: Option<&'a str>,
    /// Written only where the switch is on.
    pub email: Option<&'a str>,
    pub session_id: Option<&'a str>,
    pub issuer: Option<&'a str>,
    /// The job that the request was about, as its upstream calls it.
    pub job_id: Option<&'a str>,
    /// The word of the refusal.
    pub reason: Option<&'a str>,
    /// Bytes of the request's body.
    pub bytes_in: u64,
    /// Bytes of the answer's body.
    pub bytes_out: u64,
    pub duration: Duration,
    /// From the request to the upstream's first byte.
    pub upstream: Option<Duration>,
    pub endpoint: Option<&'a str>,
    /// Why a stream ended.
    pub end: Option<&'a str>,
}

/// What became of the credential.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Auth {
    /// It was not looked at: a public route, or a refusal before that.
    #[default]
    None,
    /// None came.
    Guest,
    /// A bad one came.
    InvalidToken,
    /// One came that could not be judged: keys or the store are away.
    Error,
    /// It was good.
    Authenticated,
}

impl Auth {
    /// The stable word.
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Guest => "guest",
            Self::InvalidToken => "invalid_token",
            Self::Error => "auth_error",
            Self::Authenticated => "authenticated",
        }
    }
}

impl Sink {
    /// Starts the sink of the process, with every line switched off. Keep the guard until the end.
    pub fn start(out: impl Write + Send + 'static) -> io::Result<(Self, Flush)> {
        let (writer, flush) = Writer::start("portcullis-access", out)?;
        let sink = Self {
            writer,
            clock: Clock::System,
            switches: Switches::default(),
        };
        Ok((sink, flush))
    }

    /// A sink that writes nowhere, for a gate that serves nobody.
    pub fn silent() -> Self {
        Self {
            writer: Writer::idle(),
            clock: Clock::System,
            switches: Switches::default(),
        }
    }

    /// The same sink with these switches.
    #[must_use]
    pub fn with(&self, switches: Switches) -> Self {
        Self {
            switches,
            ..self.clone()
        }
    }

    /// Whether access lines are written: a caller may spare itself the gathering.
    pub fn enabled(&self) -> bool {
        self.switches.access
    }

    /// Whether audit lines are written.
    pub fn audits(&self) -> bool {
        self.switches.audit
    }

    /// Writes the access line of a request or stream that has ended.
    pub fn write(&self, line: &Line<'_>) {
        if self.switches.access {
            self.put(line, None);
        }
    }

    /// Writes the audit line of a refusal.
    pub fn audit(&self, line: &Line<'_>) {
        if self.switches.audit {
            self.put(line, Some("refusal"));
        }
    }

    /// Writes the audit line of what happened to a user or a session.
    pub fn event(&self, event: &Event<'_>) {
        if !self.switches.audit {
            return;
        }
        let now = self.clock.since_epoch();
        self.render(|out, format| match format {
            Format::Json | Format::Auto => event.push_as_json(out, now),
            Format::Human => event.push_for_eyes(out, now),
        });
    }

    /// Lines that were dropped so far, because the sink stalled or failed.
    pub fn dropped(&self) -> u64 {
        self.writer.dropped()
    }

    fn put(&self, line: &Line<'_>, audit: Option<&str>) {
        let now = self.clock.since_epoch();
        let email = line.email.filter(|_| self.switches.email);
        let line = Line { email, ..*line };
        self.render(|out, format| match format {
            Format::Json | Format::Auto => line.push_as_json(out, now, audit),
            Format::Human => line.push_for_eyes(out, now, audit),
        });
    }

    fn render(&self, push: impl FnOnce(&mut String, Format)) {
        BUFFER.with_borrow_mut(|out| {
            out.clear();
            push(out, self.switches.format);
            out.push('\n');
            self.writer.push(out.as_bytes());
        });
    }
}

thread_local! {
    /// Each thread renders its lines here.
    static BUFFER: RefCell<String> = const { RefCell::new(String::new()) };
}

#[cfg(test)]
mod tests {
    use super::super::writer::tests::Memory;
    use super::*;

    fn written(switches: Switches, write: impl FnOnce(&Sink)) -> String {
        let memory = Memory::default();
        let (sink, flush) = Sink::start(memory.clone()).expect("a thread starts");
        let sink = Sink {
            clock: Clock::manual(1_234_567_890),
            ..sink.with(switches)
        };
        write(&sink);
        drop(flush);
        memory.text()
    }

    const ALL: Switches = Switches {
        format: Format::Json,
        access: true,
        audit: true,
        email: true,
    };

    fn line() -> Line<'static> {
        Line {
            request_id: "r1",
            kind: Kind::Sse,
            client: Some(IpAddr::from([192, 0, 2, 1])),
            protocol: Version::HTTP_11,
            method: "GET",
            host: Some("example.com"),
            path: "/a/b?token=secret",
            route: Some("app"),
            status: 200,
            auth: Auth::Authenticated,
            user_id: Some("u1"),
            email: Some("a@example.com"),
            session_id: None,
            issuer: Some("project"),
            job_id: None,
            reason: None,
            bytes_in: 1,
            bytes_out: 2,
            duration: Duration::from_micros(12_345),
            upstream: Some(Duration::from_micros(7)),
            endpoint: Some("127.0.0.1:8000"),
            end: Some("auth_expired"),
        }
    }

    #[test]
    fn a_json_line_tells_everything_but_the_query() {
        assert_eq!(
            written(ALL, |sink| sink.write(&line())),
            concat!(
                r#"{"time":"2009-02-13T23:31:30.000Z","kind":"sse","request_id":"r1","method":"GET","#,
                r#""host":"example.com","path":"/a/b","route":"app","auth":"authenticated","user_id":"u1","#,
                r#""email":"a@example.com","issuer":"project","endpoint":"127.0.0.1:8000","end":"auth_expired","#,
                r#""protocol":"HTTP/1.1","client":"192.0.2.1","status":200,"bytes_in":1,"bytes_out":2,"#,
                r#""duration_ms":12.345,"upstream_ms":0.007}"#,
                "\n"
            )
        );
    }

    #[test]
    fn an_audit_line_says_so_and_names_the_reason() {
        let refused = Line {
            reason: Some("token_expired"),
            ..line()
        };
        let text = written(ALL, |sink| sink.audit(&refused));
        assert!(text.contains(r#""audit":"refusal""#), "{text}");
        assert!(text.contains(r#""reason":"token_expired""#), "{text}");
    }

    #[test]
    fn switches_keep_lines_and_addresses_out() {
        let none = Switches::default();
        assert_eq!(written(none, |sink| sink.write(&line())), "");
        assert_eq!(written(none, |sink| sink.audit(&line())), "");
        let no_email = Switches {
            email: false,
            ..ALL
        };
        assert!(!written(no_email, |sink| sink.write(&line())).contains("example.com\",\"issuer"));
    }

    #[test]
    fn what_a_client_sends_can_not_begin_a_line_in_either_format() {
        let evil = "/x\r\n{\"time\":\"forged\"}\u{1b}[2J\u{2028}";
        for format in [Format::Json, Format::Human] {
            let forged = Line {
                path: evil,
                user_id: Some(evil),
                host: Some(evil),
                method: evil,
                ..line()
            };
            let text = written(Switches { format, ..ALL }, |sink| sink.write(&forged));
            let body = text.strip_suffix('\n').expect("a line ends");
            assert!(!body.chars().any(char::is_control), "{text:?}");
            if format == Format::Json {
                let value: serde_json::Value = serde_json::from_str(body).expect("valid JSON");
                assert_eq!(value["path"], evil);
            }
        }
    }

    #[test]
    fn a_long_path_is_clipped() {
        let path = "/".repeat(16 * 1024);
        let long = Line {
            path: &path,
            ..line()
        };
        assert!(written(ALL, |sink| sink.write(&long)).len() < 4096);
    }
}
